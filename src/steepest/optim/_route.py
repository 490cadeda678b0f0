"""Which parameter of a model gets which norm: decided by rules, shown as a table, and easy to test."""

from __future__ import annotations

import fnmatch
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from steepest._check import in_range, instance
from steepest._layers import EMBEDDINGS
from steepest.errors import InvalidArgument, UnknownName
from steepest.norms import Blockwise, Flattened, MaxColumn, MaxRow, Norm, Nuclear, Scaled, Schatten, Spectral, Split
from steepest.optim._options import check_rate, check_seen, listed

__all__ = [
    "Predicate",
    "Route",
    "Routing",
    "RoutingRules",
    "Selector",
    "Target",
    "check_route",
    "owners_of",
    "route_by",
]

_OF_MATRICES = (Spectral, Nuclear, Schatten, MaxRow, MaxColumn, Flattened)


@dataclass(frozen=True)
class Route:
    """The norm and the learning-rate factor of a parameter.

    Args:
        norm: The norm of the parameter's steps.
        factor: The factor of its steps, finite and >= 0, independent of any learning-rate schedule.

    Raises:
        InvalidArgument: If norm is not the norm of one tensor, or factor is out of range.
    """

    norm: Norm
    factor: float = 1.0

    def __post_init__(self) -> None:
        norm = cast("object", self.norm)
        if not isinstance(norm, Norm) or isinstance(norm, Blockwise):
            raise InvalidArgument(
                "a rule must lead to the norm of one tensor", got=norm, remedy="Try steepest.norms.Spectral()."
            )
        in_range("factor", self.factor, "[0, inf)", remedy="Try factor=1.")


Predicate = Callable[[str, nn.Module, nn.Parameter], bool]
"""predicate(name, module that owns the parameter, parameter) -> whether the rule applies."""

Selector = str | type[nn.Module] | Predicate
"""A pattern of names as in a shell, a type of the module that owns the parameter, or a predicate."""

Target = Norm | Route | Callable[[nn.Parameter], "Norm | Route"]
"""A norm, a norm with a factor, or a function of the parameter that returns one."""

RoutingRules = Mapping[Any, Target] | Iterable[tuple[Selector, Target]]
"""Rules in the order in which they are tried; the first that applies decides."""


class Routing(Mapping[str, Route]):
    """The `Route` of every trainable parameter by name; prints as a table.

    The table's last column is the length of a constrained step, measured without the scale of the norm.

    Your own tests can assert it: `assert routing["head.weight"].norm == LInf()`.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], kinds: Mapping[str, str], routes: Mapping[str, Route]):
        self._parameters, self._kinds, self._routes = dict(parameters), dict(kinds), dict(routes)

    def __getitem__(self, name: str) -> Route:
        if instance("name", name, str, "a string") not in self._routes:
            raise UnknownName.among("trainable parameter", name, self._routes)
        return self._routes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._routes

    def __iter__(self) -> Iterator[str]:
        return iter(self._routes)

    def __len__(self) -> int:
        return len(self._routes)

    def __str__(self) -> str:
        rows = [("parameter", "shape", "module", "norm", "lr factor", "step")]
        for name, to in self.items():
            by = math.prod(norm.by for norm in _chain(to.norm) if isinstance(norm, Scaled))
            shape = " x ".join(map(str, self._parameters[name].shape)) or "scalar"
            step = f"{to.factor / by:.3g} lr"
            rows.append((name, shape, self._kinds[name], _shown(to.norm), f"{to.factor:g}", step))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def param_groups(self, lr: float | Tensor) -> list[dict[str, Any]]:
        """Return a group for each norm and factor, dicts of named params, norm, factor and lr for `SteepestDescent`."""
        check_rate(lr)
        members: dict[Route, list[tuple[str, nn.Parameter]]] = {}
        for name, to in self.items():
            members.setdefault(to, []).append((name, self._parameters[name]))
        return [{"params": named, "norm": to.norm, "factor": to.factor, "lr": lr} for to, named in members.items()]


def route_by(model: nn.Module, rules: RoutingRules) -> Routing:
    """Give every trainable parameter the norm of the first rule that applies; see `steepest.optim.route`."""
    owners = owners_of(instance("model", model, nn.Module, "a torch.nn.Module"))
    pairs = _pairs(rules)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    routes: dict[str, Route] = {}
    for name, parameter in parameters.items():
        check_seen(name, parameter)
        target = next((to for selector, to in pairs if _applies(selector, owners[parameter], parameter)), None)
        if target is not None:
            routes[name] = check_route(name, parameter, _resolve(target, parameter), [m for _, m in owners[parameter]])
    if missing := [name for name in parameters if name not in routes]:
        raise InvalidArgument(
            "every trainable parameter needs a rule",
            got=f"none for {', '.join(missing)}",
            remedy='End with ("*", steepest.norms.LInf()), or add *scion_rules(model).',
        )
    kinds = {name: type(owners[p][0][1]).__name__ for name, p in parameters.items()}
    return Routing(parameters, kinds, routes)


def _pairs(rules: Any) -> list[tuple[Any, Any]]:
    """Return the rules as pairs, each of a selector and a target."""
    pairs = list(rules.items()) if isinstance(rules, Mapping) else listed("rules", rules, "pairs, or a dict")
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and (isinstance(pair[0], str) or callable(pair[0]))):
            raise InvalidArgument(
                "a rule must be a pair of a selector and a target", got=pair, remedy='Try ("*.bias", LInf()).'
            )
        if not (isinstance(pair[1], (Norm, Route)) or callable(pair[1])):
            raise InvalidArgument(
                "a rule must lead to a norm, a Route or a function", got=pair[1], remedy='Try ("*.bias", LInf()).'
            )
    return pairs


def owners_of(model: nn.Module) -> dict[nn.Parameter, list[tuple[str, nn.Module]]]:
    """Return every name of each parameter with the module that owns it: several where weights are tied.

    A weight that has a parametrization is owned by the layer whose weight it is.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    owners: dict[nn.Parameter, list[tuple[str, nn.Module]]] = {}
    for path, module in model.named_modules():
        owner = module
        if isinstance(module, ParametrizationList):
            owner = modules[path.rpartition("parametrizations.")[0].removesuffix(".")]
        for name, parameter in module.named_parameters(recurse=False):
            owners.setdefault(parameter, []).append((f"{path}.{name}" if path else name, owner))
    return owners


