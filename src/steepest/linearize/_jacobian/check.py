"""The checks against plain autograd: of factors by a random probe, and of a batch's parts against the whole."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steepest.errors import InvalidArgument, SteepestError
from steepest.linearize._factors import Outer
from steepest.linearize._inputs import Inputs, take
from steepest.linearize._jacobian.products import rmatvec, single
from steepest.linearize._trace.factorize import Factored, Structure, balance, factorize, tolerance
from steepest.linearize._trace.general import undifferentiable
from steepest.linearize._trace.network import Network

__all__ = ["LinearizationMismatch", "is_coupled", "is_divisible", "probe"]


class LinearizationMismatch(SteepestError, ArithmeticError):  # noqa: N818
    """A rule and plain automatic differentiation disagree on a gradient."""


def probe(network: Network, inputs: Inputs, found: Factored, structure: Structure) -> tuple[Factored, Structure]:
    """Return the factors once J' u agrees with autograd's, parameter by parameter, for a random u.

    A wrong entry of J changes J' u for almost every u (Freivalds 1977). Where the factors disagree, the structure is
    determined anew, as the structure found on other examples need not hold for these; then the vectorised general path
    is replaced by backward passes, and these by backward passes over the whole batch.

    Raises:
        LinearizationMismatch: If they still disagree.
        InvalidArgument: If outputs or gradients are random, infinite, or do not exist.
    """
    with network.quiet():
        truth = _Truth(network, inputs)
        if not _close(truth.values, found.values):
            raise _unrepeatable("outputs that differ")
        wrong: list[tuple[str, float]] = []
        for other, changed in _attempts(network, inputs, found, structure):
            disagreement = truth.disagreement(_differences(other, truth, sketched=True))
            if disagreement is not None:  # a sketch may exaggerate
                disagreement = truth.disagreement(_differences(other, truth, sketched=False))
            if disagreement is None:
                return other, changed
            wrong.append(disagreement)
    name, error = wrong[0]
    raise LinearizationMismatch(
        f"the gradient of {name} ({structure.kind(name)}) must agree with plain autograd",
        got=f"a relative error of {error:.2g}",
        remedy="This is a defect of steepest; check=False skips the check, at your risk.",
    )


def _attempts(
    network: Network, inputs: Inputs, found: Factored, structure: Structure
) -> Generator[tuple[Factored, Structure]]:
    yield found, structure
    yield factorize(network, inputs, None)
    backward = replace(structure, reusable=False, by="backward")
    if structure.by == "vmap" and structure.general:
        yield factorize(network, inputs, backward)
    if not network.coupled and len(inputs[0]) > 1:
        network.coupled = True
        yield factorize(network, inputs, backward)


@torch.no_grad()
def _differences(found: Factored, truth: _Truth, sketched: bool) -> Generator[Tensor]:
    """Yield by parameter what is between J' u by factors and by autograd; of large matrices D a sketch, p' D q.

    For normal p and q the mean of (p' D q)^2 is |D|^2, so the norm of what is yielded says as much of the error.
    """
    for name, theirs in truth.gradients.items():
        placed = found.blocks[name]
        factor = single(placed)
        if (
            sketched
            and theirs.numel() > _LARGE
            and isinstance(factor, Outer)
            and factor.right is not None
            and factor.groups == 1
            and factor.left.dtype == theirs.dtype
        ):
            height, width = factor.left.shape[3], factor.right.shape[2]
            p = _random(theirs.new_empty(height, _SKETCHES), 3)
            q = _random(theirs.new_empty(width, _SKETCHES), 4)
            yield (factor.bilinear(truth.u, p, q) - ((theirs.view(height, width) @ q) * p).sum(0)) / _SKETCHES**0.5
        else:
            product = truth.u.new_empty(1, len(theirs))
            rmatvec(placed, truth.u[..., None], product)
            yield product[0] - theirs


class _Truth:
    """The result of plain autograd for a batch.

    Attributes:
        values: The outputs, [n, C].
        u: A random matrix of their shape, in which no output is hidden behind a larger one.
        gradients: J' u by parameter, flat.
    """

    def __init__(self, network: Network, inputs: Inputs) -> None:
        self._network, self._inputs = network, inputs
        values = self._evaluate()
        if not bool(values.isfinite().all()):
            raise InvalidArgument(
                "outputs must be finite", got="NaN or infinity", remedy="Look for it in x and in the parameters."
            )
        self.u = _random(values, 0) * balance(values)
        self.gradients = _gradients(network, values, self.u)
        self.values = values.detach()
        self._close = tolerance(values.dtype)
        self._sizes = _norms(self.gradients.values())
        if not bool(self._sizes.isfinite().all()):
            name = list(self.gradients)[int((~self._sizes.isfinite()).int().argmax())]
            raise InvalidArgument(
                "gradients must be finite", got=f"NaN or infinity in that of {name}", remedy="Look for it in x."
            )

    def _evaluate(self) -> Tensor:
        self._network.reseed()
        return self._network(self._inputs)

    @functools.cached_property
    def _rounding(self) -> Tensor:
        """By parameter, the difference up to which two numbers count as equal.

        J' u is that far from J' v + J' (u - v), and from itself where x and the parameters differ in their last digit.
        """
        values = self._evaluate()
        v = self.u * _random(values, 1)
        whole, one, other = (_gradients(self._network, values, part, again=True) for part in (self.u, v, self.u - v))
        rounding = _SAFETY * _norms(whole[name] - one[name] - other[name] for name in whole)
        allowed = torch.maximum(rounding, self._close * self._sizes)
        if bool((_norms(whole[name] - self.gradients[name] for name in whole) > allowed).any()):
            raise _unrepeatable("gradients that differ")
        try:
            moved = self._nearby()
        except Exception:  # a model's own code may ask its inputs to be certain numbers
            return rounding
        return torch.maximum(rounding, _SAFETY * _norms(whole[name] - moved[name] for name in whole))

    def _nearby(self) -> dict[str, Tensor]:
        """Return J' u where all numbers differ in their last digit."""

        def near(t: Tensor) -> Tensor:
            return t * (1 + torch.finfo(t.dtype).eps * _random(t, 2)) if t.is_floating_point() else t

        leaves = {name: near(p.detach()).requires_grad_() for name, p in self._network.parameters.items()}
        self._network.reseed()
        values = self._network(tuple(near(t) for t in self._inputs), leaves)
        return _gradients(self._network, values, self.u, of=leaves)

    def disagreement(self, differences: Iterable[Tensor]) -> tuple[str, float] | None:
        """Return the parameter of the largest error of J' u and that error, relative to J' u; None if all agree."""
        errors = _norms(differences)
        allowed = self._close * self._sizes
        if bool((errors <= allowed).all()):  # not `errors > allowed`, as NaN is no agreement
            return None
        # A gradient that is zero up to rounding agrees with one that is zero up to other rounding.
        allowed = torch.maximum(allowed, self._rounding)
        if bool((errors <= allowed).all()):
            return None
        worst = int((errors / allowed.clamp_min(1e-300)).nan_to_num(torch.inf).argmax())
        return list(self.gradients)[worst], float(errors[worst] / self._sizes[worst].clamp_min(1e-300))


_LARGE, _SKETCHES = 1 << 14, 8
"""Entries above which a matrix is compared by sketches, and how many: they all miss an error of a thousand times the
tolerance with a chance below 1e-14."""

_SAFETY = 1e3
"""Rounding errors of two ways to the same number differ by less than this factor."""


def _random(like: Tensor, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=draw, dtype=torch.float64).to(like)


def _gradients(
    network: Network, values: Tensor, u: Tensor, *, again: bool = False, of: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    parameters = network.parameters if of is None else of
    try:
        found: Any = torch.autograd.grad(
            values, list(parameters.values()), u, allow_unused=True, retain_graph=again or None
        )
    except RuntimeError as error:
        raise undifferentiable(error) from error
    return {
        name: (torch.zeros_like(p) if gradient is None else gradient.to_dense()).detach().flatten()
        for (name, p), gradient in zip(parameters.items(), found, strict=True)
    }


def _norms(of: Iterable[Tensor]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(t).double() for t in of])


def _unrepeatable(got: str) -> InvalidArgument:
    return InvalidArgument(
        "the model must give the same outputs whenever it is called",
        got=got,
        remedy="It draws random numbers: pass a seed, or call model.eval(). Or it keeps a state.",
    )


def is_coupled(network: Network, inputs: Inputs) -> bool:
    """Return whether some examples get other outputs, or none at all, without the rest of their batch."""
    n = len(inputs[0])
    if n == 1:
        return False
    some = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: (n + 1) // 2].to(inputs[0].device)
    call = network.precisely if network.is_half else network
    with network.quiet():  # with gradients, which a model may use, or keep for later
        together = call(inputs).detach()[some]
        try:
            alone = call(take(inputs, some)).detach()
        except InvalidArgument:
            return True
    return not _same(alone, together)


def is_divisible(network: Network, inputs: Inputs, step: int, budget: int) -> bool:
    """Return whether a batch has the same outputs and gradients when it is evaluated in parts.

    The outputs are those of the whole batch; the gradients those of `budget` examples, as autograd keeps what it needs.
    """
    with network.quiet():
        together = network.evaluate(inputs)
        parts = [network.evaluate(take(inputs, part)) for part in _parts(len(together), step)]
        if not _same(torch.cat(parts), together):
            return False
        some = take(inputs, slice(0, budget))
        truth = _Truth(network, some)
        total = {name: torch.zeros_like(gradient) for name, gradient in truth.gradients.items()}
        for part in _parts(len(some[0]), step):
            for name, gradient in _gradients(network, network(take(some, part)), truth.u[part]).items():
                total[name] += gradient
        return truth.disagreement(total[name] - theirs for name, theirs in truth.gradients.items()) is None


def _parts(n: int, step: int) -> Sequence[slice]:
    return [slice(start, start + step) for start in range(0, n, step)]


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= tolerance(a.dtype) * b.abs().max())


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether all outputs agree, each relative to its own size."""
    sizes = b.abs().amax(0)
    rounding = 16 * torch.finfo(a.dtype).eps * sizes.max()
    return bool(((a - b).abs().amax(0) <= tolerance(a.dtype) * sizes + rounding).all())
