"""What reasons say and cite."""

from __future__ import annotations

import functools
import re

import torch

from steepest import implicit_bias, optim
from steepest.implicit_bias import Entropy, Hypentropy, PNorm
from steepest.norms import L1, LInf, Lp


def _reasons() -> list[str]:
    """Return what is said of every rule on problems of every kind."""
    rules = [
        *implicit_bias.RULES.values(),
        implicit_bias.GradientDescent(batch_size=1),
        implicit_bias.GradientDescent(momentum=0.5, nesterov=True),
        implicit_bias.MirrorDescent(PNorm(3), momentum=0.5),
        implicit_bias.MirrorDescent(Entropy(), batch_size=1),
        implicit_bias.MirrorDescent(Hypentropy(0.1)),
        implicit_bias.NormSteepest(LInf(), "constrained"),
        implicit_bias.NormSteepest(Lp(3.0)),
        implicit_bias.SignDescent(batch_size=1),
        torch.optim.LBFGS,
        functools.partial(optim.SignDescent, lr=0.1, mode="constrained"),
        functools.partial(optim.SignDescent, lr=0.1, momentum=0.5),
        functools.partial(optim.SteepestDescent, norm=L1(), lr=0.1),
        functools.partial(optim.EpochAdam, lr=0.1),
    ]
    one, several, square = [[1.0, 0.5, 0.2]], [[1.0, 0.5, 0.2], [0.3, -1.0, 0.1]], [[1.0, 0.5], [0.3, -1.0]]
    problems = [(one, [1.0]), (several, [1.0, -1.0]), (square, [1.0, -1.0]), (square + square, [1.0, -1.0, 1.0, 1.0])]
    return [
        implicit_bias.predict(rule, A, b, [0.5] * len(A[0]), loss).reason
        for rule in rules
        for A, b in problems
        for loss in ("squared", "logistic", "exponential")
    ]


def test_reasons_cite_what_can_be_opened_and_no_page_of_this_project():
    reasons = _reasons()
    for reason in reasons:
        assert not re.search(r"docs/|\.md\b|\bland(s|ing)?\b", reason), reason
        # A course and a paper of 1914 have no number.
        cited = reason.replace("Fall 2025, homework", "").replace("Kakeya 1914", "")
        for year in re.finditer(r"\b(19|20)\d\d, ", cited):
            assert re.match(r"[^;)]*?(arXiv:\d{4}\.\d{4,5}|doi:10\.\d+/)", cited[year.end() :]), reason
        assert not re.search(r"\b(19|20)\d\d\b(?!,)", re.sub(r"(arXiv|doi):\S+", "", cited)), reason
    ids = {found for reason in reasons for found in re.findall(r"arXiv:\d{4}\.\d+|doi:[^);, ]+", reason)}
    assert len(ids) >= 10
