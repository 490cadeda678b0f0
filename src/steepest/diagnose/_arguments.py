"""The arguments of a monitor: optimizers, losses and gradients, validated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from steepest._check import instance
from steepest.errors import InvalidArgument, UnknownName

__all__ = ["check_loss", "gradients_in_order", "has_stepped", "items", "unwrapped"]


def items(name: str, value: object, described: str) -> list[object]:
    """Return the items of a collection, or raise InvalidArgument if iterating over it fails."""
    try:
        return list(instance(name, value, Iterable, described))
    except InvalidArgument:
        raise
    except Exception as error:
        remedy = f"Pass {described}."
        raise InvalidArgument(f"{name} must be {described}", got=value, remedy=remedy) from error


def check_loss(loss: object) -> None:
    """Refuse a loss that is not a real number; one that is not finite is recorded, as a diagnosis needs it."""
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            remedy = "Record loss.mean() or loss.sum()."
            raise InvalidArgument("loss must be a scalar", got=f"shape {tuple(loss.shape)}", remedy=remedy)
        fine = not (loss.is_complex() or loss.is_meta or loss.dtype == torch.bool) and loss.layout == torch.strided
    else:
        fine = loss is None or (type(loss) is not bool and isinstance(loss, Real))
    if not fine:
        what = f"{loss.dtype} on {loss.device}, {loss.layout}" if isinstance(loss, Tensor) else loss
        raise InvalidArgument("loss must be a real number, or None", got=what, remedy="Record the batch's loss.")


def has_stepped(optimizer: Optimizer) -> bool:
    """Return whether an optimizer has taken steps before: it has a state, and one that is not at step 0."""
    return any(
        float(state["step"]) > 0 if "step" in state else any(isinstance(value, Tensor) for value in state.values())
        for state in optimizer.state.values()
    )


def unwrapped(optimizer: Optimizer | Iterable[Optimizer] | None) -> tuple[Optimizer, ...]:
    """Return the optimizers inside of wrappers (Accelerate's, Lightning's), which have no hooks of their own."""
    described = "a torch.optim.Optimizer, or several"
    if optimizer is None:
        return ()
    given = [optimizer] if isinstance(optimizer, Optimizer) else items("optimizer", optimizer, described)
    return tuple(instance("optimizer", _inside(each), Optimizer, described) for each in given)


def _inside(wrapper: object) -> object:
    inside = getattr(wrapper, "optimizer", None)
    return inside if isinstance(inside, Optimizer) else wrapper


def gradients_in_order(
    given: Mapping[str, Tensor] | Sequence[Tensor | None], named: Mapping[str, Tensor]
) -> list[Tensor | None]:
    """Return gradients in the order of the parameters.

    Raises:
        InvalidArgument: If there are too many, too few, or objects that are not tensors.
        UnknownName: If one has the name of no parameter.
    """
    described = "gradients by name, or in the parameters' order"
    if isinstance(given, Mapping):
        for name in items("gradient", given, described):
            if instance("the name of a gradient", name, str, "a string") not in named:
                raise UnknownName.among("parameter", str(name), named)
        found: list[object] = [given.get(name) for name in named]
    else:
        found = items("gradient", instance("gradient", given, Sequence, described), described)
    if len(found) != len(named):
        raise InvalidArgument(
            f"gradient must hold one gradient for each of the {len(named)} parameters",
            got=f"{len(found)} gradients",
            remedy="Pass a mapping by parameter name, or None where there is no gradient.",
        )
    checked: list[Tensor | None] = []
    for name, each in zip(named, found, strict=True):
        remedy = "Pass None where there is none."
        checked.append(
            None if each is None else instance(f"the gradient of {name}", each, Tensor, "a tensor", remedy=remedy)
        )
    return checked
