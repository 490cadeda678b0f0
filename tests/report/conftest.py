"""A browser, and pages opened in it."""

from __future__ import annotations

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="session")
def browser():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    arguments = ["--disable-gpu", "--disable-background-networking", "--no-first-run"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # Chromium's sandbox refuses root
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        # With no browser on the path, the one that `make test` had Playwright install.
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_file(browser):
    """Open a page from disk; fail if it complains or asks the network for anything."""
    contexts, trouble = [], []

    def open_with(path, **options):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:", "blob:")) or trouble.append(request.url),
        )
        page.goto(path.as_uri())
        page.locator(".main-svg").first.wait_for(state="attached")
        return page

    yield open_with
    for context in contexts:
        context.close()
    assert trouble == []
