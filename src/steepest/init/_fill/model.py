"""Every parameter of a model, filled by the rule for its kind."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from steepest._layers import EMBEDDINGS
from steepest._sharding import local, part_like, whole
from steepest.init._activations import NONE, Activation
from steepest.init._fill.fill import Fill
from steepest.init._layers.kinds import RECURRENT, is_norm, is_transformers_conv1d, is_weight_layer
from steepest.init._layers.layer import Layer, as_stored, canonical_shape, fans_of
from steepest.init._layers.parametrized import Hooked, assign, assign_hooked, hooked_weights, value_of
from steepest.init._table import InitRow

__all__ = ["Filled", "Setting", "fill_model"]


class Scheme(Protocol):
    """Fills one weight, or one embedding, in place and says what it did (see `steepest.init.Initializer`)."""

    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:
        """Fill a weight, outputs x inputs x kernel."""
        ...

    def embedding(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:
        """Fill an embedding, entries x dimension."""
        ...


@dataclass(frozen=True)
class Setting:
    """The plan by which a model is filled.

    Attributes:
        met: The operations that each layer's outputs meet next.
        with_data: Whether that was found by a run on data.
        keep_biases: Whether biases stay as they are.
        left: By name, why a parameter is left unchanged.
    """

    met: dict[nn.Module, set[Activation | None]] = field(default_factory=dict[nn.Module, set[Activation | None]])
    with_data: bool = False
    keep_biases: bool = False
    left: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass
class Filled:
    """One parameter as filled: its name, itself, its layer, what was done; whether as a weight of its own, or left."""

    name: str
    parameter: Tensor
    module: nn.Module
    fill: Fill
    is_weight: bool = False
    left: bool = False

    def row(self) -> InitRow:
        """Measure, and return the row of the table."""
        values = whole(self.parameter.detach())
        if not (values.is_complex() or values.dtype in (torch.float32, torch.float64)):
            values = values.float()
        measured = float(values.std(correction=0)) if values.numel() else math.nan
        return InitRow(self.name, self.fill.rule, self.fill.fan, self.fill.gain, self.fill.std, measured, self.left)


@dataclass(frozen=True)
class Position:
    """A tensor of a layer: the layer and its path, the tensor's name, shape and type, and all layers that share it."""

    path: str
    module: nn.Module
    name: str
    like: Tensor
    owners: tuple[nn.Module, ...]

    @property
    def full_name(self) -> str:
        """The name in `model.named_parameters()`."""
        return f"{self.path}.{self.name}" if self.path else self.name


def fill_model(scheme: Scheme, model: nn.Module, generator: Generator, setting: Setting) -> list[Filled]:
    """Fill every parameter in the order of `model.named_parameters()`."""
    homes: dict[int, list[tuple[str, nn.Module]]] = {}  # of each parameter: all its names, with their modules
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            homes.setdefault(id(parameter), []).append((f"{path}.{name}" if path else name, module))
    modules = dict(model.named_modules(remove_duplicate=False))
    filler = Filler(scheme, generator, setting)
    starts: list[Filled] = []
    parametrized: dict[nn.Module, Fill] = {}
    computed: dict[tuple[nn.Module, str], Fill] = {}
    for name, parameter in model.named_parameters():
        module = homes[id(parameter)][0][1]
        path, _, last = name.rpartition(".")
        if name in setting.left:
            starts.append(Filled(name, parameter, module, Fill(f"left: {setting.left[name]}"), left=True))
            continue
        if isinstance(module, ParametrizationList):
            if module not in parametrized:
                parametrized[module] = filler.fill_parametrized(modules, path, module)
            starts.append(Filled(name, parameter, module, parametrized[module]))
            continue
        hooked = next((each for each in hooked_weights(module) if last in each.parameters), None)
        if hooked is not None:
            if (module, hooked.name) not in computed:
                computed[module, hooked.name] = filler.fill_hooked(path, module, hooked)
            starts.append(Filled(name, parameter, module, computed[module, hooked.name]))
            continue
        owners = tuple(owner for _, owner in homes[id(parameter)])
        module = next((owner for owner in owners if isinstance(owner, EMBEDDINGS)), module)
        position = Position(path, module, last, parameter, owners)
        values, fill = filler.make(position)
        if values is not None:
            _write(parameter, values)
        others = ", ".join(other for other, _ in homes[id(parameter)] if other != name)
        fill = replace(fill, rule=f"{fill.rule}; shared with {others}") if others else fill
        starts.append(Filled(name, parameter, module, fill, values is not None and _is_weight(position)))
    return starts


def _write(parameter: Tensor, values: Tensor) -> None:
    """Copy values, which every process holds whole, into a parameter or this process's part of it."""
    mine = local(parameter)
    mine.copy_(part_like(values.to(device=mine.device, dtype=mine.dtype), parameter))


def _is_weight(position: Position) -> bool:
    return is_weight_layer(position.module) and "bias" not in position.name


