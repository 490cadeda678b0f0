"""A Jacobian in chunks of examples: factors that fit into the budget are kept, others recomputed when needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from steepest.errors import InvalidArgument, SteepestError
from steepest.linearize._inputs import Inputs, take
from steepest.linearize._jacobian.check import is_coupled, is_divisible, probe
from steepest.linearize._jacobian.gram import add_gram
from steepest.linearize._jacobian.products import matvec, rmatvec, rows_of, single
from steepest.linearize._jacobian.sampling import Sampling
from steepest.linearize._trace.factorize import Factored, Structure, factorize, factorize_plainly
from steepest.linearize._trace.network import Network

__all__ = ["Jacobian", "readable"]

_SAMPLE = 16
"""The number of examples from which the memory of one is estimated."""

_SMALL = 1 << 17
"""Entries of a matrix that is made of its blocks at once; a larger one is filled in place."""


class Jacobian:
    """Factors of a network's Jacobian at any inputs."""

    def __init__(self, network: Network, inputs: Inputs, max_bytes: int, check: bool) -> None:
        self.network, self.inputs, self.max_bytes, self.check = network, inputs, max_bytes, check
        self._sizes = {name: p.numel() for name, p in network.parameters.items()}
        self._free = max_bytes - network.converted_bytes
        self.require(0, f"the model in {network.dtype}")
        self._sampling = Sampling()
        self._divisible: bool | None = None
        self._structures: dict[tuple[int, int], Structure] = {}
        n = len(inputs[0])
        examples = take(inputs, slice(0, _SAMPLE))
        before = network.state()
        network.coupled = network.coupled or is_coupled(network, examples)
        examples = inputs if network.coupled else examples
        found, structure = self._unchecked(examples, None)
        network.require_state(before)
        # Autograd's graph holds about as much as the factors, and their making another part.
        self._per_example = max(1, 3 * found.bytes // len(found.values))
        if len(found.values) < n and self._step(n) >= n:
            examples = inputs
            found, structure = self._unchecked(inputs, structure)
        if check:
            found, structure = probe(network, examples, found, structure)
        self.structure = structure
        self.kinds = {name: structure.kind(name) for name in network.parameters}
        self.outputs = found.values.shape[1]
        self.dtype = found.values.dtype
        self._kept = [(slice(0, n), found)] if len(found.values) == n else None

    def _step(self, n: int) -> int:
        """Return how many examples at a time fit into a quarter of the budget."""
        return n if self.network.coupled else max(1, min(n, self._free // 4 // self._per_example))

    def _unchecked(self, inputs: Inputs, structure: Structure | None) -> tuple[Factored, Structure]:
        if self.network.coupled and self.network.is_half:  # rounding would hide where examples are coupled
            return factorize_plainly(self.network, inputs)
        try:
            return factorize(self.network, inputs, structure)
        except SteepestError:
            raise
        except Exception:  # a graph that our rules, or autograd itself, cannot follow
            return factorize_plainly(self.network, inputs)

    def _factorize(self, inputs: Inputs) -> Factored:
        """Return the factors of some examples, compared with plain autograd where they are of a kind that is due."""
        found, structure = self._unchecked(inputs, self.structure)
        if not self.check:
            self.structure = structure
            return found
        if structure != self.structure:
            self._sampling.forget()
        kind = None if found.kind is None else (found.kind, self.network.version())
        if self._sampling.is_due(kind):
            compared, structure = probe(self.network, inputs, found, structure)
            if compared is found:
                self._sampling.agrees(kind)
            else:
                self._sampling.disagrees(kind)
            found = compared
        self.structure = structure
        return found

    def _factorize_own(self, some: slice) -> Factored:
        """Return the factors of some of the examples; the structure found the first time is used again."""
        key, inputs = (some.start, some.stop), take(self.inputs, some)
        if key in self._structures:
            return self._unchecked(inputs, self._structures[key])[0]
        found, structure = self._unchecked(inputs, self.structure)
        if self.check:
            found, structure = probe(self.network, inputs, found, structure)
        self._structures[key] = self.structure = structure
        return found

    def _chunk(self, inputs: Inputs | None) -> int:
        """Return how many examples at a time are made: all where the batch must not be divided."""
        examples = self.inputs if inputs is None else inputs
        n = len(examples[0])
        step = self._step(n)
        if step == n:
            return n
        if inputs is not None:
            return step if is_divisible(self.network, examples, step, 4 * step) else n
        if self._divisible is None:
            self._divisible = is_divisible(self.network, examples, step, 4 * step)
        return step if self._divisible else n

    def chunks(self, inputs: Inputs | None = None) -> Iterator[tuple[slice, Factored]]:
        """Yield slices of the examples with their factors; those of all own examples at once are kept."""
        if inputs is self.inputs:
            inputs = None
        if inputs is None and self._kept is not None:
            yield from self._kept
            return
        n, step = len((self.inputs if inputs is None else inputs)[0]), self._chunk(inputs)
        for start in range(0, n, step):
            some = slice(start, min(start + step, n))
            found = self._factorize_own(some) if inputs is None else self._factorize(take(inputs, some))
            if inputs is None and step == n:
                self._kept = [(some, found)]
            yield some, found

    def values(self, inputs: Inputs | None) -> Tensor:
        """Return the outputs, [n, C]."""
        if inputs is None:
            return torch.cat([found.values for _, found in self.chunks()])
        with self.network.quiet():
            return self.network.evaluate(inputs)

    def rows(self, inputs: Inputs | None, names: Sequence[str] | None = None, out: Tensor | None = None) -> Tensor:
        """Return the columns of some parameters, or all, [n, C, columns], in `out` [n C, columns] where it is given.

        Raises:
            InvalidArgument: If they do not fit into the budget, or `out` is not such a tensor.
        """
        n = len((self.inputs if inputs is None else inputs)[0])
        names = list(self.network.parameters) if names is None else names
        sizes = [self._sizes[name] for name in names]
        shape = (n, self.outputs, sum(sizes))
        if out is not None:
            out = _as_out(out, shape, self.dtype, self.device)
        else:
            self.require(_bytes(shape, self.dtype), f"a feature matrix of {n * self.outputs} x {sum(sizes)}")
            if names and math.prod(shape) < _SMALL:
                parts = [torch.cat([self._block(found, name) for name in names], 2) for _, found in self.chunks(inputs)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            out = torch.empty(shape, dtype=self.dtype, device=self.device)
        for some, found in self.chunks(inputs):
            part = out if len(found.values) == n else out[some]
            for name, block in zip(names, part.split(sizes, 2), strict=True):
                placed = found.blocks[name]
                whole = single(placed)
                if not placed:
                    block.zero_()
                elif whole is not None:
                    whole.fill(block)
                else:
                    block.copy_(rows_of(placed, block.shape[2]))
        return out

    def _block(self, found: Factored, name: str) -> Tensor:
        """Return one parameter's columns."""
        placed, size = found.blocks[name], self._sizes[name]
        return rows_of(placed, size) if placed else found.values.new_zeros(*found.values.shape, size)

    def gram(self, one: Inputs | None, other: Inputs | None, dtype: torch.dtype, trace: bool = False) -> Tensor:
        """Return J1 J2', or its trace over outputs; without other inputs J1 J1'."""
        first = self.inputs if one is None else one
        symmetric = other is None or other is first
        second = first if symmetric else other
        assert second is not None
        across = 1 if trace else self.outputs
        shape = len(first[0]) * across, len(second[0]) * across
        self.require(_bytes(shape, dtype), f"a kernel of {shape[0]} x {shape[1]}")
        out = torch.empty(shape, dtype=dtype, device=self.device)
        work = max(1 << 24, min(self._free // 8, 1 << 28))
        for some, a in self.chunks(one):
            rows = slice(some.start * across, some.stop * across)
            if symmetric and a.values.shape[0] == len(first[0]):
                add_gram(out, a, a, self._sizes, trace, work)
                break
            for others, b in self.chunks(one if symmetric else other):
                if symmetric and others.start > some.start:
                    break
                columns = slice(others.start * across, others.stop * across)
                block = torch.empty(
                    rows.stop - rows.start, columns.stop - columns.start, dtype=dtype, device=out.device
                )
                add_gram(block, a, a if symmetric and others == some else b, self._sizes, trace, work)
                out[rows, columns] = block
                if symmetric:
                    out[columns, rows] = block.T
        return out

    def product(self, v: Tensor) -> Tensor:
        """Return J v, [N, m], for v [P, m], in v's precision."""
        parts: list[Tensor] = []
        vectors = dict(zip(self._sizes, v.split(list(self._sizes.values())), strict=True))
        for _, found in self.chunks():
            total = torch.zeros(*found.values.shape, v.shape[1], dtype=v.dtype, device=v.device)
            for name, own in vectors.items():
                part = matvec([(factor.to(v.dtype), index) for factor, index in found.blocks[name]], own)
                if part is not None:
                    total += part
            parts.append(total.flatten(0, 1))
        return torch.cat(parts)

    def transposed_product(self, u: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Return J' u, [P, m], for u [N, m], in the model's precision or another; its memory is that of [m, P]."""
        u = u.to(self.dtype if dtype is None else dtype)
        total = torch.empty(u.shape[1], self.columns, dtype=u.dtype, device=u.device)
        columns = dict(zip(self._sizes, total.split(list(self._sizes.values()), 1), strict=True))
        for some, found in self.chunks():
            own = u[some.start * self.outputs : some.stop * self.outputs].unflatten(0, (-1, self.outputs))
            for name, column in columns.items():
                placed = [(factor.to(u.dtype), index) for factor, index in found.blocks[name]]
                rmatvec(placed, own, column, add=some.start > 0)
        return total.T

    @property
    def columns(self) -> int:
        """P."""
        return sum(self._sizes.values())

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.network.device

    def require(self, needed: int, what: str) -> None:
        """Refuse a result that does not fit into the budget, beside a model that was converted to another precision.

        Raises:
            InvalidArgument: With the smallest budget that suffices.
        """
        if needed > self._free:
            needed += self.network.converted_bytes
            raise InvalidArgument(
                f"{what} must fit into max_bytes = {readable(self.max_bytes)}",
                got=readable(needed),
                remedy=f"Pass max_bytes={needed} or more, or ask for less.",
            )


def readable(count: float) -> str:
    """Return a number of bytes as people read it.

    >>> readable(3_987_600_000)
    '3.71 GiB'
    """
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def _as_out(out: Tensor, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the tensor that results are written into as one of that shape.

    Raises:
        InvalidArgument: If it is of another shape, kind or place, or part of a graph.
    """
    flat = shape[0] * shape[1], shape[2]
    if not isinstance(out, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        got = type(out).__name__
    elif (tuple(out.shape), out.dtype, out.device) != (flat, dtype, device):
        got = f"{out.dtype} {tuple(out.shape)} on {out.device}"
    elif not out.is_contiguous():
        got = "one that is not contiguous"
    elif out.requires_grad:
        got = "one that requires gradients"
    else:
        return out.view(shape)
    raise InvalidArgument(
        f"out must be a contiguous tensor, {dtype} {flat} on {device}",
        got=got,
        remedy="Make one with torch.empty.",
    )


def _bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    return math.prod(shape) * dtype.itemsize
