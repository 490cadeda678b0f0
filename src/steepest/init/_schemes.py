"""The schemes: zero, random, He, and the model's own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from steepest.errors import InvalidArgument
from steepest.init._table import InitRow, InitTable

__all__ = ["SCHEMES", "Default", "He", "Initializer", "Normal", "Zero"]


class Initializer(ABC):
    """How a whole model starts: fills the parameters in place and says what it did.

    A subclass owes `weight`, the rule for one weight matrix or kernel. The rest is the same for all:
    biases are zero, norm layers 1 and 0, embeddings as `embedding` says; a parameter that belongs to
    none of these (a bare one) stays as the model made it, and the table says so.
    """

    @abstractmethod
    def weight(self, weight: Tensor, generator: Generator) -> tuple[str, float]:
        """Fill one weight (out x in x kernel) in place; return the rule and the standard deviation asked."""

    def embedding(self, weight: Tensor, generator: Generator) -> tuple[str, float]:
        """Fill one embedding (entries x dimension) in place: N(0, 1/dimension)."""
        std = weight.shape[1] ** -0.5
        nn.init.normal_(weight, std=std, generator=generator)
        return "N(0, 1/dimension)", std

    def __call__(self, model: nn.Module, generator: Generator) -> InitTable:
        """Fill every parameter of the model in place and return what was done."""
        rows: list[InitRow] = []
        owner = {
            f"{prefix}.{name}" if prefix else name: module
            for prefix, module in model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                rule, std = self._fill(owner[name], name.rpartition(".")[2], parameter, generator)
                rows.append(InitRow(name, rule, std, float(parameter.std(correction=0))))
        return InitTable(tuple(rows))

    def _fill(self, module: nn.Module, name: str, parameter: Tensor, generator: Generator) -> tuple[str, float]:
        if isinstance(module, _NORM_LAYERS):
            return _constant(parameter, 1.0 if name == "weight" else 0.0)
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            filled = self.embedding(parameter, generator)
            if module.padding_idx is not None:
                parameter[module.padding_idx] = 0
            return filled
        if name == "bias" or ("bias" in name and isinstance(module, (*_WEIGHT_LAYERS, *_RECURRENT_LAYERS))):
            return _constant(parameter, 0.0)
        if isinstance(module, nn.MultiheadAttention) and name == "in_proj_weight":
            filled = [self.weight(part, generator) for part in parameter.chunk(3)]
            return f"{filled[0][0]}, per projection", filled[0][1]
        if isinstance(module, _RECURRENT_LAYERS) and name.startswith("weight"):
            gates = parameter.shape[0] // module.hidden_size
            filled = [self.weight(part, generator) for part in parameter.chunk(max(gates, 1))]
            return f"{filled[0][0]}, per gate", filled[0][1]
        if isinstance(module, _WEIGHT_LAYERS) and parameter.ndim >= 2:
            return self.weight(parameter, generator)
        return f"as {type(module).__name__} made it", math.nan


_NORM_LAYERS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)
_RECURRENT_LAYERS = (nn.RNNBase, nn.RNNCellBase)
_WEIGHT_LAYERS = (nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.modules.conv._ConvNd)


def _constant(parameter: Tensor, value: float) -> tuple[str, float]:
    nn.init.constant_(parameter, value)
    return f"constant {value:g}", 0.0


@dataclass(frozen=True)
class Zero(Initializer):
    """All weights, biases and embeddings zero; norm layers 1 and 0."""

    def weight(self, weight: Tensor, generator: Generator) -> tuple[str, float]:  # noqa: ARG002
        """Fill with zeros."""
        return _constant(weight, 0.0)

    def embedding(self, weight: Tensor, generator: Generator) -> tuple[str, float]:
        """Fill with zeros."""
        return self.weight(weight, generator)


@dataclass(frozen=True)
class Normal(Initializer):
    """Weights and embeddings N(0, std^2).

    Args:
        std: The standard deviation, > 0.

    Raises:
        InvalidArgument: If std is not a finite positive number.
    """

    std: float = 0.01

    def __post_init__(self) -> None:
        if not (math.isfinite(self.std) and self.std > 0):
            raise InvalidArgument(
                "std must be a finite number above 0", got=self.std, remedy="Pass std > 0, or use Zero."
            )

    def weight(self, weight: Tensor, generator: Generator) -> tuple[str, float]:
        """Fill with N(0, std^2)."""
        nn.init.normal_(weight, std=self.std, generator=generator)
        return f"N(0, {self.std:g}^2)", self.std

    def embedding(self, weight: Tensor, generator: Generator) -> tuple[str, float]:
        """Fill with N(0, std^2)."""
        return self.weight(weight, generator)


@dataclass(frozen=True)
class He(Initializer):
    """Weights N(0, 2/fan), which keeps the size of activations (fan_in) or gradients (fan_out) under ReLU.

    Args:
        mode: "fan_in" or "fan_out".

    Source: He et al., "Delving Deep into Rectifiers" (2015), equation 10.
    """

    mode: Literal["fan_in", "fan_out"] = "fan_in"

    def __post_init__(self) -> None:
        if self.mode not in ("fan_in", "fan_out"):
            raise InvalidArgument('mode must be "fan_in" or "fan_out"', got=self.mode, remedy="Choose one of them.")

    def weight(self, weight: Tensor, generator: Generator) -> tuple[str, float]:
        """Fill with N(0, 2/fan)."""
        nn.init.kaiming_normal_(weight, mode=self.mode, nonlinearity="relu", generator=generator)
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
        fan = fan_in if self.mode == "fan_in" else fan_out
        return f"He {self.mode}={fan}", math.sqrt(2 / fan)


@dataclass(frozen=True)
class Default(Initializer):
    """Whatever the model's own constructor did."""

    def __call__(self, model: nn.Module, generator: Generator) -> InitTable:  # noqa: ARG002
        """Change nothing; return the table of what is there."""
        return InitTable(
            tuple(
                InitRow(name, "as the model made it", math.nan, float(p.detach().std(correction=0)))
                for name, p in model.named_parameters()
            )
        )

    def weight(self, weight: Tensor, generator: Generator) -> tuple[str, float]:  # noqa: ARG002
        """Change nothing."""
        return "as the model made it", math.nan


SCHEMES: dict[str, type[Initializer]] = {
    "zero": Zero,
    "random": Normal,
    "normal": Normal,
    "he": He,
    "default": Default,
}
"""Every scheme that has a name, made with its default options."""
