"""Equations as docstrings have them, in plain characters, as TeX: `||g||_* = max { <g, d> : ||d|| <= 1 }`.

Rows are rows; two or more spaces in a row begin a new column.
"""

from __future__ import annotations

import re

__all__ = ["is_equation", "tex"]

GREEK = {"alpha", "beta", "gamma", "delta", "eta", "theta", "lambda", "mu", "sigma", "tau", "phi", "psi", "rho"}
OPERATORS = {
    "max": r"\max",
    "min": r"\min",
    "log": r"\log",
    "exp": r"\exp",
    "sqrt": r"\sqrt",
    "sum": r"\sum",
    "argmin": r"\operatorname*{arg\,min}",
    "argmax": r"\operatorname*{arg\,max}",
}
SIGNS = {
    "<-": r"\leftarrow ",
    "->": r"\to ",
    "<=": r"\le ",
    ">=": r"\ge ",
    "*": r"\cdot ",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "'": r"^\top ",
}
TOKEN = re.compile(
    r"(?P<bars>\|\|)|(?P<inner><(?=[^<>=-][^<>]*,[^<>]*>))|(?P<name>[A-Za-z]+\d*(?:_[A-Za-z]{2,})*)|(?P<number>\d*\.?\d+)|"
    r"(?P<power>\^-?\w+)|(?P<index>_(?:\*|\w+))|(?P<sign><-|->|<=|>=|.)"
)


def is_equation(block: str) -> bool:
    """Return whether an indented block is mathematics rather than code or a table."""
    return not re.search(r"^\s*(>>>|[a-z.]+ = \w+\(|for |import |with |\w+\.\w+\()", block, re.MULTILINE) and bool(
        re.search(r"<[^<>=]+,[^<>]*>|\|\||\^|\(.*\)|[_/]", block)
    )


def tex(block: str) -> str:
    r"""Return a block of plain equations as TeX.

    >>> tex("u = -lr ||v||_* d(v)")
    'u = -\\mathrm{lr}\\,\\lVert v\\rVert_{*} d(v)'
    """
    rows = [[_line(cell) for cell in re.split(r" {2,}", line.strip())] for line in block.strip().split("\n")]
    if len(rows) == 1:
        return r"\qquad ".join(rows[0])
    body = r" \\ ".join(" & ".join(row) for row in rows)
    return rf"\begin{{array}}{{{'l' * max(map(len, rows))}}} {body} \end{{array}}"


def _line(text: str) -> str:
    """Set one line, by its tokens."""
    out: list[str] = []
    previous = ""
    opened = False  # a norm that waits for its second pair of bars
    ends: list[str] = []  # how the open parentheses end
    for match in TOKEN.finditer(text):
        kind, token = str(match.lastgroup), match[0]
        spaced = text[: match.start()].endswith(" ")
        starts = kind in ("name", "number", "inner") or token == "(" or (kind == "bars" and not opened)
        if spaced and starts and (previous[-1:].isalnum() or previous in (")", "||", "⟩")):
            both_words = kind == "name" and (len(token) > 1 or len(previous) > 1) and previous[0].isalpha()
            out.append(r"\ " if both_words else r"\,")
        if kind == "bars":
            opened = not opened
            out.append(r"\lVert " if opened else r"\rVert ")
        elif kind == "inner":
            ends.append(r"\rangle ")
            out.append(r"\langle ")
        elif kind == "name":
            out.append(_name(token))
        elif kind in ("index", "power"):
            inner = token[1:]
            out.append(f"{token[0]}{{{_name(inner) if inner.isalpha() else inner}}}")
        elif token == "(":
            root = previous == "sqrt"
            ends.append("}" if root else ")")
            out.append("{" if root else "(")
        elif (token == ")" or (token == ">" and ends and "rangle" in ends[-1])) and ends:
            out.append(ends.pop())
        elif token != " ":
            out.append(SIGNS.get(token, token))
        if token != " ":
            previous = "⟩" if out[-1] == r"\rangle " else token
    return "".join(out)


def _name(name: str) -> str:
    if name in OPERATORS:
        return OPERATORS[name] + ("" if name == "sqrt" else " ")
    stem = name.rstrip("0123456789")
    if stem != name:  # theta0
        return f"{_name(stem)}_{{{name[len(stem) :]}}}"
    if name == "eps":
        return r"\epsilon "
    if name in GREEK:
        return rf"\{name} "
    words = name.replace("_", r"\_")
    return name if len(name) == 1 else rf"\mathrm{{{words}}}"
