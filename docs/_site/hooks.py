"""What mkdocs does here beside rendering Markdown: pages made from other files, links, and equations.

The start page is the README, so that there is one text to keep true. The reference has one page per public package,
with the names of its `__all__`. Links go where they go in the repository. Equations become MathML while the site is
built: browsers draw it themselves, without a script. A page that would fetch anything from elsewhere ends the build.
"""

from __future__ import annotations

import ast
import html
import importlib.util
import posixpath
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from math_core import LatexToMathML
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from names import exported, linked, module_of

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/steepest"
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
EQUATION = re.compile(r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', re.DOTALL)
ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\ssrc=["']?(?:https?:)?//[^>]*|"""
    r"""<link\b(?![^>]*rel=["']?(?:canonical|prev|next))[^>]*href=["']?(?:https?:)?//[^>]*|"""
    r"""url\(["']?(?:https?:)?//[^)]*"""
)
TEX = LatexToMathML(annotation=True)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages that are made here into the navigation."""
    for section in config.nav:
        (title,) = section
        if title in ("Reference", "Examples", "Measured"):
            section[title] += [path for path in _made() if path.startswith(_folder(title)) and "index" not in path]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files, each named by what it is made from."""
    for path, text in _made().items():
        files.append(File.generated(config, path, content=text))
    # The one font that the site brings: a reader may have none with the signs of mathematics.
    font = Path(str(importlib.util.find_spec("ziamath").origin)).parent / "fonts/STIXTwoMath-Regular.ttf"
    files.append(File.generated(config, "_site/STIXTwoMath-Regular.ttf", abs_src_path=str(font)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Lead links where they go in the repository, and names to the reference."""
    here = page.file.src_uri
    origin = next((source for source, made in _places().items() if made == here and "." in source), f"docs/{here}")

    def there(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), match[1]))
        place = _places().get(target, target.removeprefix("docs/"))
        return posixpath.relpath(place, posixpath.dirname(here) or ".") + (match[2] or "")

    if here in ("index.md", "changelog.md", "contributing.md"):
        page.meta["hide"] = ["navigation"]
    package = posixpath.basename(here).removesuffix(".md")
    return linked(LINK.sub(there, markdown), package)


def on_page_content(content: str, **_: object) -> str:
    """Render the equations; a mistake in one of them ends the build."""

    def rendered(match: re.Match[str]) -> str:
        display = match[1] == "div"
        return TEX.convert_with_local_state(html.unescape(match[2]).strip(), displaystyle=display)

    return EQUATION.sub(rendered, content)


def on_post_build(config: MkDocsConfig) -> None:
    """Make sure that opening a page fetches nothing from elsewhere."""
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix in (".html", ".css"):
            found = ELSEWHERE.search(path.read_text("utf-8"))
            if found:
                raise PluginError(f"{path} would fetch {found[0]}")


def _folder(title: str) -> str:
    return {"Reference": "reference/", "Examples": "examples/", "Measured": "benchmarks/"}[title]


def _places() -> dict[str, str]:
    """Where a file of the repository is on the site."""
    return {
        **PAGES,
        "examples": "examples/index.md",
        "benchmarks/results": "benchmarks/index.md",
        **{str(path.relative_to(ROOT)): f"examples/{path.stem}.md" for path in sorted(ROOT.glob("examples/*.py"))},
        **{
            str(path.relative_to(ROOT)): f"benchmarks/{path.name}"
            for path in sorted(ROOT.glob("benchmarks/results/*.md"))
        },
    }


def _made() -> dict[str, str]:
    """The pages made from other files: path and Markdown."""
    pages = {made: (ROOT / source).read_text("utf-8") for source, made in PAGES.items()}
    said = {name: ast.get_docstring(ast.parse(_source(name).read_text("utf-8"))) or "" for name in exported()}
    pages |= {f"reference/{name}.md": _reference(name) for name in said}
    pages["reference/index.md"] = "# Reference\n\n" + _list(
        (f"steepest.{name}", f"{name}.md", text) for name, text in said.items()
    )
    examples = {path.stem: path.read_text("utf-8") for path in sorted(ROOT.glob("examples/*.py"))}
    pages |= {
        f"examples/{name}.md": f"# {name}.py\n\n````python\n{text.rstrip()}\n````\n" for name, text in examples.items()
    }
    pages["examples/index.md"] = "# Examples\n\nEach is one file that can be copied and run.\n\n" + _list(
        (f"{name}.py", f"{name}.md", ast.get_docstring(ast.parse(text)) or "") for name, text in examples.items()
    )
    tables = {path.name: path.read_text("utf-8") for path in sorted(ROOT.glob("benchmarks/results/*.md"))}
    pages |= {f"benchmarks/{name}": text for name, text in tables.items()}
    pages["benchmarks/index.md"] = "# Measured\n\n`make bench` writes these tables.\n\n" + _list(
        (text.split("\n")[0].strip("# "), name, "") for name, text in tables.items()
    )
    return pages


def _list(entries: Iterable[tuple[str, str, str]]) -> str:
    lines = []
    for title, path, text in entries:
        first = text.split("\n\n")[0].replace("\n", " ")
        lines.append(f"- [{title}]({path})" + (f": {first}" if first else ""))
    return "\n".join(lines) + "\n"


def _source(package: str) -> Path:
    folder = SOURCE / package
    return module_of(folder if folder.is_dir() else folder.with_suffix(".py"))


def _reference(package: str) -> str:
    names = "\n".join(f"::: steepest.{package}.{name}\n" for name in exported()[package])
    options = "{heading_level: 1, members: [], show_root_full_path: true, show_source: false}"
    return f"---\ntitle: steepest.{package}\n---\n\n::: steepest.{package}\n    options: {options}\n\n{names}"