def _applies(selector: Selector, owners: list[tuple[str, nn.Module]], parameter: nn.Parameter) -> bool:
    if isinstance(selector, str):
        return any(fnmatch.fnmatchcase(name, selector) for name, _ in owners)
    if isinstance(selector, type):
        return any(isinstance(module, selector) for _, module in owners)
    return any(selector(name, module, parameter) for name, module in owners)


def _resolve(target: Target, parameter: nn.Parameter) -> Route:
    found = target if isinstance(target, (Norm, Route)) else target(parameter)
    return found if isinstance(found, Route) else Route(found)


def check_route(name: str, parameter: nn.Parameter, to: Route, modules: list[nn.Module]) -> Route:
    """Refuse a norm of matrices for a vector; warn where a spectral norm is almost certainly a mistake."""
    chain = list(_chain(to.norm))
    kind = type(chain[-1]).__name__
    if parameter.ndim < 2 and any(isinstance(norm, _OF_MATRICES) for norm in chain):
        raise InvalidArgument(
            f"{kind} must have a matrix",
            got=f"the parameter {name} of shape {tuple(parameter.shape)}",
            remedy="Put a rule for vectors before it, for example LInf().",
        )
    if isinstance(chain[-1], Spectral):
        if any(isinstance(module, EMBEDDINGS) for module in modules):
            warnings.warn(
                f"{name} is an embedding and steps in the spectral norm, which mixes the vectors of all tokens; "
                "MaxRow() steps each by itself.",
                stacklevel=4,
            )
        elif parameter.ndim > 2 and not any(isinstance(norm, Flattened) for norm in chain):
            warnings.warn(
                f"{name} has {parameter.ndim} dimensions and steps as a stack of matrices of shape "
                f"{tuple(parameter.shape[-2:])}; for a kernel use Flattened(Spectral()).",
                stacklevel=4,
            )
    return to


def _chain(norm: Norm) -> Iterator[Norm]:
    """Yield the norm, what it is built on, and so on."""
    while True:
        yield norm
        inner = getattr(norm, "norm", None)
        if not isinstance(inner, Norm):
            return
        norm = inner


def _shown(norm: Norm) -> str:
    """Return a norm as a table shows it: 2 Spectral for Scaled(Spectral(), by=2)."""
    if isinstance(norm, Scaled):
        return _shown(norm.norm) if norm.by == 1 else f"{norm.by:.3g} {_shown(norm.norm)}"
    if isinstance(norm, Split):
        return f"{_shown(norm.norm)} of {norm.parts} parts"
    if isinstance(norm, Flattened):
        return f"flattened {_shown(norm.norm)}"
    return str(norm).removesuffix("()").replace("(exact=False)", "").replace("(exact=True)", ", exact")
