"""The graph of a model's operations, as far as an initialisation needs it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from torch import nn

from steepest.init._activations import Activation

__all__ = ["Graph", "Node", "Op"]


class Op(Enum):
    """The meaning of an operation for the layer in front of it.

    Attributes:
        SOURCE: An input, or a tensor whose origin is not followed.
        LAYER: A weight layer.
        ACTIVATION: A known nonlinearity.
        THROUGH: Shape only, linear without weights, normalisation, pooling or dropout.
        PIECE: As THROUGH, and only a part of the tensor.
        ADD: A sum of two.
        MULTIPLY: An elementwise product or quotient.
        MIX: A matrix product, a softmax, a loss: what meets it has no activation of its own.
        UNKNOWN: An operation that may be an activation.
        EXIT: Where the trace ends before the model does.
        ASIDE: A question about shape, type or statistics, which is no activation.
        OUTPUT: The model's output.
    """

    SOURCE, LAYER, ACTIVATION, THROUGH, PIECE, ADD, MULTIPLY, MIX, UNKNOWN, EXIT, ASIDE, OUTPUT = range(12)


@dataclass(frozen=True)
class Node:
    """A step: its kind, the steps whose tensors it takes, and the layer or activation that it calls.

    `branches` counts the residual additions inside of a composite module.
    """

    op: Op
    inputs: tuple[int, ...] = ()
    layer: nn.Module | None = None
    activation: Activation | None = None
    branches: int = 0


@dataclass
class Graph:
    """Steps in an order in which each comes after its inputs.

    Attributes:
        nodes: The steps.
        complete: Whether they are all of one run of the model; if not, they are pieces without their connections.
    """

    nodes: list[Node] = field(default_factory=list[Node])
    complete: bool = True

    def add(
        self,
        op: Op,
        inputs: Iterable[int] = (),
        layer: nn.Module | None = None,
        activation: Activation | None = None,
        branches: int = 0,
    ) -> int:
        """Append a step and return its number."""
        self.nodes.append(Node(op, tuple(inputs), layer, activation, branches))
        return len(self.nodes) - 1

    def consumers(self) -> list[list[int]]:
        """Return for each step those that take its tensors."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for number, node in enumerate(self.nodes):
            for source in dict.fromkeys(node.inputs):
                found[source].append(number)
        return found

    def ancestors(self, past_layers: bool) -> list[int]:
        """Return for each step the set of itself and all before it, as the bits of a number.

        Args:
            past_layers: Whether to go on behind a weight layer.
        """
        found: list[int] = []
        for number, node in enumerate(self.nodes):
            # A shape carries no values on: pos_embedding(arange(x.shape[1])) does not descend from x.
            behind = node.op is not Op.ASIDE and (past_layers or node.op is not Op.LAYER)
            bits = 1 << number
            for source in node.inputs if behind else ():
                bits |= found[source]
            found.append(bits)
        return found
