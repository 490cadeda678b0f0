"""The check by a random probe: J' u by factors against one plain backward pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from steepest.errors import InvalidArgument, SteepestError
from steepest.linearize._factorize import Factored, Structure, factorize, tolerance
from steepest.linearize._outputs import Inputs, Network, take
from steepest.linearize._products import rmatvec

__all__ = ["LinearizationMismatch", "is_coupled", "is_divisible", "probe"]


class LinearizationMismatch(SteepestError, ArithmeticError):  # noqa: N818
    """A rule and plain automatic differentiation disagree on a gradient."""


def probe(network: Network, inputs: Inputs, found: Factored, structure: Structure) -> tuple[Factored, Structure]:
    """Return the factors once J' u agrees with autograd's, parameter by parameter, for a random u.

    A wrong entry of J changes J' u for almost every u (Freivalds 1977). Where the factors disagree, the structure is
    determined anew, as what was found on other examples need not hold for these; then the vectorised general path is
    replaced by backward passes, and these by backward passes over the whole batch.

    Raises:
        LinearizationMismatch: If they still disagree.
        InvalidArgument: If the outputs are random, or not differentiable.
    """
    truth = _by_autograd(network, inputs)
    wrong = _disagreement(found, truth)
    if wrong is None:
        return found, structure
    attempts: list[Structure | None] = [None]
    if structure.by == "vmap" and structure.general:
        attempts.append(replace(structure, reusable=False, by="backward"))
    for attempt in attempts:
        other, changed = factorize(network, inputs, attempt)
        if _disagreement(other, truth) is None:
            return other, changed
    if not network.coupled and len(inputs[0]) > 1:
        network.coupled = True
        other, changed = factorize(network, inputs, replace(structure, reusable=False, by="backward"))
        if _disagreement(other, truth) is None:
            return other, changed
    name, error = wrong
    raise LinearizationMismatch(
        f"the gradient of {name} ({structure.kind(name)}) must agree with plain autograd",
        got=f"a relative error of {error:.2g}",
        remedy="This is a defect of steepest; check=False skips the check, at your risk.",
    )


class _Truth(NamedTuple):
    """What plain autograd says: the outputs, a random u, and J' u by parameter, flat."""

    values: Tensor
    u: Tensor
    gradients: dict[str, Tensor]


def _by_autograd(network: Network, inputs: Inputs) -> _Truth:
    with network.quiet():
        network.reseed()
        values = network(inputs)
        if not bool(values.isfinite().all()):
            raise InvalidArgument(
                "outputs are finite", got="NaN or infinity", remedy="Look for it in x and in the parameters."
            )
        draw = torch.Generator().manual_seed(0)
        u = torch.randn(values.shape, generator=draw, dtype=torch.float64).to(values)
        sizes = values.detach().abs().amax(0)
        u = u / torch.where(sizes > 0, sizes, 1)  # no output is hidden behind a larger one
        found: Any = torch.autograd.grad(values, list(network.parameters.values()), u, allow_unused=True)
    gradients = {
        name: (torch.zeros_like(p) if gradient is None else gradient.to_dense()).detach().flatten()
        for (name, p), gradient in zip(network.parameters.items(), found, strict=True)
    }
    return _Truth(values.detach(), u, gradients)


@torch.no_grad()
def _disagreement(found: Factored, truth: _Truth) -> tuple[str, float] | None:
    """Return the parameter of the largest error and that error, relative to its gradient; None if all agree."""
    close = tolerance(truth.values.dtype)
    if not _close(truth.values, found.values):
        raise InvalidArgument(
            "a model gives the same outputs whenever it is called",
            got="outputs that differ",
            remedy="It draws random numbers: pass a seed, or call model.eval(). Or it keeps a state.",
        )
    norms: list[Tensor] = []
    errors: list[Tensor] = []
    for name, theirs in truth.gradients.items():
        ours = rmatvec(found.blocks[name], truth.u[..., None], len(theirs))
        norms.append(theirs.norm())
        errors.append((theirs if ours is None else ours[:, 0] - theirs).norm())
    names = list(truth.gradients)
    size, error = torch.stack(norms).double(), torch.stack(errors).double()
    if not bool(size.isfinite().all()):
        name = names[int((~size.isfinite()).int().argmax())]
        raise InvalidArgument(
            "gradients are finite", got=f"NaN or infinity in that of {name}", remedy="Look for it in x."
        )
    # A gradient that is zero but for rounding is as exact as the others' rounding allows.
    floor = 1e3 * torch.finfo(truth.values.dtype).eps * size.norm()
    excess = torch.where(error > 0, error / (close * size + floor), error)
    worst = int(excess.nan_to_num(torch.inf).argmax())
    if excess[worst] <= 1:
        return None
    return names[worst], float(error[worst] / size[worst].clamp_min(1e-300))


def is_coupled(network: Network, inputs: Inputs) -> bool:
    """Return whether some examples get other outputs, or none at all, without the rest of their batch."""
    n = len(inputs[0])
    if n == 1:
        return False
    some = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: (n + 1) // 2].to(inputs[0].device)
    with network.quiet(), torch.no_grad():
        together = network(inputs)[some]
        try:
            alone = network(take(inputs, some))
        except InvalidArgument:
            return True
    return not _close(alone, together)


def is_divisible(network: Network, inputs: Inputs, step: int) -> bool:
    """Return whether a batch has the same outputs when it is evaluated in parts: a model may look at all of it."""
    with network.quiet(), torch.no_grad():
        together = network(inputs)
        parts = [network(take(inputs, slice(i, i + step))) for i in range(0, len(together), step)]
    return _close(torch.cat(parts), together)


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= tolerance(a.dtype) * b.abs().max())
