"""Steepest descent with one norm per kind of layer, for a whole model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from steepest._check import instance
from steepest._layers import EMBEDDINGS
from steepest.norms import L2, Flattened, LInf, MaxRow, Scaled, Spectral
from steepest.optim._options import group_of, groups_of, refuse_fixed
from steepest.optim._route import Route, Routing, RoutingRules, Selector, Target, route_by
from steepest.optim._steepest_descent import SteepestDescent

__all__ = ["Scion", "is_embedding", "looks_like_embedding", "route", "scion_rules"]

# Pethick et al. use radii of 50 inside and 3000 at the output of their language models.
_OUTPUT_FACTOR = 60.0


# Layers that multiply by their weight, whatever their names.
_MULTIPLYING = (nn.Linear, nn.Bilinear, _ConvNd, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)


def looks_like_embedding(name: str) -> bool:
    """Return whether a parameter's own name or its layer's says so: embed, embedding, tok_emb, wte, wpe.

    >>> looks_like_embedding("transformer.wte.weight"), looks_like_embedding("pos_embed")
    (True, True)
    >>> looks_like_embedding("member.weight"), looks_like_embedding("time_embed.0.weight")
    (False, False)
    """
    own = ".".join(name.split(".")[-2:])
    return re.search(r"(^|[._])(wte|wpe|(\w*_)?emb(ed(ding(s)?)?(s)?)?)([._\d]|$)", own) is not None


def is_embedding(name: str, module: nn.Module, parameter: Tensor) -> bool:
    """Return whether a parameter is a table of vectors, by its module's type and, where that says nothing, by its name.

    >>> import torch
    >>> table = torch.zeros(3, 2)
    >>> is_embedding("embed.weight", nn.Linear(2, 3), table), is_embedding("0.weight", nn.EmbeddingBag(3, 2), table)
    (False, True)
    """
    if isinstance(module, _MULTIPLYING) or parameter.ndim != 2:
        return False
    return isinstance(module, EMBEDDINGS) or looks_like_embedding(name)


def scion_rules(model: nn.Module) -> list[tuple[Selector, Target]]:
    """Return the rules of `Scion` for a model, to be used with `route`, after your own rules if any.

    | what                                          | norm                               | a step of length lr        |
    |-----------------------------------------------|------------------------------------|----------------------------|
    | the weight of the last Linear                 | largest entry * inputs (factor 60) | lr 60 / inputs everywhere  |
    | Embedding, EmbeddingBag                       | largest row / sqrt(width)          | rows of RMS lr             |
    | other matrices and kernels (out x in k k)     | spectral * sqrt(in / out)          | RMS to RMS gain of lr      |
    | vectors, scalars                              | L2 / sqrt(entries)                 | RMS lr                     |

    A layer is recognised by its type, also where its weight is tied or parametrized. Where the type does not tell, as
    for a bare parameter or a custom layer, a matrix is an embedding if its own name or its layer's says so (such as
    embed or wte).

    Raises:
        InvalidArgument: If model is not a module.

    Source: Pethick et al., "Training Deep Learning Models with Norm-Constrained LMOs" (2025, arXiv:2502.07529).
    """
    instance("model", model, nn.Module, "a torch.nn.Module")
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    output = linears[-1] if linears else None

    def is_output(_name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
        # By its shape, for behind a parametrization or a weight norm it has another name.
        return isinstance(module, nn.Linear) and module is output and tuple(parameter.shape) == _shape(module)

    return [(is_output, _output_route), (is_embedding, _embedding_route), ("*", _inner_route)]


def _shape(layer: nn.Linear) -> tuple[int, int]:
    return layer.out_features, layer.in_features


def route(model: nn.Module, rules: RoutingRules | None = None) -> Routing:
    """Decide norm and learning-rate factor of every trainable parameter of a model.

    A rule is a pair of a selector (a pattern of names such as "*.attn.*", a module type, or a function of name, module
    and parameter) and a target (a norm, a `Route`, or a function of the parameter that returns one). The first rule
    that applies decides. A tied weight is matched under each of its names and modules.

    Args:
        model: The model.
        rules: Pairs, or a dict of them; by default `scion_rules(model)`.

    Returns:
        A `Routing`: prints as a table, `routing[name]` is a `Route`, `.param_groups(lr)` is for `SteepestDescent`.

    Raises:
        InvalidArgument: If a parameter is left without a rule, or a vector gets a norm of matrices.

    Warns:
        UserWarning: If an embedding, or a kernel that is not flattened, gets a spectral norm.

    >>> from steepest.norms import LInf, Spectral
    >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> routing = route(model, {"*.bias": LInf(), nn.Linear: Spectral()})
    >>> print(routing)
    parameter  shape  module  norm      lr factor  step
    0.weight   4 x 8  Linear  Spectral  1          1 lr
    0.bias     4      Linear  LInf      1          1 lr
    2.weight   2 x 4  Linear  Spectral  1          1 lr
    2.bias     2      Linear  LInf      1          1 lr
    >>> optimizer = SteepestDescent(routing.param_groups(lr=0.02), mode="constrained", momentum=0.95)
    """
    return route_by(model, scion_rules(model) if rules is None else rules)


class Scion(SteepestDescent):
    """Constrained steepest descent with momentum, in the norm that fits each kind of layer: u = -lr d(m).

    One lr fits all widths: it bounds how much a step changes a layer's outputs. A module is routed by `scion_rules`;
    named parameters by name and shape, the last matrix being the output's; plain parameters by shape alone, every
    matrix as a hidden one. With `weight_decay=w` the weights stay within the ball of radius factor/w (constrained
    Scion).

    Args:
        params: A module, its named parameters, plain parameters, or group dicts of plain or named ones.
        lr: The length of a step in the norm.
        momentum: In [0, 1).
        **options: The other options of `SteepestDescent`.

    Raises:
        InvalidArgument: As `SteepestDescent`.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> optimizer = Scion(model, lr=0.01)
    >>> len(optimizer.param_groups)
    4

    Source: Pethick et al., "Training Deep Learning Models with Norm-Constrained LMOs" (2025, arXiv:2502.07529).
    """

    _fixed: ClassVar[tuple[str, ...]] = ("mode",)

    def __init__(
        self, params: nn.Module | Iterable[Any], lr: float | Tensor, momentum: float = 0.9, **options: Any
    ) -> None:
        refuse_fixed("Scion", options, ("norm", *self._fixed))
        module = isinstance(params, nn.Module)
        groups: Any = route(params).param_groups(lr) if module else _with_norms(groups_of(params))
        super().__init__(groups, lr=lr, mode="constrained", momentum=momentum, **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, split by norm, by name and shape; without an output layer. A group with a norm stays as it is.

        Raises:
            InvalidArgument: As `SteepestDescent`.
        """
        with self._unchanged_if_refused():
            for group in _with_norms([group_of(param_group)], has_output=False):
                super().add_param_group(group)