class Filler:
    """Makes values for one parameter after the other."""

    def __init__(self, scheme: Scheme, generator: Generator, setting: Setting) -> None:
        self.scheme, self.generator, self.setting = scheme, generator, setting

    def make(self, position: Position) -> tuple[Tensor | None, Fill]:
        """Return the values of a parameter, whole, and a description; None where it stays unchanged."""
        module, name, like = position.module, position.name, position.like
        left = Fill(f"as {type(module).__name__} made it")
        if not like.is_floating_point():
            return None, replace(left, rule=f"{left.rule}, {str(like.dtype).removeprefix('torch.')}")
        if isinstance(module, EMBEDDINGS):
            return self._embedding(module, position)
        if is_norm(module):
            return (
                self._constant(like, 1.0 if name == "weight" else 0.0) if name in ("weight", "bias") else (None, left)
            )
        if name == "bias" or ("bias" in name and is_weight_layer(module)):
            return (None, left) if self.setting.keep_biases else self._constant(like, 0.0)
        if not (is_weight_layer(module) and name in _weight_names(module)):
            return None, left
        return self._weight(position)

    def fill_parametrized(
        self, modules: dict[str, nn.Module], path: str, parametrizations: ParametrizationList
    ) -> Fill:
        """Fill what a parametrization gives, a weight, through its own inverse."""
        path, _, name = path.rpartition("parametrizations.")
        path = path.removesuffix(".")
        module = modules[path]
        current = next(parametrizations.parameters(recurse=False))
        like = value_of(parametrizations)
        values, fill = self.make(Position(path, module, name, like, (module,)))
        if values is None:
            return fill
        if assign(parametrizations, values.to(device=current.device, dtype=current.dtype).contiguous()):
            return replace(fill, rule=f"{fill.rule}, through the parametrization of {name}", std=math.nan)
        return _not_given(path, module, name, type(parametrizations[0]).__name__.strip("_"))

    def fill_hooked(self, path: str, module: nn.Module, hooked: Hooked) -> Fill:
        """Fill the weight that a hook computes, by way of what it is computed from."""
        like = module.get_parameter(hooked.parameters[-1])
        values, fill = self.make(Position(path, module, hooked.name, like, (module,)))
        if values is None:
            return fill
        if assign_hooked(module, hooked, values.to(device=like.device, dtype=like.dtype)):
            return replace(fill, rule=f"{fill.rule}, through {hooked.kind} of {hooked.name}", std=math.nan)
        return _not_given(path, module, hooked.name, hooked.kind)

    def _embedding(self, module: nn.Module, position: Position) -> tuple[Tensor, Fill]:
        values = self._zeros(position.like.shape, position.like)
        entries, dimension = (position.like.shape[0], position.like.shape[-1]) if position.like.ndim else (0, 0)
        fill = self.scheme.embedding(
            values, Layer(position.full_name, float(dimension), float(entries)), self.generator
        )
        padding: int | None = getattr(module, "padding_idx", None)
        if padding is not None:
            values[padding] = 0
        return values, fill

    def _weight(self, position: Position) -> tuple[Tensor, Fill]:
        shape = canonical_shape(position.module, position.like.shape)
        values = self._zeros(shape, position.like)
        count, words = _parts(position, shape)
        fills: list[Fill] = []
        activation, reason = self._behind(position)
        for part in values.chunk(count) if count > 1 else [values]:
            fans = fans_of(position.module, part.shape)
            fills.append(self.scheme.weight(part, Layer(position.full_name, *fans, activation, reason), self.generator))
        fill = replace(fills[0], rule=f"{fills[0].rule}, {words}") if words else fills[0]
        return as_stored(position.module, values, position.like.shape), fill

    def _behind(self, position: Position) -> tuple[Activation | None, str]:
        """Return the one activation that follows, or None and why."""
        met: set[Activation | None] = set()
        for owner in position.owners:
            met |= self.setting.met.get(owner, set())
        if not met and self.setting.with_data and not any(owner in self.setting.met for owner in position.owners):
            return None, "not reached by the data"
        if not met or None in met:
            return None, "activation unknown"
        if len(met) == 1:
            return next(iter(met)), ""
        names = sorted("no activation" if each == NONE else str(each) for each in met)
        return None, f"followed by {' and '.join(names)}"

    def _zeros(self, shape: Any, like: Tensor) -> Tensor:
        # Drawn where the generator is and copied, so that the same seed gives the same bits on every device.
        dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
        return torch.zeros(tuple(shape), dtype=dtype, device=self.generator.device)

    def _constant(self, like: Tensor, value: float) -> tuple[Tensor, Fill]:
        return self._zeros(like.shape, like).fill_(value), Fill(f"constant {value:g}", 0.0)


def _not_given(path: str, module: nn.Module, name: str, kind: str) -> Fill:
    full_name = f"{path}.{name}" if path else name
    warnings.warn(f"{full_name} is as the model made it: {kind} cannot be given this weight.", stacklevel=6)
    return Fill(f"as {type(module).__name__} made it: {kind} cannot be given a weight")


def _weight_names(module: nn.Module) -> tuple[str, ...]:
    if isinstance(module, nn.MultiheadAttention):
        return ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    if isinstance(module, RECURRENT):
        computed = [hooked.name for hooked in hooked_weights(module)]
        return (*computed, *(name for name, _ in module.named_parameters(recurse=False) if name.startswith("weight")))
    return ("weight",)


_FUSED = re.compile(r"(^|_)(w?qkv|in_proj|c_attn|query_key_value)($|_)", re.IGNORECASE)


def _parts(position: Position, shape: tuple[int, ...]) -> tuple[int, str]:
    """Return the number of stacked parts of a weight that are filled separately, and their description."""
    module: Any = position.module
    if position.name == "in_proj_weight" and isinstance(module, nn.MultiheadAttention):
        return 3, "per projection"
    if isinstance(module, RECURRENT):
        # The projection of an LSTM, weight_hr, is no gate.
        return (1, "") if "hr" in position.name else (shape[0] // module.hidden_size, "per gate")
    last = position.path.rpartition(".")[2]
    linear = isinstance(module, nn.Linear) or is_transformers_conv1d(module)
    if linear and len(shape) == 2 and shape[0] == 3 * shape[1] > 0 and _FUSED.search(last):
        return 3, "per projection (fused by its name)"
    return 1, ""
