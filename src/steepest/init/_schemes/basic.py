"""The schemes that use no fan: zero, constant, normal, and the model's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from steepest._check import finite, in_range
from steepest.errors import InvalidArgument
from steepest.init._fill.fill import Fill
from steepest.init._fill.model import Filled, Setting
from steepest.init._initializer import Initializer
from steepest.init._layers.kinds import is_weight_layer
from steepest.init._layers.layer import Layer

__all__ = ["Constant", "Default", "Normal", "Zero"]


def _check_range(name: str, value: float, weight: Tensor) -> None:
    """Raise InvalidArgument unless weights of this dtype can have this size."""
    if abs(value) > torch.finfo(weight.dtype).max / 10:
        raise InvalidArgument(f"{name} must be in the range of {weight.dtype}", got=value, remedy="Pass a smaller one.")


class _Unconditional(Initializer):
    """A scheme that fills all weights and embeddings alike, independent of what follows the layer."""

    reads_activation: ClassVar[bool] = False

    def embedding(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:
        """Fill as any weight."""
        return self.weight(weight, layer, generator)


@dataclass(frozen=True)
class Constant(_Unconditional):
    """All weights and embeddings one value, so that all units of a layer are equal and stay equal.

    Args:
        value: Any finite number.

    Raises:
        InvalidArgument: If it is not finite.
    """

    value: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", finite("value", self.value))

    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:  # noqa: ARG002
        """Fill with the value."""
        _check_range("value", self.value, weight)
        nn.init.constant_(weight, self.value)
        return Fill(f"constant {self.value:g}", 0.0)


@dataclass(frozen=True)
class Zero(_Unconditional):
    """All weights, biases and embeddings zero; norm layers 1 and 0."""

    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:  # noqa: ARG002
        """Fill with zeros."""
        nn.init.zeros_(weight)
        return Fill("constant 0", 0.0)


@dataclass(frozen=True)
class Normal(_Unconditional):
    """Weights and embeddings N(0, std^2).

    Args:
        std: The standard deviation, > 0.

    Raises:
        InvalidArgument: If std is not a finite positive number.
    """

    std: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", in_range("std", self.std, "(0, inf)", remedy="Pass std > 0, or use Zero."))

    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:  # noqa: ARG002
        """Fill with N(0, std^2)."""
        _check_range("std", self.std, weight)
        nn.init.normal_(weight, std=self.std, generator=generator)
        return Fill(f"N(0, {self.std:g}^2)", self.std)


@dataclass(frozen=True)
class Default(Initializer):
    """The initialisation of the model's own constructor."""

    reads_activation: ClassVar[bool] = False

    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:  # noqa: ARG002
        """Return that nothing was changed."""
        return Fill("as the model made it")

    def _start(self, model: nn.Module, generator: Generator, data: Any, setting: Setting) -> list[Filled]:  # noqa: ARG002
        """Change nothing; return what is there."""
        homes = {id(parameter): module for module in model.modules() for parameter in module.parameters(recurse=False)}
        return [
            Filled(name, p, homes[id(p)], Fill("as the model made it"), is_weight_layer(homes[id(p)]))
            for name, p in model.named_parameters()
        ]
