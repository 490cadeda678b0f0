"""A leaf module as one step of a graph."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from steepest._layers import EMBEDDINGS
from steepest.init._activations import Activation
from steepest.init._graph.graph import Graph, Op
from steepest.init._layers.kinds import closing_layers, is_composite, is_norm, is_weight_layer

__all__ = ["add_step"]


def add_step(graph: Graph, module: nn.Module, inputs: Sequence[int]) -> int:
    """Append a module as one step and return the step's number."""
    if is_norm(module):
        return graph.add(Op.THROUGH, inputs[:1], layer=module)
    if isinstance(module, nn.PReLU):
        slope = float(module.weight.detach().float().mean()) if module.weight.numel() else 0.25
        return graph.add(Op.ACTIVATION, inputs[:1], activation=Activation("leaky_relu", (slope,)))
    if isinstance(module, nn.Transformer) and is_composite(module):  # two streams, of which the second is returned
        memory = add_step(graph, module.encoder, inputs[:1])
        return add_step(graph, module.decoder, [*(inputs[1:2] or inputs[:1]), memory])
    if is_composite(module):
        return graph.add(Op.LAYER, inputs, layer=module, branches=len(closing_layers(module)))
    if isinstance(module, nn.MultiheadAttention):  # its output projection is what the output comes from
        return graph.add(Op.LAYER, inputs, layer=module.out_proj)
    if is_weight_layer(module) or isinstance(module, EMBEDDINGS):
        return graph.add(Op.LAYER, inputs, layer=module)
    return graph.add(Op.UNKNOWN, inputs, layer=module)
