"""The Kullback-Leibler divergence as a distance of probability vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._check import floating
from steepest._shapes import Float
from steepest.errors import InvalidArgument
from steepest.norms._by_value import ByValue
from steepest.norms._norm import Distance
from steepest.norms._points import check_shapes, check_tensor

__all__ = ["KullbackLeibler"]


@dataclass(frozen=True, eq=False)
class KullbackLeibler(ByValue, Distance[Tensor]):
    """Divergence of the new point q = p + u from `point` p: d(u) = sum q_i log(q_i / p_i), infinite off the simplex.

    Its step leads to q_i = p_i exp(-alpha g_i) / Z, exponentiated gradient; the minimum is -<g, p> - log(Z) / alpha.

    Args:
        point: p, entries >= 0 with the sum 1; it is copied.

    Raises:
        InvalidArgument: If it is not on the simplex; in a step, if the gradient has another shape.

    >>> from steepest.norms import penalized_step
    >>> penalized_step(KullbackLeibler(torch.tensor([0.5, 0.5])), torch.tensor([0.0, 1.0]), alpha=1.0)
    tensor([ 0.2311, -0.2311])

    Source: Kivinen and Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear Predictors" (1997,
    doi:10.1006/inco.1996.2612).
    """

    point: Float[Tensor, "*shape"]

    def __post_init__(self) -> None:
        p = floating("point", self.point).detach().double()
        if not p.numel() or not bool((p >= 0).all()) or not abs(float(p.sum()) - 1) <= _slack(self.point):
            raise InvalidArgument(
                "point must lie on the simplex: entries >= 0 with the sum 1",
                got=f"a sum of {float(p.sum())} and a smallest entry of {float(p.min()) if p.numel() else None}",
                remedy="Try torch.softmax, or divide by the sum.",
            )
        object.__setattr__(self, "point", self.point.detach().clone())

    def distance(self, u: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return sum q log(q / p), infinite off the simplex; the rounding of the point's dtype counts as on it."""
        p = self._normalized_point(u)
        return torch.where(self._is_on_simplex(p, u), _divergence(p, u.double()), torch.inf).to(u.dtype)

    def penalized_step(self, g: Float[Tensor, "*shape"], alpha: float | Tensor) -> Float[Tensor, "*shape"]:
        """Return q - p."""
        p = self._normalized_point(g)
        return (p * _change(p, g, alpha)).to(g.dtype)

    def duality_gap(self, g: Float[Tensor, "*shape"], step: Float[Tensor, "*shape"], alpha: float) -> Tensor:
        """Return (<g, u> + d(u)/alpha - minimum) / |minimum|, the divergence from the best of p + u over that of p."""
        check_shapes(g, step)
        p = self._normalized_point(g)
        best_step = p * _change(p, g, alpha)
        best = p + best_step
        missed = torch.where(self._is_on_simplex(p, step), _divergence(best, step.double() - best_step), torch.inf)
        size = _divergence(best, -best_step)
        at_zero = torch.where((step.abs() <= _slack(self.point)).all(), 0.0, torch.inf).to(missed.dtype)
        # Compared with ==, so that a NaN is never certified.
        return torch.where(size == 0, at_zero, missed / size)

    def _is_on_simplex(self, p: Tensor, u: Tensor) -> Tensor:
        u, slack = u.double(), _slack(self.point)
        return (p + u >= -slack).all() & (u.sum().abs() <= slack) & ((p > 0) | (u.abs() <= slack)).all()

    def _normalized_point(self, like: Tensor) -> Tensor:
        """Return the point in float64, its sum 1 to that precision."""
        check_tensor(like)
        if like.shape != self.point.shape:
            raise InvalidArgument(
                f"gradient and step must have the point's shape, {tuple(self.point.shape)}",
                got=f"shape {tuple(like.shape)}",
                remedy="Give each tensor a KullbackLeibler of its own.",
            )
        p = self.point.to(like.device).double()
        return p / p.sum()


def _change(p: Tensor, g: Tensor, alpha: float | Tensor) -> Tensor:
    """Return q / p - 1 of the minimiser q = p exp(-alpha g) / Z, exact also where it is tiny."""
    x = -alpha * g.double()
    x = x - torch.where(p > 0, x, -torch.inf).amax()
    # In logarithms no entry leaves the range; where the x are close to each other, the second way rounds nothing away.
    log_z = torch.where(
        (x >= -0.5).logical_or(p == 0).all(),
        torch.log1p((p * torch.expm1(x)).where(p > 0, 0.0).sum()),
        torch.logsumexp((p.log() + x).flatten(), dim=0),
    )
    return torch.expm1(x - log_z).where(p > 0, 0.0)


def _slack(x: Tensor) -> float:
    """Return how far rounding may move a point off the simplex."""
    return 8 * torch.finfo(x.dtype).eps * max(1, x.numel()) ** 0.5


def _divergence(p: Tensor, u: Tensor) -> Tensor:
    """Return sum q log(q/p) - q + p for q = p + u, every term p ((1 + d) log(1 + d) - d) >= 0 with d = u / p >= -1."""
    d = torch.where(p > 0, u / p, 0.0).clamp_min(-1)
    terms = p * (torch.xlogy(1 + d, 1 + d).where(d.abs() > 0.5, (1 + d) * torch.log1p(d)) - d)
    return terms.clamp_min(0).sum()