def _with_norms(params: list[Any], has_output: bool = True) -> list[dict[str, Any]]:
    """Return groups with norms and factors; a given group keeps its own norm."""
    given: list[dict[str, Any]] = params if params and isinstance(params[0], dict) else [{"params": params}]
    matrices = [m[0] for group in given for m in group["params"] if isinstance(m, tuple) and m[1].ndim == 2]
    groups: list[dict[str, Any]] = []
    for group in given:
        if group.get("norm") is not None:
            groups.append(group)
            continue
        routes: dict[Route, list[Any]] = {}
        for member in group["params"]:
            name, parameter = member if isinstance(member, tuple) else ("", member)
            to = _route_of(name, parameter, output=has_output and [name] == matrices[-1:])
            routes.setdefault(to, []).append(member)
        groups += [{**group, "params": part, "norm": to.norm, "factor": to.factor} for to, part in routes.items()]
    return groups


def _route_of(name: str, parameter: Tensor, output: bool) -> Route:
    if output:
        return _output_route(parameter)
    if parameter.ndim == 2 and looks_like_embedding(name):
        return _embedding_route(parameter)
    return _inner_route(parameter)


def _output_route(parameter: Tensor) -> Route:
    return Route(Scaled(LInf(), by=float(max(1, parameter.shape[-1]))), _OUTPUT_FACTOR)


def _embedding_route(parameter: Tensor) -> Route:
    return Route(Scaled(MaxRow(), by=max(1, parameter.shape[-1]) ** -0.5))


def _inner_route(parameter: Tensor) -> Route:
    if parameter.ndim < 2:
        return Route(Scaled(L2(), by=max(1, parameter.numel()) ** -0.5))
    rows = max(1, parameter.shape[0])
    columns = max(1, parameter.numel() // rows)
    spectral = Spectral() if parameter.ndim == 2 else Flattened(Spectral())
    return Route(Scaled(spectral, by=(columns / rows) ** 0.5))
