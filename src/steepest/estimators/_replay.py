"""Perturbations of a whole model that are not stored: their seeds are kept, and they are drawn again when needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steepest.errors import InvalidArgument
from steepest.estimators._objective import Objective, failed, one_point, value_of
from steepest.estimators._perturbation import Perturbation, drawing
from steepest.estimators._space import tensors_by_name

__all__ = ["Replay", "replays"]

_STORED = 1 << 21
"""Random numbers of one call that are stored: 8 MiB in float32."""

_SMALL = 1 << 17
"""Parameters of a model whose perturbations are stored at all: of larger ones they would show in the memory."""

_PIECE = 1 << 15
"""Numbers that are drawn at a time on a CPU: above it torch's threads would wait for each other at every operation."""

_PIECE_ELSEWHERE = 1 << 24
"""The same on a GPU, where every operation has to be launched."""


def replays(x: Any, directions: int) -> bool:
    """Return whether the perturbations of x are too large to be stored."""
    if not isinstance(x, Mapping):
        return False
    size = sum(each.numel() for each in x.values() if isinstance(each, Tensor))
    return size > _SMALL or directions * size > _STORED


class Replay:
    """Perturbations of parameters by name, of which the seeds alone are kept (as in MeZO).

    While the objective is evaluated, the buffer of the gradient holds the perturbed parameters, so that beside the
    parameters and the gradient there is nothing of their size. The second point of a pair is 2 x minus the first one.

    Args:
        x: The parameters; they are not changed.
        perturbation: Of single numbers, whose samples are drawn for every entry.
        scale: The scale of a perturbation, > 0.
        generator: From which one seed is drawn for each direction.
        directions: The number of directions.

    Raises:
        InvalidArgument: If x is no mapping of tensors on one device, there is no generator, or the distribution has a
            shape.

    Source: Malladi et al. 2023, arXiv:2305.17333.
    """

    def __init__(self, x: Any, perturbation: Perturbation, scale: float, generator: Any, directions: int) -> None:
        self._x = {name: each.detach() for name, each in tensors_by_name(x).items()}
        self._device = next(iter(self._x.values())).device
        if perturbation.shape:
            raise InvalidArgument(
                "distribution must be one of single numbers for tensors by name",
                got=f"shape {tuple(perturbation.shape)}",
                remedy="Try torch.distributions.Laplace(0.0, 1.0).",
            )
        self._perturbation, self._scale = perturbation, scale
        source = drawing(generator, self._device)
        self._seeds = torch.randint(2**62, (directions,), generator=source, device=self._device).tolist()
        self._buffer = {name: _contiguous(each) for name, each in self._x.items()}

    @torch.no_grad()
    def values(self, objective: Objective, *, antithetic: bool, at_x: bool = False) -> Tensor:
        """Return the values of f at x + scale e for every direction, then of pairs those at the mirrored points.

        With `at_x`, the last one is the value at x itself.

        Raises:
            InvalidArgument: If f does not return one number.
            EvaluationFailed: If it raises an error.
        """
        function, in_order = one_point(objective), list[Tensor]()
        like = next(iter(self._x.values()))

        def evaluated() -> Tensor:
            try:
                value = value_of(function(dict(self._buffer)), like)
            except Exception as error:
                if isinstance(error, InvalidArgument) and not in_order:
                    raise
                values = torch.stack(in_order) if in_order else like.new_empty(0)
                copy = {name: each.clone() for name, each in self._buffer.items()}
                raise failed(error, values, None, copy) from error
            in_order.append(value)
            return value

        plain: list[Tensor] = []
        mirrored: list[Tensor] = []
        for seed in self._seeds:
            self._perturb(seed)
            before = self._versions()
            plain.append(evaluated())
            if antithetic:
                self._mirror(seed, is_intact=before is not None and before == self._versions())
                mirrored.append(evaluated())
        if at_x:
            for name, each in self._buffer.items():
                each.copy_(self._x[name])
            mirrored.append(evaluated())
        return torch.stack([*plain, *mirrored])

    def _versions(self) -> list[int] | None:
        """Return how often torch has changed each tensor of the buffer in place; None where it does not count."""
        try:
            return [each._version for each in self._buffer.values()]
        except RuntimeError:  # in inference mode
            return None

    def points(self, *, antithetic: bool) -> Iterator[Iterator[dict[str, Tensor]]]:
        """Yield the points of every direction: x + scale e, and of pairs the mirrored point; each in the buffer."""
        for seed in self._seeds:
            yield self._pair(seed, antithetic=antithetic)

    def _pair(self, seed: int, *, antithetic: bool) -> Iterator[dict[str, Tensor]]:
        self._perturb(seed)
        before = self._versions()
        yield self._buffer
        if antithetic:
            self._mirror(seed, is_intact=before is not None and before == self._versions())
            yield self._buffer

    @torch.no_grad()
    def _mirror(self, seed: int, *, is_intact: bool) -> None:
        """Replace the point in the buffer by its mirror image around the centre of the perturbations.

        Where the objective has worked in place, the point is drawn again.
        """
        if not is_intact:
            self._perturb(seed)
        centre = 2 * self._scale * (self._perturbation.centre or 0.0)
        for source, target in self._pieces(self._x, self._buffer):
            target.neg_().add_(source, alpha=2)
            if centre:
                target.add_(centre)

    @torch.no_grad()
    def _perturb(self, seed: int) -> None:
        """Fill the buffer with x + scale e."""
        generator = torch.Generator(self._device).manual_seed(seed)
        for source, target in self._pieces(self._x, self._buffer):
            noise = self._drawn(source, generator)
            target.copy_(noise.mul_(self._scale).add_(source))

    def combined(self, weights: Sequence[float]) -> tuple[dict[str, Tensor], Callable[[], dict[str, Tensor]]]:
        """Return the mean of weight times score over the directions, and a function that returns its standard error.

        Both draw the perturbations again; the first one is written into the buffer.
        """
        self._sum(self._buffer, weights, squared=False)
        mean = self._buffer

        def error() -> dict[str, Tensor]:
            found = {name: _contiguous(each) for name, each in mean.items()}
            self._sum(found, weights, squared=True)
            return found

        return mean, error

    @torch.no_grad()
    def _sum(self, out: Mapping[str, Tensor], weights: Sequence[float], *, squared: bool) -> None:
        """Write the mean of the terms into `out`, or the standard error of that mean."""
        count = len(weights)
        generators = [torch.Generator(self._device).manual_seed(seed) for seed in self._seeds]
        for source, target in self._pieces(self._x, out):
            total: Tensor | None = None
            squares: Tensor | None = None
            for weight, generator in zip(weights, generators, strict=True):
                term = self._perturbation.score(self._drawn(source, generator)[None])[0] * weight
                total = term if total is None else total.add_(term)
                if squared:
                    squares = term.square() if squares is None else squares.addcmul_(term, term)
            assert total is not None
            mean = total.div_(count)
            if squares is not None:
                variance = squares.div_(count).sub_(mean.square()).clamp_(min=0)
                mean = variance.div_(count - 1).sqrt_() if count > 1 else torch.full_like(mean, math.nan)
            target.copy_(mean)

    def _drawn(self, source: Tensor, generator: torch.Generator) -> Tensor:
        like = source if source.dtype.itemsize >= 4 else source.float()
        return self._perturbation.draw(1, like, generator)[0]

    @staticmethod
    def _pieces(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield pieces of two sets of tensors, always in one order, in which all perturbations are drawn."""
        for name, each in first.items():
            target = second[name].view(-1)
            piece = _PIECE if each.device.type == "cpu" else _PIECE_ELSEWHERE
            if each.is_contiguous() or not each.ndim:
                yield from zip(each.reshape(-1).split(piece), target.split(piece), strict=True)
            else:  # a transposed weight, of which the rows are copied one by one
                yield from zip((row.reshape(-1) for row in each), target.split(each[0].numel()), strict=True)


def _contiguous(like: Tensor) -> Tensor:
    return torch.empty_like(like, memory_format=torch.contiguous_format)
