"""How far the tangent kernel has moved between two linearizations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from steepest._check import instance
from steepest.errors import InvalidArgument
from steepest.linearize._linearization import Linearization

__all__ = ["LinearizationChange", "compare_linearizations"]

_LAZY, _FEATURE_LEARNING = 0.1, 0.5


@dataclass(frozen=True)
class LinearizationChange:
    """The change between two linearizations of one model at the same examples.

    Attributes:
        kernel_alignment: <K0, K1> / (||K0||_F ||K1||_F), 1 where they are proportional.
        kernel_change: ||K1 - K0||_F / ||K0||_F.
        subspace_overlap: The mean squared cosine of the principal angles between the first k left singular vectors.
        parameter_change: ||theta1 - theta0||_2 / ||theta0||_2.
        k: The number of directions compared.

    Source: Chizat et al., "On lazy training in differentiable programming" (2019, arXiv:1812.07956); Fort et al., "Deep
    learning versus kernel learning" (2020, arXiv:2010.15110).
    """

    kernel_alignment: float
    kernel_change: float
    subspace_overlap: float
    parameter_change: float
    k: int

    @property
    def regime(self) -> Literal["lazy", "between", "feature learning"]:
        """Lazy below a kernel change of 0.1, feature learning above 0.5: conventions, not laws."""
        if self.kernel_change < _LAZY:
            return "lazy"
        return "feature learning" if self.kernel_change > _FEATURE_LEARNING else "between"


def compare_linearizations(before: Linearization, after: Linearization, k: int | None = None) -> LinearizationChange:
    """Return how far the kernel moved from one linearization to another.

    Args:
        before: The first linearization, for example at initialisation.
        after: The second linearization, for example after training, at the same examples and of the same parameters.
        k: The number of directions that span the compared subspaces; None for 10, or the smaller rank.

    Raises:
        InvalidArgument: If the two have different examples or parameters, or k exceeds a rank.
    """
    for name, lin in (("before", before), ("after", after)):
        instance(name, lin, Linearization, "a Linearization")
    shapes = [{name: p.shape for name, p in lin.parameters().items()} for lin in (before, after)]
    own, others = before.inputs(), after.inputs()
    same = len(own) == len(others) and all(
        a.shape == b.shape and torch.equal(a.double(), b.double().to(a.device))
        for a, b in zip(own, others, strict=True)
    )
    if before.shape != after.shape or shapes[0] != shapes[1] or not same:
        raise InvalidArgument(
            "before and after must be linearizations at the same examples and parameters",
            got=(before.shape, after.shape),
            remedy="Make both with the same model and x.",
        )
    first, second = (lin.kernel(dtype=torch.float64) for lin in (before, after))
    norms = float(first.norm()), float(second.norm())
    wanted = min(10, *before.shape) if k is None else k
    svds = before.svd(wanted), after.svd(wanted)
    count = min(10, svds[0].rank, svds[1].rank) if k is None else k
    for svd in svds:
        svd.require(max(count, 1))
    overlap = svds[0].left[:, :count].T @ svds[1].left[:, :count]
    start, end = before.parameters(), after.parameters()
    moved = sum(float((end[name].to(p) - p).double().square().sum()) for name, p in start.items())
    size = sum(float(p.double().square().sum()) for p in start.values())
    return LinearizationChange(
        kernel_alignment=float((first * second).sum()) / (norms[0] * norms[1]) if all(norms) else 0.0,
        kernel_change=float((second - first).norm()) / norms[0] if norms[0] else float("inf"),
        subspace_overlap=float(overlap.square().sum()) / count if count else 0.0,
        parameter_change=(moved / size) ** 0.5 if size else float("inf"),
        k=count,
    )
