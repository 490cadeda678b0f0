"""The diagonal with which a live torch optimizer preconditions gradients at this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from steepest.errors import InvalidArgument

__all__ = ["effective_preconditioner"]


def effective_preconditioner(optimizer: Optimizer, parameters: Iterable[Tensor] | Tensor | None = None) -> Tensor:
    """Return the diagonal D of the optimizer's next step -lr D m, read from its state.

        Adam, AdamW, NAdam          1 / (sqrt(v / (1 - beta2^t)) + eps), v its second moments (amsgrad: their largest)
        Adamax                      1 / u, u the largest gradients, in which its eps is
        RMSprop                     1 / (sqrt(v) + eps), centered: v less the squared mean
        Adagrad                     1 / (sqrt(sum) + eps) / (1 + t lr_decay)
        Adadelta                    sqrt(deltas + eps) / sqrt(v + eps)
        SGD                         1

    With `predict(Preconditioned(effective_preconditioner(optimizer)), A, b, theta0)` this says where the training of a
    linear model or of a last layer would end from here if D stayed as it is, and without weight decay, which is not in
    D. Groups with learning rates of their own count in proportion to the largest. A coordinate that has had no gradient
    yet has D = 1 / eps: once it gets one, it moves far more than the others.

    Args:
        optimizer: One of torch's optimizers listed above, not a subclass.
        parameters: One or several of its parameters, found by identity; all by default.

    Returns:
        The diagonals, flattened and joined in the order of `parameters`, float64, on the parameters' device.

    Raises:
        InvalidArgument: For another optimizer, a parameter that is not in it or has not been stepped yet, or an
            optimizer that maximizes.

    >>> theta = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = torch.optim.Adam([theta], eps=0)
    >>> (theta * torch.tensor([4.0, 0.5])).sum().backward()
    >>> optimizer.step()
    >>> effective_preconditioner(optimizer)  # after one step 1 / |g|
    tensor([0.2500, 2.0000], dtype=torch.float64)
    """
    diagonal = _DIAGONALS.get(type(optimizer))
    if diagonal is None:
        raise InvalidArgument(
            "the optimizer must divide gradients by a diagonal that is known here",
            got=type(optimizer).__name__,
            remedy=f"Known: {', '.join(kind.__name__ for kind in _DIAGONALS)}.",
        )
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    try:
        chosen = [p for g in optimizer.param_groups for p in g["params"]] if parameters is None else list(parameters)
    except Exception as error:  # whatever the object's own iteration raises
        remedy = "Pass a list."
        raise InvalidArgument("parameters must be some of the optimizer's", got=parameters, remedy=remedy) from error
    largest = max((float(group["lr"]) for group in optimizer.param_groups), default=0.0)
    parts: list[Tensor] = []
    for p in chosen:
        if id(p) not in groups:
            raise InvalidArgument(
                "parameters must be some of the optimizer's",
                got=f"shape {tuple(p.shape)}" if isinstance(cast("object", p), Tensor) else p,
                remedy="Pass some of its own.",
            )
        group, state = groups[id(p)], optimizer.state.get(p, {})
        if not float(state.get("step", 0)) and not isinstance(optimizer, torch.optim.SGD):
            raise InvalidArgument(
                "the optimizer must have stepped every parameter",
                got=f"no state for one of shape {tuple(p.shape)}",
                remedy="Take a step first, or leave that parameter out.",
            )
        ratio = float(group["lr"]) / largest if largest > 0 else 1.0
        if group.get("maximize"):
            raise InvalidArgument(
                "the optimizer must minimise", got="maximize=True", remedy="Change the sign of the loss."
            )
        with torch.no_grad():
            parts.append((diagonal(p, state, group) * ratio).to(torch.float64).flatten())
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


Diagonal = Callable[[Tensor, dict[str, Any], dict[str, Any]], Tensor]


def _exact(x: Tensor) -> Tensor:
    return x.to(torch.float64)


def _adam(_p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    correction = 1 - float(group["betas"][1]) ** float(state["step"])
    v = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    return 1 / ((_exact(v) / correction).sqrt() + group["eps"])


def _adamax(_p: Tensor, state: dict[str, Any], _group: dict[str, Any]) -> Tensor:
    return 1 / _exact(state["exp_inf"])


def _rmsprop(_p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    v = _exact(state["square_avg"])
    if group["centered"]:
        v = v - _exact(state["grad_avg"]).square()
    return 1 / (v.clamp_min(0).sqrt() + group["eps"])


def _adagrad(_p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    slower = 1 + float(state["step"]) * group["lr_decay"]
    return 1 / (_exact(state["sum"]).sqrt() + group["eps"]) / slower


def _adadelta(_p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    return (_exact(state["acc_delta"]) + group["eps"]).sqrt() / (_exact(state["square_avg"]) + group["eps"]).sqrt()


def _sgd(p: Tensor, _state: dict[str, Any], _group: dict[str, Any]) -> Tensor:
    return torch.ones_like(p, dtype=torch.float64)


_DIAGONALS: dict[type[Optimizer], Diagonal] = {
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.NAdam: _adam,
    torch.optim.Adamax: _adamax,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adagrad: _adagrad,
    torch.optim.Adadelta: _adadelta,
    torch.optim.SGD: _sgd,
}
