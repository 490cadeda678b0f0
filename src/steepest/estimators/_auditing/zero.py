"""Gradients that are identically zero, as those of a quantised objective."""

from __future__ import annotations

import torch
from torch import Tensor

from steepest.errors import InvalidArgument
from steepest.estimators._auditing.repetitions import flat
from steepest.estimators._auditing.site import Subject
from steepest.estimators._auditing.slopes import slopes
from steepest.estimators._auditing.watched import Watched

__all__ = ["everywhere", "no_graph", "without_graph"]

POINTS = 8


def without_graph(subject: Subject, row: Tensor) -> bool:
    """Return whether the values of f have no gradient for autograd."""
    return slopes(subject.objective, subject.exact, row[None].to(subject.exact.flat.dtype)) is None


def no_graph(subject: Subject) -> str:
    """Return what is said of an objective without a graph."""
    return (
        "The values of f do not depend on x by operations that autograd can differentiate, so that there is nothing to "
        f"propagate back. {_instead(subject)}"
    )


def everywhere(subject: Subject, row: Tensor) -> str:
    """Return why an estimator that gives zero at x gives zero at all points around it; nothing if it does not."""
    scale = subject.scale(row)
    rows = torch.cat([subject.around(row, POINTS // 4, scale * factor) for factor in (0.03, 0.3, 1.0, 3.0)])
    values = subject.values(torch.cat([row[None], rows]))
    if bool((values == values[0]).all()):
        return ""
    watched = Watched(subject.objective, subject.space)
    for each in rows:
        try:
            found = subject.source(
                watched.objective, subject.space.point(each.to(subject.space.flat.dtype)), subject.generator
            )
        except InvalidArgument:
            continue
        if bool(flat(found.gradient).any()):
            return ""
    if without_graph(subject, row):
        return no_graph(subject)
    at = torch.cat([row[None], rows]).to(subject.exact.flat.dtype)
    graph = slopes(subject.objective, subject.exact, at)
    if graph is not None and not bool(graph[1].any()):
        return (
            "The values of f differ from point to point, but its derivative is zero wherever it exists: f is piecewise "
            f"constant, and a derivative does not see its jumps. {_instead(subject)}"
        )
    return (
        "All estimates are zero, at all points that were tried, although the values of f differ from point to point. "
        f"{_instead(subject)}"
    )


def _instead(subject: Subject) -> str:
    sigma = subject.claim.sigma or 0.3
    return (
        f"Use ScoreFunction(sigma={sigma:g}, samples=50), which estimates the gradient of E f(x + sigma e) from values "
        "alone."
    )
