"""How the site of the docs reads docstrings: as they are, with equations set and names linked."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

SITE = Path(__file__).parents[1] / "docs/_site"


@pytest.fixture
def site(monkeypatch):
    """Import a file of the site by its name."""
    monkeypatch.syspath_prepend(SITE)
    yield importlib.import_module
    for name in ("docstrings", "equations", "names"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ("||g||_* <= 1", r"\lVert g\rVert _{*}\le 1"),
        ("<v, u> + ||u||^2 / (2 lr)", r"\langle v,u\rangle +\lVert u\rVert ^{2}/(2\,\mathrm{lr})"),
        ("theta <- theta0 - lr_decay D^-1 g", r"\theta \leftarrow \theta _{0}-\mathrm{lr\_decay}\ D^{-1}\,g"),
        ("sqrt(v / (1 - beta2^t)) + eps", r"\sqrt{v/(1-\beta _{2}^{t})}+\epsilon "),
        ("a > b, max {<g, d> : c}", r"a>b,\max \{\langle g,d\rangle :c\}"),
        ("u = the mean of x", r"u=\mathrm{the}\ \mathrm{mean}\ \mathrm{of}\ x"),
    ],
)
def test_an_equation_in_plain_characters_becomes_tex(site, plain, expected):
    assert site("equations").tex(plain) == expected


def test_rows_stay_rows_and_wide_gaps_part_columns(site):
    block = "    squared:   x^2,   one\n    linear:    x"
    columns = r"\mathrm{squared}: & x^{2}, & \mathrm{one} \\ \mathrm{linear}: & x"
    assert site("equations").tex(block) == rf"\begin{{array}}{{lll}} {columns} \end{{array}}"


@pytest.mark.parametrize(
    "block", ["    >>> f(x)", "    monitor.record(step, loss)", "    for x in y_z:", "    text only"]
)
def test_code_and_text_are_no_equations(site, block):
    assert not site("equations").is_equation(block)


def test_a_docstring_keeps_what_markdown_would_take_for_its_own(site):
    text = "Return <v, u> of `a <= b_*` where ||u||_* <= x*_0 for List[int].\n\n    u = lr ||v||_*\n\nArgs:\n    x: A."
    assert site("docstrings").prepared(text) == (
        "Return ⟨v, u⟩ of `a <= b_*` where ‖u‖\\_\\* ≤ x\\*\\_0 for List\\[int\\].\n\n"
        "$$\nu=\\mathrm{lr}\\,\\lVert v\\rVert _{*}\n$$\n\nArgs:\n    x: A."
    )


def test_an_example_is_one_block_of_code(site):
    assert site("docstrings").prepared("One.\n\n>>> x = 1\n>>> x\n1") == "One.\n\n```pycon\n>>> x = 1\n>>> x\n1\n```"


@pytest.mark.parametrize(
    ("text", "package", "expected"),
    [
        ("`Spectral` and `Lp(p)`", "", "[`Spectral`][steepest.norms.Spectral] and [`Lp(p)`][steepest.norms.Lp]"),
        ("`steepest.optim`", "", "[`steepest.optim`][steepest.optim]"),
        ("`steepest.optim.Muon`", "", "[`steepest.optim.Muon`][steepest.optim.Muon]"),
        ("`steepest.optim.absent`", "", "`steepest.optim.absent`"),
        ("`SignDescent`", "optim", "[`SignDescent`][steepest.optim.SignDescent]"),
        ("`SignDescent`, which two packages have", "norms", "`SignDescent`, which two packages have"),
        ("`train` may be a Dataset", "tasks", "`train` may be a Dataset"),
        ("# `Muon`\n```\n`Muon`\n```\n[`Muon`](x)", "", "# `Muon`\n```\n`Muon`\n```\n[`Muon`](x)"),
    ],
)
def test_a_public_name_is_linked_where_it_is_clear_which(site, text, package, expected):
    assert site("names").linked(text, package) == expected
