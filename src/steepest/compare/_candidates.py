"""The optimizers that can take part in a trial, by name."""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from steepest._check import function, in_range, instance
from steepest._contained import contained, last_line
from steepest._importing import load_attribute
from steepest._random import seeded
from steepest.errors import ImportFailed, InvalidArgument, SteepestError, UnknownName
from steepest.estimators import GradientSource
from steepest.norms import L2
from steepest.optim import Muon, Scion, SignDescent, SteepestDescent, muon_rules, route
from steepest.tasks import Task
from steepest.tasks._one_run import for_one_run
from steepest.train._gradients import Gradients
from steepest.train._schedules import Schedule, check_warmup, schedule_name

__all__ = ["CANDIDATES", "Candidate", "OptimizerSpec", "check_candidate", "resolve_candidate", "usual_rates"]

_FALLBACK_LR = 1e-2


@dataclass(frozen=True)
class Candidate:
    """An optimizer that takes part in a trial.

    Args:
        name: Its name in reports.
        build: build(model, lr) -> the optimizer.
        lr: The learning rate at which the tuning grid is centred, > 0.

    Raises:
        InvalidArgument: If lr is not a finite positive number, name is not a non-empty string, or build is not a
            function.
    """

    name: str
    build: Callable[[nn.Module, float], Optimizer]
    lr: float

    def __post_init__(self) -> None:
        if not instance("a candidate's name", self.name, str, "a string"):
            raise InvalidArgument("a candidate's name must not be empty", got=self.name, remedy='Try name="mine".')
        function("build", self.build)
        in_range("lr", self.lr, "(0, inf)", remedy="Try 1e-2.")


OptimizerSpec = str | Candidate | type[Optimizer] | Callable[..., Optimizer]
"""A name, `module:attribute`, a torch optimizer class, a function (params, lr) or (model, lr), a partial of either, or
a `Candidate`."""


def _muon(model: nn.Module, lr: float) -> Optimizer:
    """Return Muon for the matrices and constrained sign descent for vectors and embeddings, all with momentum."""
    return Muon(route(model, muon_rules(model)).param_groups(lr), lr=lr)


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
    """Return the candidate that a name, a class, a function or a partial stands for.

    A name is one of `CANDIDATES` or a class of torch.optim, in capitals or not; "torch.optim.Adam" and
    "torch.optim:Adam" are that class. A function gets the model if its first parameter is called `model` or annotated
    as a module, else the model's parameters.

    Raises:
        UnknownName: If there is no optimizer of that name.
        ImportFailed: If `module:attribute` cannot be imported.
        InvalidArgument: If it is not an optimizer.

    >>> resolve_candidate(functools.partial(torch.optim.SGD, momentum=0.5)).name
    'SGD(momentum=0.5)'
    >>> resolve_candidate("RMSprop").name, resolve_candidate("torch.optim.Adam").name
    ('rmsprop', 'Adam')
    """
    if isinstance(spec, Candidate):
        return spec
    if not isinstance(spec, str):
        return _of_factory(spec, None)
    if ":" in spec:
        return _of_factory(load_attribute(spec), spec.rpartition(":")[2])
    of_torch = {
        name.lower(): each
        for name, each in vars(torch.optim).items()
        if isinstance(each, type) and issubclass(each, Optimizer) and each is not Optimizer
    }
    if (name := spec.lower()) in CANDIDATES:
        return CANDIDATES[name]
    if name in of_torch:
        return _of_factory(of_torch[name], name)
    module, _, attribute = spec.rpartition(".")
    if module and attribute != "py":
        with contextlib.suppress(ImportFailed):
            return _of_factory(load_attribute(f"{module}:{attribute}"), attribute)
    also = ", any class of torch.optim, or your own as module:attribute or file.py:attribute"
    near = difflib.get_close_matches(name.rpartition(".")[2], {**of_torch, **CANDIDATES}, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise UnknownName("there is no such optimizer", got=spec, remedy=f"{hint}Known: {', '.join(CANDIDATES)}{also}.")


def _of_factory(factory: Any, name: str | None) -> Candidate:
    if isinstance(factory, Candidate):
        return factory
    of_class: Any = factory.func if isinstance(factory, functools.partial) else factory
    if callable(of_class) and not isinstance(of_class, type | nn.Module | Optimizer):
        return _of_function(factory, name)
    if not (isinstance(of_class, type) and issubclass(of_class, Optimizer)):
        raise InvalidArgument(_RULE, got=factory, remedy="Write a function (params, lr) that returns the optimizer.")
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


_RULE = (
    "an optimizer must be a name, a torch.optim.Optimizer class, a function (params, lr) or (model, lr), a partial of "
    "either, or a Candidate"
)


def _of_function(function: Any, name: str | None) -> Candidate:
    """Return the candidate of a function of the model or its parameters, and the learning rate.

    Raises:
        InvalidArgument: If it does not take two arguments.
    """
    inner = function.func if isinstance(function, functools.partial) else function
    own = str(getattr(inner, "__name__", type(inner).__name__))
    try:
        signature = _signature(function)
        rate = signature.parameters.get("lr")
        signature.bind(None, 1.0) if rate is None else signature.bind(None, lr=1.0)
    except (TypeError, ValueError) as error:
        got, remedy = f"{own}: {last_line(error)}", "Give it the parameters (params, lr)."
        raise InvalidArgument(_RULE, got=got, remedy=remedy) from error
    first = next(iter(signature.parameters.values()))
    of_module = isinstance(first.annotation, type) and issubclass(first.annotation, nn.Module)
    lr = rate.default if rate is not None and isinstance(rate.default, float) else _FALLBACK_LR
    build = functools.partial(_call, function, of_module or first.name == "model", rate is not None)
    return Candidate(name or own, build, lr)


def usual_rates(candidates: Mapping[str, Candidate]) -> dict[str, float]:
    """Return by name the learning rates at which optimizers are usually found, where that is known."""
    return {name: each.lr for name, each in candidates.items() if not _is_guess(each)}


def _is_guess(candidate: Candidate) -> bool:
    """Return whether the learning rate of a candidate is a guess, for want of a default in its signature."""
    made_here = isinstance(candidate.build, functools.partial) and candidate.build.func in (_call, _build)
    return made_here and candidate.lr == _FALLBACK_LR


def _signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)  # annotations may be text
    except Exception:  # which may name what is not there
        return inspect.signature(function)


