"""The interface of schemes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from steepest import _check
from steepest.init._arguments import check_data, check_model, untrained
from steepest.init._fill.fill import Fill
from steepest.init._fill.model import Filled, Setting, fill_model
from steepest.init._fill.residual import scale_branches
from steepest.init._graph.trace import activations, trace
from steepest.init._layers.layer import Layer
from steepest.init._table import InitTable

__all__ = ["Initializer"]


class Initializer(ABC):
    """A scheme: fills the parameters of a whole model in place and returns what it did.

    A subclass must implement `weight`, the rule for one weight. The rest is the same for all schemes (see
    `initialize`). It may override `embedding`, and declare that it does not use the activation behind a layer, which
    then need not be found.

    >>> class Uniform(Initializer):
    ...     def weight(self, weight, layer, generator):
    ...         std = layer.gain() / layer.fan("fan_in") ** 0.5
    ...         nn.init.uniform_(weight, -(3**0.5) * std, 3**0.5 * std, generator=generator)
    ...         return Fill(f"uniform, {layer.followed_by()}", std)
    >>> model = nn.Sequential(nn.Linear(50, 50), nn.ReLU())
    >>> Uniform()(model, torch.Generator())["0.weight"].rule
    'uniform, relu'
    """

    reads_activation: ClassVar[bool] = True
    """Whether the scheme asks for `layer.gain()`, `.followed_by()` or `.activation`; if not, no trace is made."""

    @abstractmethod
    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:
        """Fill one weight in place and return what was done.

        Args:
            weight: Zeros of shape outputs x inputs x kernel, however the layer stores them; one projection or one gate
                of a fused weight. On the generator's device, and in float32 for a parameter of half precision.
            layer: Its fans and what follows it.
            generator: The only source of randomness.
        """

    def embedding(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:
        """Fill one embedding (entries x dimension) in place, N(0, 1/dimension), and return what was done."""
        std = max(1.0, layer.fan_in) ** -0.5
        nn.init.normal_(weight, std=std, generator=generator)
        return Fill("N(0, 1/dimension)", std, fan=layer.fan_in)

    def _inputs(self, data: Any) -> Any:
        """Return the data to use, given the data of the call (or None)."""
        return data

    def _start(self, model: nn.Module, generator: Generator, data: Any, setting: Setting) -> list[Filled]:  # noqa: ARG002
        """Fill every parameter and return what was done."""
        return fill_model(self, model, generator, setting)

    def __call__(
        self,
        model: nn.Module,
        generator: Generator,
        data: Any = None,
        *,
        biases: Literal["zero", "keep"] = "zero",
        depth_scaled: bool = False,
        frozen: Sequence[str] = (),
    ) -> InitTable:
        """Fill every parameter of the model in place and return what was done; `initialize` says all of it."""
        check_model(model)
        _check.generator("generator", generator)
        _check.one_of("biases", biases, ("zero", "keep"))
        _check.boolean("depth_scaled", depth_scaled)
        left = untrained(model, frozen)
        data = self._inputs(data)
        check_data(model, data)
        graph = trace(model, data) if self.reads_activation or depth_scaled else None
        met = activations(model, graph) if graph and self.reads_activation else {}
        with torch.no_grad():
            starts = self._start(model, generator, data, Setting(met, data is not None, biases == "keep", left))
            if graph and depth_scaled:
                scale_branches(model, graph, starts)
            return InitTable(tuple(start.row() for start in starts))
