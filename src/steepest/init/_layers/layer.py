"""What a scheme knows of a weight: its fans and the activation behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from steepest._check import one_of
from steepest.errors import InvalidArgument
from steepest.init._activations import NONE, Activation, activation_of_name
from steepest.init._layers.kinds import is_transformers_conv1d

__all__ = ["Layer", "as_stored", "canonical_shape", "fans_of"]


@dataclass(frozen=True)
class Layer:
    """A weight's place in its model.

    Attributes:
        name: The parameter's name.
        fan_in: The inputs that an output sums over; 0 where the weight has none.
        fan_out: The outputs that an input reaches; 0 where it has none.
        activation: The activation that follows; None where it is not known or there are several.
        reason: Why it is None, in words.

    >>> layer = Layer("0.weight", fan_in=50, fan_out=10, activation=Activation("relu"))
    >>> layer.fan("fan_in"), round(layer.gain(), 4), layer.followed_by()
    (50, 1.4142, 'relu')
    >>> Layer("0.weight", 50, 10, activation=None).followed_by("tanh")
    'activation unknown; taken as tanh'
    """

    name: str
    fan_in: float
    fan_out: float
    activation: Activation | None = NONE
    reason: str = "activation unknown"

    def fan(self, mode: Literal["fan_in", "fan_out"]) -> float:
        """Return one of the fans.

        Raises:
            InvalidArgument: If the weight has no fans, having fewer than two dimensions or a dimension of size zero.
        """
        one_of("mode", mode, ("fan_in", "fan_out"))
        if not (self.fan_in > 0 and self.fan_out > 0):
            raise InvalidArgument(
                f"a weight that is filled by its {mode} must have two dimensions or more, none of them of size zero",
                got=self.name,
                remedy="Use Normal or Constant, which need no fan, or change the layer.",
            )
        return self.fan_in if mode == "fan_in" else self.fan_out

    def gain(self, otherwise: str = "relu") -> float:
        """Return the activation's gain, or where that is not known that of the activation named."""
        named = activation_of_name(otherwise)
        return (self.activation or named).gain

    def followed_by(self, otherwise: str = "relu") -> str:
        """Describe the activation that follows, and the one that is assumed where it is not known."""
        activation_of_name(otherwise)
        if self.activation is None:
            return f"{self.reason}; taken as {otherwise}"
        return "no activation" if self.activation == NONE else str(self.activation)


def canonical_shape(module: nn.Module, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a layer's weight as outputs x inputs x kernel, inputs being those of one group."""
    if is_transformers_conv1d(module) and len(shape) == 2:
        return (shape[1], shape[0])
    if isinstance(module, _ConvTransposeNd):
        return (shape[1] * module.groups, shape[0] // module.groups, *shape[2:])
    return tuple(shape)


def as_stored(module: nn.Module, weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a weight of `canonical_shape` in the layer's own layout, which has the given shape."""
    if is_transformers_conv1d(module) and len(shape) == 2:
        return weight.t()
    if isinstance(module, _ConvTransposeNd):
        groups = module.groups
        return weight.unflatten(0, (groups, -1)).transpose(1, 2).reshape(torch.Size(shape))
    return weight


def fans_of(module: nn.Module, shape: Sequence[int]) -> tuple[float, float]:
    """Return fan-in and fan-out of a weight of `canonical_shape`, or of a part of one; zeros where it has none.

    fan_in = inputs / groups * kernel and fan_out = outputs / groups * kernel: the connections of an output and of an
    input away from the borders at stride 1. They are `torch.nn.init`'s, with two differences. Its fan_out of a grouped
    convolution counts the other groups too. And it takes the weight of a transposed convolution for a convolution's:
    here fan_in is what an output gets from its inputs, inputs / groups * prod(max(1, kernel / stride)), on average.

    >>> fans_of(nn.ConvTranspose2d(8, 6, 4, stride=2), (6, 8, 4, 4))
    (32.0, 96.0)
    """
    if len(shape) < 2 or 0 in shape:
        return 0.0, 0.0
    outputs, inputs, *kernel = shape
    size = math.prod(kernel)
    attributes: Any = module
    if isinstance(module, _ConvTransposeNd):
        reach = math.prod(max(1.0, k / s) for k, s in zip(kernel, attributes.stride, strict=True))
        return inputs * reach, float(outputs // module.groups * size)
    groups = attributes.groups if isinstance(module, nn.modules.conv._ConvNd) else 1
    return float(inputs * size), float(outputs // groups * size)