def _call(function: Any, takes_model: bool, by_keyword: bool, model: nn.Module, lr: float) -> Optimizer:
    first = model if takes_model else model.parameters()
    return function(first, lr=lr) if by_keyword else function(first, lr)


def _build(of_class: Any, options: dict[str, Any], model: nn.Module, lr: float) -> Optimizer:
    return of_class(model.parameters(), lr=lr, **options)


def check_candidate(
    candidate: Candidate,
    task: Task,
    schedule: Schedule,
    warmup: int | float | str = 0,
    gradient: GradientSource | None = None,
) -> str | None:
    """Take two steps with the optimizer, so that errors show before any training.

    Args:
        candidate: The optimizer.
        task: The task on which it steps.
        schedule: The trial's schedule; all but "constant" without a warm-up set the learning rate at each step.
        warmup: The trial's warm-up.
        gradient: The gradient source; None for backpropagation.

    Returns:
        A notice about its learning rate; None if it follows the one that is requested.

    Raises:
        InvalidArgument: If it cannot be made for the task's model or cannot step, or if it has a schedule of its own
            and the trial's is not constant.
    """
    name, lr = candidate.name, candidate.lr
    try:
        with contained(f"the optimizer {name}", InvalidArgument), seeded(0):
            origin, task = task, for_one_run(task, 0)
            model = task.build(seed=0)
            gradients = Gradients(gradient, task, model, 0, "cpu")
            optimizer = candidate.build(model, lr)
            scheduled = any("initial_lr" in group for group in optimizer.param_groups)  # torch's schedulers leave it
            rates = [_rates(optimizer)]
            for step, batch in enumerate(itertools.islice(task.batches(torch.Generator().manual_seed(0)), 2)):
                optimizer.zero_grad()
                if step == 0:
                    gradients.rehearse(origin, batch)
                gradients.compute(batch, step)
                optimizer.step()
                rates.append(_rates(optimizer))
            halved = _rates(candidate.build(task.build(seed=0), lr / 2))
    except Exception as error:
        reason = str(error) if isinstance(error, SteepestError) else f"{type(error).__name__}: {error}"
        raise InvalidArgument(
            f"the optimizer {name} must step on the task's model, made as optimizer(parameters, lr=...)",
            got=reason,
            remedy="Try it on one batch by hand, or leave it out.",
        ) from error
    if scheduled or rates[0] != rates[-1]:
        found = f"{rates[0][0]:.3g} at first, then {rates[1][0]:.3g}, where {lr:.3g} was requested"
        if schedule != "constant" or check_warmup(warmup):
            raise InvalidArgument(
                f"the optimizer {name} must leave its learning rate to the trial's {schedule_name(schedule)} schedule",
                got=found,
                remedy="Remove its own, or make the trial's constant and without a warm-up (--schedule constant).",
            )
        return f"{name} has a schedule of its own, which is left alone: its learning rate is {found}."
    fixed = [one for one, half in zip(rates[0], halved, strict=False) if not math.isclose(one, 2 * half, rel_tol=1e-6)]
    if not rates[0]:
        return f"{name} has no learning rate that the trial could set: tuning changes nothing."
    if len(fixed) == len(rates[0]):
        return f"{name} ignores the learning rate it is given ({fixed[0]:.3g} for {lr:.3g}): tuning changes nothing."
    if fixed:
        return f"{name} ignores the learning rate it is given in {len(fixed)} of {len(rates[0])} parameter groups."
    return None


def _rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
