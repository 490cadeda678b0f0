"""The operations between a model's layers, found by a run on data or a symbolic trace, and by fixed rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from steepest.errors import InvalidArgument
from steepest.init._activations import NONE, Activation
from steepest.init._graph.followers import followers
from steepest.init._graph.graph import Graph
from steepest.init._graph.recorder import Inputs, record_call, record_run
from steepest.init._graph.symbolic import trace_symbolically
from steepest.init._graph.untouched import untouched
from steepest.init._layers.kinds import is_composite, unwrapped

__all__ = ["activations", "run_untouched", "trace"]

Met = dict[nn.Module, set[Activation | None]]


def trace(model: nn.Module, data: Any = None) -> Graph:
    """Return the graph of a model: of one run on data, or without data of a symbolic one. The model stays as it is.

    Raises:
        InvalidArgument: If the model cannot be called with the data.
    """
    model = unwrapped(model)
    if data is not None:
        return run_untouched(lambda inputs: record_run(model, inputs), model, data)
    with untouched(model):
        return trace_symbolically(model)


def run_untouched(run: Callable[[Inputs], Any], model: nn.Module, data: Any) -> Any:
    """Return run(inputs) for copies of the data, made while the model is `untouched`.

    Raises:
        InvalidArgument: If that fails.
    """
    inputs = data if isinstance(data, (tuple, dict)) else (data,)
    with untouched(model):
        try:
            return run(tree_map_only(Tensor, torch.clone, inputs))
        except Exception as error:
            raise InvalidArgument(
                "data must be what the model is called with: a tensor, or a tuple or a dict of its inputs",
                got=f"{type(error).__name__}: {error}",
                remedy="Pass one batch, on the model's device.",
            ) from error


def activations(model: nn.Module, graph: Graph) -> Met:
    """Return for each weight layer what may follow it, `NONE` where nothing does and None where it is not known.

    Rules take precedence over the graph:

    | layer                                        | followed by                                                |
    |----------------------------------------------|------------------------------------------------------------|
    | MultiheadAttention, all projections          | none                                                       |
    | TransformerEncoderLayer, -DecoderLayer       | linear1: its `activation`; linear2: none                   |
    | RNN, RNNCell                                 | its nonlinearity                                           |
    | LSTM, GRU and their cells                    | sigmoid, for all gates: one row of the table has one gain  |
    """
    return {**followers(graph), **_by_rule(model)}


def _by_rule(model: nn.Module) -> Met:
    met: Met = {}
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            met |= {module: {NONE}, module.out_proj: {NONE}}
        elif isinstance(module, (nn.RNN, nn.RNNCell)):
            met[module] = {Activation(str(module.nonlinearity))}
        elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            met[module] = {Activation("sigmoid")}
        elif isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)) and is_composite(module):
            met |= {module.linear1: _of_callable(module.activation, module.linear1), module.linear2: {NONE}}
    return met


def _of_callable(function: Callable[[Tensor], Tensor], layer: nn.Module) -> set[Activation | None]:
    """Return what a function does to the outputs of a layer: it is called once."""
    first = next(layer.parameters(), torch.empty(0))
    x = torch.linspace(-3, 3, 64, device=first.device).reshape(8, 8)
    try:
        with untouched(function if isinstance(function, nn.Module) else layer):
            return followers(record_call(function, x, layer))[layer] or {None}
    except Exception:  # a user's function may need anything that is missing here
        return {None}
