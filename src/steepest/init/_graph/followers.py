"""The first activation behind each layer of a graph."""

from __future__ import annotations

from torch import nn

from steepest.init._activations import NONE, Activation
from steepest.init._graph.graph import Graph, Op

__all__ = ["followers"]


def followers(graph: Graph) -> dict[nn.Module, set[Activation | None]]:
    """Return for each weight layer what its outputs meet first on each path: activations, `NONE`, or None for unknown.

    The paths lead through shapes, sums, scalings, norms, pooling and dropout, and end at an activation, the next weight
    layer or the output. Where a tensor is multiplied by a function of itself, as in x * sigmoid(x), that product is an
    unknown activation. For a layer that is called several times, all its calls count.
    """
    consumers = graph.consumers()
    ancestors = graph.ancestors(past_layers=False)
    found: dict[nn.Module, set[Activation | None]] = {}
    for number, node in enumerate(graph.nodes):
        if node.op is Op.LAYER and node.layer is not None:
            found.setdefault(node.layer, set()).update(_met(graph, consumers, ancestors, number))
    return found


def _met(graph: Graph, consumers: list[list[int]], ancestors: list[int], layer: int) -> set[Activation | None]:
    met: set[Activation | None] = set()
    seen = {layer}
    ahead = [(layer, layer)]  # a step, and the last one on the path at which the tensor became another part of itself
    while ahead:
        number, origin = ahead.pop()
        for follower in consumers[number]:
            node = graph.nodes[follower]
            if node.op in (Op.LAYER, Op.MIX, Op.OUTPUT):
                met.add(NONE)
            elif node.op is Op.ACTIVATION:
                met.add(None if _goes_on(graph, consumers, follower) else node.activation)
            elif node.op in (Op.UNKNOWN, Op.EXIT) or (
                node.op is Op.MULTIPLY and _by_itself(node.inputs, number, origin, ancestors)
            ):
                met.add(None)
            elif node.op is not Op.ASIDE and follower not in seen:
                seen.add(follower)
                ahead.append((follower, follower if node.op is Op.PIECE else origin))
    return met


def _by_itself(inputs: tuple[int, ...], number: int, origin: int, ancestors: list[int]) -> bool:
    """Return whether a product's other factor comes from the same tensor."""
    others = [i for i in inputs if i != number] or list(inputs[1:])
    return any(ancestors[other] >> origin & 1 for other in others)


def _goes_on(graph: Graph, consumers: list[list[int]], activation: int) -> bool:
    """Return whether an activation is only the first half of one, as in relu(x) ** 2."""
    return any(graph.nodes[follower].op is Op.UNKNOWN and graph.nodes[follower].layer is None
               for follower in consumers[activation])  # fmt: skip
