"""The optimizers that can stand in a trial, by name."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from steepest._random import seeded
from steepest.errors import InvalidArgument, SteepestError, UnknownName
from steepest.norms import L2, LInf
from steepest.optim import Muon, Scion, SignDescent, SteepestDescent, muon_norm, route
from steepest.tasks import Task, load_attribute

__all__ = ["CANDIDATES", "Candidate", "OptimizerSpec", "check_candidate", "resolve_candidate"]

_FALLBACK_LR = 1e-2


@dataclass(frozen=True)
class Candidate:
    """An optimizer that stands in a trial.

    Args:
        name: How reports call it.
        build: build(model, lr) -> the optimizer.
        lr: The learning rate at which the grid of tuning is centred, > 0.

    Raises:
        InvalidArgument: If lr is not a finite positive number.
    """

    name: str
    build: Callable[[nn.Module, float], Optimizer]
    lr: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InvalidArgument(
                f"the grid of {self.name} is centred at a learning rate above 0",
                got=self.lr,
                remedy="Try 1e-2.",
            )


OptimizerSpec = str | Candidate | type[Optimizer] | functools.partial[Any]
"""A name, `module:Class`, a torch optimizer class, a partial of one, or a `Candidate`."""


def _muon(model: nn.Module, lr: float) -> Optimizer:
    """Muon on the matrices, constrained sign descent on vectors and embeddings, momentum for all."""
    rules = [(nn.Embedding, LInf()), (lambda _name, _module, p: p.ndim >= 2, muon_norm), ("*", LInf())]
    return Muon(route(model, rules).param_groups(lr), lr=lr)


CANDIDATES: dict[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Candidate("sgd", lambda model, lr: torch.optim.SGD(model.parameters(), lr), 0.1),
        Candidate("momentum", lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.9), 0.01),
        Candidate("adamw", lambda model, lr: torch.optim.AdamW(model.parameters(), lr), 1e-3),
        Candidate("l2", lambda model, lr: SteepestDescent(model.parameters(), L2(), lr), 0.1),
        Candidate(
            "sign",
            lambda model, lr: SignDescent(model.parameters(), lr, mode="constrained", momentum=0.9),
            1e-3,
        ),
        Candidate("muon", _muon, 0.01),
        Candidate("scion", Scion, 0.01),
    )
}
"""The optimizers that have a name."""


def resolve_candidate(spec: OptimizerSpec) -> Candidate:
    """Return the candidate that a name, a class or a partial stands for.

    Raises:
        UnknownName: If there is no optimizer of that name.
        ImportFailed: If `module:Class` cannot be imported.
        InvalidArgument: If it is not an optimizer.

    >>> resolve_candidate(functools.partial(torch.optim.SGD, momentum=0.5)).name
    'SGD(momentum=0.5)'
    """
    if isinstance(spec, Candidate):
        return spec
    if isinstance(spec, str):
        if spec in CANDIDATES:
            return CANDIDATES[spec]
        if ":" not in spec:
            raise UnknownName.among("optimizer", spec, CANDIDATES, also=", or any class as module:Class")
        return _of_factory(load_attribute(spec), spec.partition(":")[2])
    return _of_factory(spec, None)


def _of_factory(factory: Any, name: str | None) -> Candidate:
    if isinstance(factory, Candidate):
        return factory
    of_class: Any = factory.func if isinstance(factory, functools.partial) else factory
    if not (isinstance(of_class, type) and issubclass(of_class, Optimizer)):
        raise InvalidArgument(
            "an optimizer is a name, a torch.optim.Optimizer class, a partial of one, or a Candidate",
            got=factory,
            remedy="Wrap a function as Candidate(name, build, lr).",
        )
    options = dict(factory.keywords) if isinstance(factory, functools.partial) else {}
    lr = options.pop("lr", None)
    if lr is None:
        default = inspect.signature(of_class).parameters.get("lr")
        lr = default.default if default is not None and isinstance(default.default, float) else _FALLBACK_LR
    shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return Candidate(
        name or (f"{of_class.__name__}({shown})" if shown else of_class.__name__),
        functools.partial(_build, of_class, options),
        float(lr),
    )


def _build(of_class: Any, options: dict[str, Any], model: nn.Module, lr: float) -> Optimizer:
    return of_class(model.parameters(), lr=lr, **options)


def check_candidate(candidate: Candidate, task: Task) -> None:
    """Take one step with the optimizer, so that what does not fit shows before any training.

    Raises:
        InvalidArgument: If it cannot be made for the task's model, or cannot step.
    """
    model = task.build(seed=0)
    batch = next(task.batches(torch.Generator().manual_seed(0)))
    try:
        with seeded(0):
            optimizer = candidate.build(model, candidate.lr)
            task.batch_loss(model, batch).backward()
            optimizer.step()
    except Exception as error:
        reason = str(error) if isinstance(error, SteepestError) else f"{type(error).__name__}: {error}"
        raise InvalidArgument(
            f"the optimizer {candidate.name} must step on the task's model, made as optimizer(parameters, lr=...)",
            got=reason,
            remedy="Try it on one batch by hand, or leave it out.",
        ) from error
