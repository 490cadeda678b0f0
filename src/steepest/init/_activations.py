"""The nonlinearities by name, and the gain with which a weight in front of each keeps the size of activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steepest._check import instance, one_of
from steepest.errors import InvalidArgument, UnknownName

__all__ = ["NONE", "Activation", "activation_of_call", "activation_of_name"]


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity f, given by its name and options; "none" is the identity.

    Raises:
        InvalidArgument: If there is none of that name, or it does not take the options.

    >>> Activation("leaky_relu", (0.2,))
    Activation(name='leaky_relu', arguments=(0.2,))
    >>> str(Activation("leaky_relu", (0.2,))), round(Activation("gelu").gain, 3)
    ('leaky_relu(0.2)', 1.534)
    """

    name: str
    arguments: tuple[float | str, ...] = ()

    def __post_init__(self) -> None:
        one_of("name", self.name, (*_BY_TORCH, *_BY_MOMENT))
        try:
            _gain(self.name, self.arguments)
        except Exception as error:
            rule = f"arguments must be a tuple of options that {self.name} takes"
            raise InvalidArgument(rule, got=self.arguments, remedy="Leave them out for torch's defaults.") from error

    @property
    def gain(self) -> float:
        """The factor of a weight's standard deviation: `torch.nn.init.calculate_gain` where it knows f.

        For the others g = 1/sqrt(E[f(z)^2]) with z ~ N(0, 1), so that a weight of standard deviation g/sqrt(fan_in)
        preserves the mean square of its input. (For relu and leaky_relu this is torch's value; its tanh 5/3, selu 3/4
        and sigmoid 1 are conventions.) Of a gated f, glu, both halves are independent normals.
        """
        return _gain(self.name, self.arguments)

    def __str__(self) -> str:
        defaults = tuple(default for _, default in _OPTIONS.get(self.name, ()))
        shown = "" if self.arguments in ((), defaults) else f"({', '.join(_text(a) for a in self.arguments)})"
        return f"{self.name}{shown}"


def _text(argument: float | str) -> str:
    return argument if isinstance(argument, str) else f"{argument:g}"


_OPTIONS: dict[str, tuple[tuple[str, float | str], ...]] = {
    "leaky_relu": (("negative_slope", 0.01),),
    "elu": (("alpha", 1.0),),
    "celu": (("alpha", 1.0),),
    "gelu": (("approximate", "none"),),
    "softplus": (("beta", 1.0), ("threshold", 20.0)),
    "hardtanh": (("min_val", -1.0), ("max_val", 1.0)),
    "hardshrink": (("lambd", 0.5),),
    "softshrink": (("lambd", 0.5),),
    "rrelu": (("lower", 1 / 8), ("upper", 1 / 3)),
    "clamp": (("min", -math.inf), ("max", math.inf)),
    "clamp_min": (("min", -math.inf),),
    "clamp_max": (("max", math.inf),),
}
_BY_TORCH = ("none", "relu", "leaky_relu", "tanh", "sigmoid", "selu")
_BY_MOMENT: dict[str, Callable[..., Tensor]] = {
    "gelu": lambda z, approximate: F.gelu(z, approximate=approximate),
    "silu": F.silu,
    "elu": F.elu,
    "celu": F.celu,
    "mish": F.mish,
    "softplus": F.softplus,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "clamp": lambda z, low, high: z.clamp(low, high),
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    # E[(a sigmoid(b))^2] = E[a^2] E[sigmoid(b)^2] = E[sigmoid(b)^2] for independent a, b ~ N(0, 1).
    "glu": torch.sigmoid,
}
_ALIASES = {
    "swish": "silu",
    "linear": "none",
    "expit": "sigmoid",
    "special_expit": "sigmoid",
    "clip": "clamp",
    "log_sigmoid": "logsigmoid",
}
_SEVERAL = {"relu6": ("hardtanh", (0.0, 6.0))}
_KNOWN = {*_BY_TORCH, *_BY_MOMENT, *_ALIASES, *_SEVERAL, "rrelu", "clamp_min", "clamp_max"}


def activation_of_name(name: str) -> Activation:
    """Return the activation of that name, with its default options.

    Raises:
        UnknownName: If there is none.
    """
    found = activation_of_call(name, (), {}) if instance("nonlinearity", name, str, "a string") in _KNOWN else None
    if found is None:
        raise UnknownName.among("nonlinearity", name, sorted({*_BY_TORCH, *_BY_MOMENT, *_ALIASES, *_SEVERAL}))
    return found


def activation_of_call(name: str, positional: Sequence[Any], keywords: Mapping[str, Any]) -> Activation | None:
    """Return what a function of this name does when it is called so; None where that is not known.

    Args:
        name: The function's name without underscores at its ends.
        positional: What it is called with after its first argument.
        keywords: What it is called with by name.

    >>> activation_of_call("clamp", (), {"min": 0})
    Activation(name='relu', arguments=())
    """
    name = _ALIASES.get(name, name)
    if name in _SEVERAL:
        return Activation(*_SEVERAL[name])
    if name not in _KNOWN:
        return None
    arguments: list[float | str] = []
    for i, (keyword, default) in enumerate(_OPTIONS.get(name, ())):
        value = positional[i] if i < len(positional) else keywords.get(keyword)
        value = default if value is None else value
        if not isinstance(value, str if isinstance(default, str) else (int, float)):
            return None  # a tensor, or something that is not known before the model runs
        arguments.append(value if isinstance(value, str) else float(value))
    return _plain(name, tuple(arguments))


def _plain(name: str, arguments: tuple[Any, ...]) -> Activation | None:
    """Return a known function under the name by which its gain is found; None if its output is always 0."""
    if name == "rrelu":  # its slope is drawn; this is the mean, as in eval mode
        return Activation("leaky_relu", ((arguments[0] + arguments[1]) / 2,))
    if name in ("clamp_min", "clamp_max"):
        arguments = (*arguments, math.inf) if name == "clamp_min" else (-math.inf, *arguments)
        name = "clamp"
    if name == "clamp" and arguments == (-math.inf, math.inf):
        return NONE
    if name == "clamp" and arguments == (0, math.inf):
        return Activation("relu")
    found = Activation(name, arguments)
    return found if math.isfinite(found.gain) else None


@lru_cache(maxsize=256)
def _gain(name: str, arguments: tuple[Any, ...]) -> float:
    if name in _BY_TORCH:
        return float(nn.init.calculate_gain("linear" if name == "none" else name, *arguments))  # pyright: ignore[reportArgumentType]
    if not arguments:
        arguments = tuple(default for _, default in _OPTIONS.get(name, ()))
    # The trapezoid rule: as good as exact for a smooth f, and within 1e-6 for one with kinks, where Gauss-Hermite
    # of any practical order is off by 1e-3.
    z = torch.linspace(-12, 12, 24001, dtype=torch.float64, device="cpu")
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    with torch.no_grad():
        moment = float(torch.trapezoid(_BY_MOMENT[name](z, *arguments).square() * density, z))
    return 1 / math.sqrt(moment) if moment > 0 else math.inf


NONE = Activation("none")
"""The activation of a layer whose output goes unchanged into the next layer, a softmax, a product or the output."""
