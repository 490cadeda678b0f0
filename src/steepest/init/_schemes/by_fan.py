"""The schemes that keep the size of activations or gradients from layer to layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Generator, Tensor, nn

from steepest._check import one_of
from steepest.init._activations import activation_of_name
from steepest.init._fill.fill import Fill
from steepest.init._initializer import Initializer
from steepest.init._layers.layer import Layer

__all__ = ["He", "Orthogonal", "Xavier"]


@dataclass(frozen=True)
class He(Initializer):
    """Weights N(0, gain^2/fan): the size of activations (fan_in) or of gradients (fan_out) stays from layer to layer.

    Args:
        mode: "fan_in" or "fan_out".
        nonlinearity: The nonlinearity, by its name in torch, whose gain is used where a layer's activation is not
            known.

    Raises:
        InvalidArgument: If the mode is neither.
        UnknownName: If there is no such nonlinearity.

    Source: He et al., "Delving Deep into Rectifiers" (2015, arXiv:1502.01852), equations 10 and 14.
    """

    mode: Literal["fan_in", "fan_out"] = "fan_in"
    nonlinearity: str = "relu"

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("fan_in", "fan_out"))
        activation_of_name(self.nonlinearity)

    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:
        """Fill with N(0, gain^2/fan)."""
        fan, gain = layer.fan(self.mode), layer.gain(self.nonlinearity)
        std = gain / math.sqrt(fan)
        nn.init.normal_(weight, std=std, generator=generator)
        return Fill(f"He {self.mode}={fan:g}, {layer.followed_by(self.nonlinearity)}", std, fan, gain)


@dataclass(frozen=True)
class Xavier(Initializer):
    """Weights N(0, gain^2 2/(fan_in + fan_out)): a compromise between the sizes of activations and of gradients.

    The fan in the table is the mean of both.

    Args:
        nonlinearity: Whose gain a layer gets where its activation cannot be known.

    Raises:
        UnknownName: If there is no such nonlinearity.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010).
    """

    nonlinearity: str = "relu"

    def __post_init__(self) -> None:
        activation_of_name(self.nonlinearity)

    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:
        """Fill with N(0, gain^2 2/(fan_in + fan_out))."""
        fan_in, fan_out, gain = layer.fan("fan_in"), layer.fan("fan_out"), layer.gain(self.nonlinearity)
        fan = (fan_in + fan_out) / 2
        std = gain / math.sqrt(fan)
        nn.init.normal_(weight, std=std, generator=generator)
        rule = f"Xavier fan_in={fan_in:g} fan_out={fan_out:g}, {layer.followed_by(self.nonlinearity)}"
        return Fill(rule, std, fan, gain)


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """Weights gain * Q, Q with orthonormal rows or columns; a kernel as outputs x (inputs * kernel).

    An entry's standard deviation is gain/sqrt(max(rows, columns)), the square root of which is the fan in the table.

    Args:
        nonlinearity: Whose gain a layer gets where its activation cannot be known.

    Raises:
        UnknownName: If there is no such nonlinearity.

    Source: Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear networks" (2013,
    arXiv:1312.6120).
    """

    nonlinearity: str = "relu"

    def __post_init__(self) -> None:
        activation_of_name(self.nonlinearity)

    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:
        """Fill with gain * Q."""
        gain = layer.gain(self.nonlinearity)
        fan, std = fill_orthogonal(weight, layer, gain, generator)
        return Fill(f"orthogonal, {layer.followed_by(self.nonlinearity)}", std, fan, gain)


def fill_orthogonal(weight: Tensor, layer: Layer, gain: float, generator: Generator) -> tuple[float, float]:
    """Fill a weight with gain * Q; return the larger side of Q and the standard deviation of the entries."""
    layer.fan("fan_in")  # it refuses what has none
    nn.init.orthogonal_(weight, gain=gain, generator=generator)
    fan = float(max(weight.shape[0], weight.numel() // weight.shape[0]))
    return fan, gain / math.sqrt(fan)
