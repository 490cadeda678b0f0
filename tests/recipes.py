"""The blocks of Python in docs/compare.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

__all__ = ["PAGE", "blocks", "read"]

PAGE = Path(__file__).parents[1] / "docs/compare.md"


def blocks() -> dict[str, list[str]]:
    """Return the blocks under each heading that has some."""
    found: dict[str, list[str]] = {}
    heading = ""
    for part in re.finditer(r"^#+ (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```$", PAGE.read_text(), re.M | re.S):
        heading = part["heading"] or heading
        if part["code"]:
            found.setdefault(heading, []).append(part["code"])
    return found


def read(*headings: str) -> dict[str, Any]:
    """Run the blocks under these headings, one after another, and return what they define."""
    defined: dict[str, Any] = {"__name__": "recipes"}
    for heading in headings:
        for code in blocks()[heading]:
            exec(compile(code, str(PAGE), "exec"), defined)
    return defined
