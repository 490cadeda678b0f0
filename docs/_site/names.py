"""Public names in backticks become links to where the reference explains them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

__all__ = ["exported", "linked", "module_of"]

SOURCE = Path(__file__).parents[2] / "src/steepest"
PARTS = re.compile(r"(^```.*?^```|^#.*?$|\[[^\]]*\]\([^)]*\)|``.*?``|`[^`\n]+`)", re.DOTALL | re.MULTILINE)


def module_of(path: Path) -> Path:
    """Return the file in which a package or module says what is public."""
    return path / "__init__.py" if path.is_dir() else path


@cache
def exported() -> dict[str, list[str]]:
    """Return the public names of every public package."""
    found = {}
    for path in sorted(SOURCE.glob("[a-z]*")):
        if path.stem == "cli" or not module_of(path).exists() or module_of(path).suffix != ".py":
            continue
        for node in ast.parse(module_of(path).read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found[path.stem] = ast.literal_eval(node.value)
    return found


def linked(markdown: str, package: str = "") -> str:
    """Link every public name; of a name in several packages the one of `package`, or none."""
    parts = PARTS.split(markdown)
    return "".join(_link(part, package) if i % 2 else part for i, part in enumerate(parts))


def _link(part: str, package: str) -> str:
    if part.count("`") != 2 or not part.startswith("`"):
        return part
    name = part.strip("`").partition("(")[0]
    root, _, rest = name.partition(".")
    home, _, inner = rest.partition(".")
    if root == "steepest" and home in exported() and (not inner or inner in exported()[home]):
        return f"[{part}][{name}]"
    homes = [home for home, names in exported().items() if name in names]
    if package not in homes and name.islower() and "_" not in name:
        return part  # a word that means something else elsewhere: `train` is an argument of Task, too
    home = package if package in homes else homes[0] if len(homes) == 1 else None
    return f"[{part}][steepest.{home}.{name}]" if home else part
