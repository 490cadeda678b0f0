"""Docstrings as pages show them: their plain text kept as it is, their displayed equations set."""

from __future__ import annotations

import re

from equations import is_equation, tex

CODE = re.compile(r"(``.*?``|`[^`]*`)", re.DOTALL)
SIGNS = {"<=": "≤", ">=": "≥", "<-": "←", "->": "→", "||": "‖", "^2": "²", "^-1": "⁻¹"}
SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):")
LISTED = re.compile(r"^(\s*[-*] )")


def prepared(text: str) -> str:
    """Return a docstring as Markdown: equations as TeX, examples as code, all else that is not code taken literally."""
    done: list[str] = []
    in_head = True  # indented blocks in sections are continued text
    for block in re.split(r"\n[ ]*\n", text):
        in_head = in_head and not SECTION.match(block)
        if block.startswith(">>> "):
            done.append(f"```pycon\n{block}\n```")
        elif in_head and done and all(line.startswith("    ") for line in block.split("\n")):
            done.append(f"$$\n{tex(block)}\n$$" if is_equation(block) else block)
        else:
            done.append(literal(block))
    return "\n\n".join(done)


def literal(text: str) -> str:
    """Escape what Markdown would take for its own, outside of code."""
    parts = CODE.split(text)
    return "".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    lines = []
    for line in text.split("\n"):
        # The names of arguments come before the colon as they are written.
        named = re.match(r"^ {4}\*{0,2}[\w, *]+(\([^)]*\))?: ", line)
        start = named.end() if named else (LISTED.match(line) or re.match("", line)).end()
        body = re.sub(r"<(?=[^<>=-][^<>]*,[^<>]*>)([^<>]*)>", r"⟨\1⟩", line[start:])
        for plain, sign in SIGNS.items():
            body = body.replace(plain, sign)
        body = re.sub(r"([\\*_\[\]$])", r"\\\1", body).replace("<", "&lt;")
        lines.append(line[:start] + body)
    return "\n".join(lines)
