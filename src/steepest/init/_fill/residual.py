"""Residual branches, and the last layer of each scaled down with their number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from steepest._sharding import local
from steepest.errors import InvalidArgument
from steepest.init._fill.model import Filled
from steepest.init._graph.graph import Graph, Op
from steepest.init._layers.kinds import closing_layers

__all__ = ["branch_counts", "scale_branches"]


@dataclass(frozen=True)
class Branch:
    """A residual addition: the origin of its stream, the layers that end its branch, and the number of additions."""

    source: int | None
    layers: tuple[nn.Module, ...]
    count: int = 1


def scale_branches(model: nn.Module, graph: Graph, starts: list[Filled]) -> None:
    """Multiply the last weight of each residual branch by 1/sqrt(number of residual branches of its stream).

    Raises:
        InvalidArgument: If the model has no residual branch that could be found.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.3.
    """
    counts = branch_counts(graph)
    found = [
        start
        for start in starts
        if start.module in counts and (start.is_weight or start.left) and start.name.endswith("weight")
    ]
    if not found:
        raise InvalidArgument(
            "depth_scaled needs residual branches, x + f(x) with a weight layer in f, and none was found",
            got=type(model).__name__,
            remedy="Pass data=one batch, so that the model is followed as it runs, or leave depth_scaled out.",
        )
    for start in found:
        if start.left:
            continue
        count = counts[start.module]
        local(start.parameter).mul_(count**-0.5)
        std = start.fill.std * count**-0.5
        start.fill = replace(start.fill, rule=f"{start.fill.rule}, times 1/sqrt({count})", std=std)


def branch_counts(graph: Graph) -> dict[nn.Module, int]:
    """Return for the last layers of residual branches the number of residual additions on their stream.

    An addition is residual if one operand, as it is or through shapes, norms and scalings, is what the other was
    computed from by way of a weight layer; or if one is a single layer of that (a projected shortcut) and the other has
    at least two. A stream leads from one addition to the next; where streams part, the longest one counts. If the
    model could only be traced in pieces, all additions together count as one stream.
    """
    branches = _branches(graph)
    before: dict[int, int | None] = {number: _previous(graph, branches, b.source) for number, b in branches.items()}
    depth: dict[int, int] = {}
    for number, branch in branches.items():
        previous = before[number]
        depth[number] = branch.count + (depth[previous] if previous is not None else 0)
    total = dict(depth)
    for number in sorted(branches, reverse=True):
        previous = before[number]
        if previous is not None:
            total[previous] = max(total[previous], total[number])
    all_together = sum(branch.count for branch in branches.values())
    counts: dict[nn.Module, int] = {}
    for number, branch in branches.items():
        for layer in branch.layers:
            counts[layer] = max(counts.get(layer, 0), total[number] if graph.complete else all_together)
    return counts


def _branches(graph: Graph) -> dict[int, Branch]:
    ancestors = graph.ancestors(past_layers=True)
    found: dict[int, Branch] = {}
    for number, node in enumerate(graph.nodes):
        if node.branches and node.layer is not None:
            source = node.inputs[0] if node.inputs else None
            found[number] = Branch(source, tuple(closing_layers(node.layer)), node.branches)
        elif node.op is Op.ADD and len(node.inputs) == 2:
            branch = _residual(graph, ancestors, found, node.inputs)
            if branch is not None:
                found[number] = branch
    return found


def _residual(graph: Graph, ancestors: list[int], found: dict[int, Branch], pair: tuple[int, ...]) -> Branch | None:
    """Return the branch that an addition closes, if it is a residual one."""
    a, b = pair
    for projected in (False, True):
        for skip, end in ((b, a), (a, b)):
            for source in _sources(graph, found, skip, projected):
                if source == end or not ancestors[end] >> source & 1:
                    continue
                layers = _last_layers(graph, ancestors, end, source)
                between = ancestors[end] & ~ancestors[source]
                weights = sum(node.op is Op.LAYER for i, node in enumerate(graph.nodes[: end + 1]) if between >> i & 1)
                if layers and weights > (1 if projected else 0):
                    return Branch(source, layers)
    return None


def _sources(graph: Graph, found: dict[int, Branch], skip: int, projected: bool) -> Iterator[int]:
    """Go back from a shortcut through operations that keep it, and through one layer if it is a projected one."""
    while True:
        node = graph.nodes[skip]
        if not (projected and node.op in (Op.LAYER, Op.THROUGH)):
            yield skip
        stream = found[skip].source if skip in found else None
        if stream is not None:
            skip = stream
        elif len(node.inputs) == 1 and node.op in (Op.THROUGH, Op.MULTIPLY):
            skip = node.inputs[0]
        elif len(node.inputs) == 1 and node.op is Op.LAYER and projected:
            yield node.inputs[0]
            return
        else:
            return


def _last_layers(graph: Graph, ancestors: list[int], end: int, source: int) -> tuple[nn.Module, ...]:
    """Return the weight layers from which a branch's output comes without another one between."""
    layers: dict[nn.Module, None] = {}
    ahead, seen = [end], {end}
    while ahead:
        number = ahead.pop()
        node = graph.nodes[number]
        if number == source or not ancestors[number] >> source & 1:
            continue
        if node.op is Op.LAYER and node.layer is not None:
            layers.update(dict.fromkeys(closing_layers(node.layer)[-1:] or [node.layer]))
            continue
        inputs = node.inputs
        if node.op is Op.MIX:  # of attention, the values
            inputs = inputs[-1:]
        elif node.op is Op.MULTIPLY:  # of a gated branch, what is gated
            inputs = tuple(i for i in inputs if graph.nodes[i].op is not Op.ACTIVATION) or inputs
        for each in inputs:
            if each not in seen:
                seen.add(each)
                ahead.append(each)
    return tuple(layers)


def _previous(graph: Graph, branches: dict[int, Branch], source: int | None) -> int | None:
    """Return the residual addition from which a stream comes."""
    ahead = [] if source is None else [source]
    seen = set(ahead)
    while ahead:
        number = ahead.pop()
        if number in branches:
            return number
        node = graph.nodes[number]
        if node.op in (Op.THROUGH, Op.ADD, Op.MULTIPLY, Op.ACTIVATION, Op.PIECE):
            for each in node.inputs:
                if each not in seen:
                    seen.add(each)
                    ahead.append(each)
    return None
