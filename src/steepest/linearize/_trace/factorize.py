"""The Jacobian of a batch as factors: the structure of a network, and the values that the examples fill in."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from steepest.errors import InvalidArgument, SteepestError
from steepest.linearize._factors import Factor, Lookup, Outer, Rows
from steepest.linearize._inputs import Inputs
from steepest.linearize._trace.general import by_backward, by_vmap, undifferentiable
from steepest.linearize._trace.layout import Layout, candidates, matches
from steepest.linearize._trace.network import Network
from steepest.linearize._trace.program import Program
from steepest.linearize._trace.record import Call, CallRecorder, Key
from steepest.linearize._trace.rules import RULES

__all__ = ["Factored", "Structure", "balance", "factorize", "factorize_plainly", "tolerance"]


def tolerance(dtype: torch.dtype) -> float:
    """Return the relative error up to which two ways to the same number agree."""
    return {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 3e-2}.get(dtype, 1e-1)


def balance(values: Tensor) -> Tensor:
    """Return a weight by output, [C], under which none is hidden behind a larger one."""
    sizes = values.detach().abs().amax(0)
    return torch.where(sizes > 0, sizes.max() / sizes, 1).clamp(max=1 / torch.finfo(values.dtype).eps)


@dataclass(frozen=True)
class Place:
    """The position of the examples in the cotangent of a call.

    Attributes:
        layout: Their axis.
        lead: How many axes of positions there are.
        alone: Whether no other axis is merged with theirs.
        sure: Whether no other layout is possible.
    """

    layout: Layout
    lead: int
    alone: bool
    sure: bool

    def fits(self, lead: torch.Size, n: int) -> bool:
        """Return whether n examples can be there in positions of shape `lead`."""
        if len(lead) != self.lead:
            return False
        size = lead[self.layout.axis]
        return size == n if self.alone else size > n and size % n == 0


@dataclass(frozen=True)
class Structure:
    """The structure of a network, found on some examples, which holds for others whose pass calls the same functions.

    Attributes:
        places: By call that a rule took, in their order; None where the outputs do not depend on it.
        skip: Calls that are left to autograd.
        general: Parameters that have no rule in at least one of their uses.
        reusable: Whether the places are those of any number of examples.
        by: How their gradients are computed: "vmap" or "backward".
    """

    places: Mapping[Key, Place | None]
    skip: frozenset[Key]
    general: tuple[str, ...]
    reusable: bool
    by: str = "vmap"

    def kind(self, name: str) -> str:
        """Return the rules or the general path that a parameter's columns come from, or "zero"."""
        if name in self.general:
            return self.by
        kinds = dict.fromkeys(key[0] for key, place in self.places.items() if place is not None and name in key[1])
        return "+".join(kinds) or "zero"


Placed = tuple[Factor, Tensor | None]
"""A factor, and where its entries are in the flat parameter (None: everywhere, in order)."""


@dataclass(frozen=True)
class Factored:
    """The Jacobian of n examples.

    Attributes:
        values: The outputs, [n, C].
        blocks: By parameter: what its columns are the sum of; empty where they are zero.
        kind: The key that equal passes share; None where it is not known, or where values decide which operations run.
    """

    values: Tensor
    blocks: Mapping[str, Sequence[Placed]]
    kind: Hashable | None = None

    @property
    def bytes(self) -> int:
        """What the factors occupy, those that share a cotangent counted twice."""
        return sum(factor.bytes for placed in self.blocks.values() for factor, _ in placed)


def factorize(network: Network, inputs: Inputs, structure: Structure | None) -> tuple[Factored, Structure]:
    """Return the factors of a batch, and its structure, which is the one given if that still holds."""
    with network.quiet():
        if structure is not None and structure.reusable:
            values, recorder = _record(network, inputs, structure.skip)
            found = _factors(network, inputs, values, recorder, structure)
            if found is not None:
                return found
        return _analyse(network, inputs, "vmap" if structure is None else structure.by)


