"""The identities of the runs of a comparison, determined once and before anything runs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from steepest._random import seeded
from steepest._version import __version__
from steepest.compare._design import Cell, Design, Run
from steepest.compare._identity.deferred import load_deferred
from steepest.compare._identity.examples import describe_data, holds_tensors
from steepest.compare._identity.identity import Identity, Part, alike
from steepest.compare._identity.probe import probe
from steepest.compare._identity.source import (
    file_of,
    imported,
    is_own_file,
    module_code,
    own_modules,
    reachable,
    shown_file,
)
from steepest.compare._identity.values import Values
from steepest.compare._run import RunContext
from steepest.tasks import Task
from steepest.train import Program
from steepest.train._schedules import schedule_name, warmup_steps
from steepest.train._sources import source_name

__all__ = ["identify", "unidentified"]

_TASK = "the task"
_TOLD_ONLY = {"torch": torch.__version__, "steepest": __version__}  # whose version is only reported
_NAMED = ("name", "steps", "init", "rank_by")  # of a task: part of the request, or without effect on a run
_DATA = ("train", "valid")
_FORMAT = 2
"""Of the stored histories: 2 has several metrics, and times; runs in another format are not selected."""
_PLAIN = (bool, int, float, str, tuple, type(None))


def identify(context: RunContext, design: Design) -> tuple[dict[Cell, Identity], list[str]]:
    """Return the identity of each cell's runs, and one line per change that it cannot detect.

    Everything that the task, the optimizers and the inits hold is examined twice, before and after the data are read
    and the first steps are taken: values that change by themselves, such as a counter or a cache, are left out.
    Modules that are loaded on demand are loaded by then.

    A program is not run: its code, the values that this holds and the versions of packages are its identity.

    Raises:
        TaskError: If the task's own code fails.
    """
    task = context.task
    data: dict[str, Any] = {}
    notices: list[str] = []
    classes: dict[str, list[type]] = {}
    probes: dict[Cell, dict[str, float]] = {}
    if isinstance(task, Program):
        load_deferred(task.run)
        before = _look(context, classes)
    else:
        classes = _classes(context, task)
        before = _look(context, classes)
        data, notices = _data(task)
        probes = {cell: probe(context, cell, grid_index) for cell, grid_index in design.cells.items()}
    after = _look(context, classes)
    modules = own_modules()
    every, edited = module_code(modules.items())
    notices += [f"{file} was edited after it was loaded; what counts is what is loaded." for file in edited]
    reached = {name: reachable(values.modules, modules, by_name=False) for name, values in after.items()}
    identities: dict[Cell, Identity] = {}
    for cell, grid_index in design.cells.items():
        own = (_TASK, _optimizer(cell.optimizer), _init(cell.init))
        # A module that only another optimizer or init uses does not belong to this cell.
        mine = {each for name in own for each in reachable(after[name].modules, modules, by_name=True)}
        others = {each for name in after if name not in own for each in reached[name]} - mine
        files = {shown_file(name, str(modules[name].__file__)) for name in others}
        packages = {each for name in modules if name not in others for each in imported(modules[name])}
        identities[cell] = Identity(
            request=_request(context, cell),
            content={
                "settings": _settings(context.task, Run(cell, grid_index, 0).lr),
                "code": {name: each for name, each in every.items() if name.partition(":")[0] not in files}
                | _joined(after[name].code for name in own),
                "values": _joined(_steady(before[name].found(), after[name].found()) for name in own),
                "packages": _versions(packages.union(*(after[name].packages for name in own))),
                "examples": data,
                "probe": probes.get(cell, {}),
            },
            versions=_TOLD_ONLY,
        )
    return identities, notices


def _data(task: Task) -> tuple[dict[str, Any], list[str]]:
    """Return the examined data of a task, and a notice on those that cannot be examined."""
    data: dict[str, Any] = {}
    notices: list[str] = []
    for field in _DATA:
        found, notice = describe_data(task, field)
        data.update(found)
        if notice is not None:
            notices.append(notice)
    return data, notices


def unidentified(context: RunContext, design: Design) -> dict[Cell, Identity]:
    """Return identities for a storage in memory, which holds no earlier runs."""
    return {cell: Identity(request=_request(context, cell), content={}, versions={}) for cell in design.cells}


def _request(context: RunContext, cell: Cell) -> dict[str, str | int]:
    return {
        "format": _FORMAT,
        "task": context.task.name,
        "optimizer": cell.optimizer,
        "init": cell.init,
        "steps": "the program's own" if context.steps is None else context.steps,
        "schedule": schedule_name(context.schedule or "cosine"),
        "warmup": str(context.warmup) if context.steps is None else warmup_steps(context.warmup, context.steps),
        "device": torch.device(context.device).type,
        # Runs from before there were others have no such entry.
        **({} if context.gradient is None else {"gradient": source_name(context.gradient)}),
    }


def _optimizer(name: str) -> str:
    return f"the optimizer {name}"


def _init(name: str) -> str:
    return f"the init {name}"


def _settings(task: Task | Program, lr: float) -> dict[str, str]:
    """Return the plain values of a task as text."""
    plain = {field: value for field, value in _fields(task) if isinstance(value, _PLAIN)}
    return {**{field: str(value) for field, value in plain.items()}, "the middle of the learning rates": f"{lr:.3g}"}


def _fields(task: Task | Program) -> list[tuple[str, Any]]:
    """Return the fields of a task or program, except its data and what is requested by name, with readable names."""
    names = [field.name for field in dataclasses.fields(task) if field.name not in (*_NAMED, *_DATA)]
    return [(name.replace("_", " "), getattr(task, name)) for name in names]


def _classes(context: RunContext, task: Task) -> dict[str, list[type]]:
    """Return the classes of the modules and optimizers that are made, which the functions may hide."""
    model = task.build(seed=0)
    found: dict[str, list[type]] = {_TASK: list(dict.fromkeys(type(module) for module in model.modules()))}
    for name, candidate in context.candidates.items():
        with seeded(0):
            found[_optimizer(name)] = [type(candidate.build(model, candidate.lr))]
    return found


def _look(context: RunContext, classes: Mapping[str, list[type]]) -> dict[str, Values]:
    """Collect everything that the task, each optimizer and each init hold."""
    syntax = {str(module.__file__): shown_file(name, str(module.__file__)) for name, module in own_modules().items()}
    held: dict[str, list[tuple[str, Any]]] = {
        _TASK: [(f"the {name}", value) for name, value in _fields(context.task) if not isinstance(value, _PLAIN)],
        **{_optimizer(name): [(_optimizer(name), each.build)] for name, each in context.candidates.items()},
        **{_init(name): [(_init(name), scheme)] for name, scheme in context.inits.items()},
    }
    if callable(context.schedule):
        held[_TASK].append(("the schedule", context.schedule))
    if context.gradient is not None:
        held[_TASK].append(("the gradient source", context.gradient))
    for field in _DATA:
        if isinstance(context.task, Task) and not holds_tensors(context.task, field):  # describe_data examines them
            held[_TASK].append((f"data of {field}", getattr(context.task, field)))
    found: dict[str, Values] = {}
    for owner, parts in held.items():
        found[owner] = Values(syntax)
        for name, value in parts:
            found[owner].follow(name, value)
        for each in classes.get(owner, []):
            found[owner].follow(owner, each)
    return found


def _steady(before: Part, after: Part) -> Part:
    return {name: value for name, value in after.items() if name in before and alike(before[name], value)}


def _joined(parts: Iterable[Part]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def _versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of installed packages among the names of modules."""
    found: dict[str, str] = {}
    for name in sorted({name.partition(".")[0] for name in names} - _TOLD_ONLY.keys() - sys.stdlib_module_names):
        file = file_of(sys.modules.get(name))
        if file is None or is_own_file(file):
            continue
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # the names of a module and its package may differ
            found[name] = str(getattr(sys.modules[name], "__version__", "unknown"))
    return found
