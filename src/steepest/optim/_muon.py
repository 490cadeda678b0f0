"""Steepest descent in the spectral norm, for the matrices of a network."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from steepest._check import instance
from steepest.errors import InvalidArgument
from steepest.norms import Flattened, LInf, Norm, Scaled, Spectral
from steepest.optim._options import group_of, refuse_fixed
from steepest.optim._route import Routing, Selector, Target, owners_of, route_by
from steepest.optim._scion import is_embedding, looks_like_embedding
from steepest.optim._steepest_descent import SteepestDescent

__all__ = ["Muon", "muon_norm", "muon_rules"]

_POINTER = "Pass route(model).param_groups(lr), which gives every parameter a norm, or use Scion(model, lr)."


def muon_norm(parameter: Tensor) -> Norm:
    """Return the norm in which Muon steps: the spectral norm / sqrt(max(1, rows / columns)).

    A kernel of more than two dimensions is read as the matrix out x (in k k).

    Raises:
        InvalidArgument: If the parameter has fewer than two dimensions.

    >>> import torch
    >>> muon_norm(torch.zeros(40, 10))
    Scaled(norm=Spectral(exact=False), by=0.5)
    """
    if instance("parameter", parameter, Tensor, "a tensor").ndim < 2:
        raise InvalidArgument(
            "Muon must have matrices",
            got=f"a parameter of shape {tuple(parameter.shape)}",
            remedy=_POINTER,
        )
    spectral = Spectral() if parameter.ndim == 2 else Flattened(Spectral())
    rows = parameter.shape[0]
    return Scaled(spectral, by=max(1.0, rows * rows / max(1, parameter.numel())) ** -0.5)


def muon_rules(model: nn.Module) -> list[tuple[Selector, Target]]:
    """Return rules for `route` by which Muon trains a whole model: matrices in `muon_norm`, the rest by signs.

    | parameter                            | norm          | a step of size lr moves |
    |--------------------------------------|---------------|-------------------------|
    | embeddings                           | largest entry | every entry by lr       |
    | other matrices and kernels           | `muon_norm`   | as in `Muon`            |
    | vectors, scalars                     | largest entry | every entry by lr       |

    Embeddings are recognised as in `scion_rules`.

    Raises:
        InvalidArgument: If model is not a module.

    >>> from steepest.optim import route
    >>> model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))
    >>> [r.norm for r in route(model, muon_rules(model)).values()]
    [LInf(), Scaled(norm=Spectral(exact=False), by=1.0), LInf()]
    """
    instance("model", model, nn.Module, "a torch.nn.Module")
    return [(is_embedding, LInf()), (lambda _name, _module, p: p.ndim >= 2, muon_norm), ("*", LInf())]


class Muon(SteepestDescent):
    """`SteepestDescent` in the spectral norm, constrained: u = -lr sqrt(max(1, rows/columns)) U V'.

    Args:
        params: Matrices and kernels, named or not, or group dicts of them; a group with a norm of its own, as
            `route` makes them, may hold any parameter. Or a module with no other parameters, whose embeddings are then
            recognised by layer type; those of bare parameters only by name.
        lr: The spectral length of a step on a wide or square matrix.
        momentum: In [0, 1).
        nesterov: Use Nesterov's form of momentum, which looks one step ahead.
        **options: The other options of `SteepestDescent`.

    Raises:
        InvalidArgument: If a parameter without a norm has fewer than two dimensions, or is an embedding by its module,
            or, where the module is not known, by its name; else as `SteepestDescent`.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.zeros(2, 2))
    >>> w.grad = torch.tensor([[3.0, 0.0], [0.0, -2.0]])
    >>> Muon([w], lr=0.1).step()
    >>> (w.data.abs().diagonal() - 0.1).abs().max() < 0.02
    tensor(True)

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
    """

    _fixed: ClassVar[tuple[str, ...]] = ("mode",)

    def __init__(
        self,
        params: ParamsT | nn.Module,
        lr: float | Tensor,
        momentum: float = 0.95,
        nesterov: bool = True,
        **options: Any,
    ) -> None:
        refuse_fixed("Muon", options, ("norm", *self._fixed))
        groups: Any = _matrices(params).param_groups(lr) if isinstance(params, nn.Module) else params
        super().__init__(groups, lr=lr, mode="constrained", momentum=momentum, nesterov=nesterov, **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of matrices and kernels, split so that every part has one norm; the other options are copied.

        A group that brings its own norm, as from `route`, is taken as it is.

        Raises:
            InvalidArgument: If a parameter has fewer than two dimensions, or a name that says embedding.
        """
        group = group_of(param_group)
        if group.get("norm") is not None:
            super().add_param_group(group)
            return
        parts: dict[Norm, list[Any]] = {}
        for member in group["params"]:
            name, parameter = member if isinstance(member, tuple) else ("", member)
            if looks_like_embedding(name):
                raise _is_an_embedding(name)
            parts.setdefault(muon_norm(parameter), []).append(member)
        with self._unchanged_if_refused():
            for norm, part in parts.items():
                super().add_param_group({**group, "params": part, "norm": norm})


def _matrices(model: nn.Module) -> Routing:
    """Return the norm of every trainable parameter of a model, all of which have to be matrices or kernels."""
    for parameter, owners in owners_of(model).items():
        for name, module in owners:
            if parameter.requires_grad and is_embedding(name, module, parameter):
                raise _is_an_embedding(name)
    return route_by(model, [("*", muon_norm)])


def _is_an_embedding(name: str) -> InvalidArgument:
    return InvalidArgument("Muon must have hidden matrices", got=f"the embedding {name}", remedy=_POINTER)