def factorize_plainly(network: Network, inputs: Inputs) -> tuple[Factored, Structure]:
    """Return the factors without any rule: one backward pass per output over the whole batch.

    Raises:
        InvalidArgument: If autograd cannot differentiate the model.
    """
    network.coupled = True
    names = tuple(network.parameters)
    with network.quiet():
        network.reseed()
        try:
            rows = by_backward(network, inputs, names)
        except RuntimeError as error:
            raise undifferentiable(error) from error
        network.reseed()
        values = network(inputs).detach()
    return Factored(values, _rows(rows, values.dtype)), Structure({}, frozenset(), names, False, "backward")


def _record(network: Network, inputs: Inputs, skip: frozenset[Key]) -> tuple[Tensor, CallRecorder]:
    recorder = CallRecorder(network.parameters, RULES, skip, network.buffers_of_original, Program(len(inputs[0])))
    network.reseed()
    try:
        with recorder:
            found = network.model(*(t.clone() for t in inputs))  # it may write into them
    except SteepestError:
        raise
    except Exception:  # a model's code may break the interception in unforeseen ways: then without rules
        recorder = CallRecorder(network.parameters, {}, frozenset(), {}, None)
        network.reseed()
        found = network.run(inputs)
    return network.flat(found, len(inputs[0])), recorder


def _analyse(network: Network, inputs: Inputs, by: str) -> tuple[Factored, Structure]:
    skip: frozenset[Key] = frozenset()
    names = list(network.parameters)
    while True:
        values, recorder = _record(network, inputs, skip)
        network.require_copy(values)
        network.require_visible(values)
        if not values.requires_grad:
            raise InvalidArgument(
                "the outputs must depend on a parameter that requires gradients",
                got="outputs without a gradient",
                remedy="Remove .detach(), argmax and torch.no_grad() from the model.",
            )
        n, outputs = values.shape
        # Any seed does in which no two outputs and no two examples are alike.
        draw = torch.Generator().manual_seed(n)
        weights = (0.5 + torch.rand(n, generator=draw, dtype=torch.float64)).to(values)
        seed = (0.5 + torch.rand(outputs, generator=draw, dtype=torch.float64)).to(values) * balance(values)
        seed = seed.expand_as(values)
        plain, connected = _cotangents(values, recorder, seed, names)
        weighted, _ = _cotangents(values, recorder, seed * weights[:, None], [])
        places: dict[Key, Place | None] = {}
        lost: set[Key] = set()
        for key, call in recorder.calls.items():
            pair = plain[key], weighted[key]
            if pair[0] is None or pair[1] is None:
                places[key] = None
            elif (place := _place(call, pair[0], pair[1], weights)) is None:
                lost.add(key)
            else:
                places[key] = place
        if not lost:
            break
        skip |= lost
    general = tuple(name for name, gradient in zip(names, connected, strict=True) if gradient is not None)
    reusable = n > 1 and all(place is None or place.sure for place in places.values())
    found = _factors(network, inputs, values, recorder, Structure(places, skip, general, reusable, by))
    assert found is not None
    return found


def _place(call: Call, plain: Tensor, weighted: Tensor, weights: Tensor) -> Place | None:
    """Return where the examples are in a call's cotangent; None if they are nowhere, or coupled."""
    if call.arrange is not None:
        plain, weighted = (call.arrange(d[None])[0] for d in (plain, weighted))
    lead = plain.shape[: call.lead]
    found = [
        layout
        for layout in candidates(lead, len(weights))
        if (call.shared is None or layout.axis in call.shared)
        and matches(layout, plain, weighted, weights, call.lead, tolerance(plain.dtype))
    ]
    if not found:
        return None
    # Where nothing gets through, as behind dead units, any layout matches.
    sure = len(found) == 1 and bool(plain.any())
    return Place(found[0], len(lead), lead[found[0].axis] == len(weights), sure)


def _cotangents(
    values: Tensor, recorder: CallRecorder, seed: Tensor, names: Sequence[str]
) -> tuple[dict[Key, Tensor | None], tuple[Tensor | None, ...]]:
    """Return what reaches each call, and the gradients of the named parameters where they are still in the graph."""
    edges: list[Any] = [call.edge for call in recorder.calls.values()]
    parameters = [recorder.parameters[name] for name in names]
    if not values.requires_grad or not (edges or parameters):
        return dict.fromkeys(recorder.calls), (None,) * len(names)
    found = torch.autograd.grad(values, [*edges, *parameters], seed, retain_graph=True, allow_unused=True)
    return dict(zip(recorder.calls, found, strict=False)), found[len(edges) :]


def _factors(
    network: Network, inputs: Inputs, values: Tensor, recorder: CallRecorder, structure: Structure
) -> tuple[Factored, Structure] | None:
    """Return the factors, or None if these examples' pass differs from the structure in anything."""
    if list(recorder.calls) != list(structure.places):
        return None
    n, outputs = values.shape
    cotangents: list[dict[Key, Tensor | None]] = []
    others = [name for name in network.parameters if name not in structure.general]
    for c in range(outputs):
        seed = torch.ones_like(values) if outputs == 1 else torch.zeros_like(values)
        if outputs > 1:
            seed[:, c] = 1
        reached, connected = _cotangents(values, recorder, seed, [] if c else others)
        if any(gradient is not None for gradient in connected):
            return None  # an operation without a rule, where there was none
        cotangents.append(reached)
    uses: dict[str, list[Placed]] = {name: [] for name in network.parameters}
    for key, call in recorder.calls.items():
        stacked = _stacked([of_output[key] for of_output in cotangents])
        place = structure.places[key]
        if stacked is None:
            continue
        if call.arrange is not None:
            stacked = call.arrange(stacked)
        if place is None or not place.fits(stacked.shape[1 : call.lead + 1], n):
            return None
        if call.shared is None:  # one tensor for a weight and its bias: the kernel uses it once for both
            stacked = place.layout.split(stacked, n, 1).reshape(n, outputs, -1, stacked.shape[-1])
        for use in call.uses:
            if use.slot.name not in structure.general:
                factor = use.build(stacked, place.layout, n).to(values.dtype)
                uses[use.slot.name].append((factor, use.slot.index))
    blocks: dict[str, Sequence[Placed]] = {name: _merged(found) for name, found in uses.items()}
    if structure.general:
        rows, structure = _general(network, inputs, structure)
        blocks.update(_rows(rows, values.dtype))
    kind = None if recorder.program is None else recorder.program.kind
    return Factored(values.detach(), blocks, kind), structure


def _general(network: Network, inputs: Inputs, structure: Structure) -> tuple[dict[str, Tensor], Structure]:
    network.reseed()
    if structure.by == "backward" or network.coupled:
        return by_backward(network, inputs, structure.general), replace(structure, by="backward")
    try:
        return by_vmap(network, inputs, structure.general), structure
    except (RuntimeError, TypeError, ValueError):  # how vmap refuses what it cannot vectorise; `paths` says "backward"
        return by_backward(network, inputs, structure.general), replace(structure, by="backward")


def _rows(blocks: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Sequence[Placed]]:
    return {name: [(Rows(block.detach().to(dtype)), None)] for name, block in blocks.items()}


def _stacked(cotangents: Sequence[Tensor | None]) -> Tensor | None:
    """Return [C, ...] of the cotangents of every output; None where no output depends on the call."""
    some = next((d for d in cotangents if d is not None), None)
    if some is None:
        return None
    if len(cotangents) == 1:
        return some[None]
    return torch.stack([torch.zeros_like(some) if d is None else d for d in cotangents])


def _merged(placed: Sequence[Placed]) -> list[Placed]:
    """Join the uses of a whole weight: the positions of one Outer or Lookup are those of all."""
    if len(placed) < 2:
        return list(placed)
    outers: dict[tuple[int, bool], list[Outer]] = {}
    tables: list[Lookup] = []
    rest: list[Placed] = []
    for factor, index in placed:
        if index is None and isinstance(factor, Outer):
            outers.setdefault((factor.groups, factor.right is None), []).append(factor)
        elif index is None and isinstance(factor, Lookup):
            tables.append(factor)
        else:
            rest.append((factor, index))
    joined: list[Factor] = [*map(Outer.sum, outers.values()), *([Lookup.sum(tables)] if tables else [])]
    return [*((factor, None) for factor in joined), *rest]
