"""A fair trial of optimizers and inits on one task."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from steepest._check import at_least, boolean, function, instance
from steepest._check import device as check_device
from steepest._contained import contained
from steepest.compare._candidates import Candidate, OptimizerSpec, resolve_candidate, usual_rates
from steepest.compare._design import FIRST_SEED, Budget, Cell, Design, Run, seeds_of
from steepest.compare._environment import environment
from steepest.compare._identity.identify import identify, unidentified
from steepest.compare._identity.reuse import reuse_notices
from steepest.compare._notices import program_notices, run_notices
from steepest.compare._plan import Sequential
from steepest.compare._price import Price, price_of
from steepest.compare._progress import Listener, Silent, listener_for
from steepest.compare._protocol import final_analysis, scores_of, starts_of
from steepest.compare._queue.gather import gather, missing_runs
from steepest.compare._queue.store import Store
from steepest.compare._queue.timeout import RunTimeout, in_words, parse_duration
from steepest.compare._queue.url import exists, fixed_location
from steepest.compare._result.comparison import Comparison
from steepest.compare._run import RunContext, RunObserver
from steepest.compare._sizes import sizes_of
from steepest.compare._subject import (
    Subject,
    context_for,
    directions_for,
    early_notices,
    measure_for,
    steps_of,
    subject_of,
)
from steepest.compare._tuning import tuning_runs
from steepest.errors import InvalidArgument, SteepestError, StorageError, UnknownName
from steepest.estimators import GradientSource
from steepest.init import Initializer, resolve_scheme
from steepest.tasks import Task
from steepest.train import History, Program
from steepest.train._sources import chosen_source, source_name

__all__ = ["DEFAULT_OPTIMIZERS", "compare", "price"]

DEFAULT_OPTIMIZERS = ("sgd", "momentum", "adamw", "sign", "muon")
"""The optimizers that are compared by default."""


def compare(
    task: Subject = "digits",
    optimizers: Iterable[OptimizerSpec] = DEFAULT_OPTIMIZERS,
    inits: Iterable[str | Initializer] | None = None,
    *,
    seeds: int | Sequential | None = None,
    budget: Budget | None = None,
    rank_by: str | None = None,
    at_most: float | str | None = None,
    baseline: str | None = None,
    storage: str | Path | None = None,
    workers: int = 2,
    run_timeout: float | str | None = None,
    gradient: GradientSource | str | None = None,
    device: str = "cpu",
    accept_edits: bool = False,
    observers: Mapping[str, Callable[[], RunObserver]] | None = None,
    listener: Listener | None = None,
    progress: bool = False,
) -> Comparison:
    """Run a fair trial and return its result; started again on the same storage, it resumes where it stopped.

    Every cell (optimizer x init) is tuned with the same number of learning rates and seeds; then its best rate is run
    with fresh seeds, until the results allow a choice (see `Sequential`). For each seed, all cells have the same data
    order, and those of one init the same starting weights. The verdict (see `analyse`) uses these final runs only.

    A storage may hold runs of an edited task: only runs of the present code and data are used (see docs/compare.md).

    Args:
        task: A `Task`, the name of a built-in one, or `module:attribute`; or a program: a function run(trial) with a
            training loop of its own (see `steepest.train.Trial`), or a `Program`.
        optimizers: Names in `CANDIDATES`, `module:Class`, torch optimizer classes, partials of
            them, or `Candidate`s.
        inits: Names in `steepest.init.SCHEMES` or schemes; None for the
            task's own, and for the model as a program makes it.
        seeds: How many seeds are run, and when the trial stops: a fixed number >= 3, or a `Sequential`; None for
            `Sequential()`.
        budget: The budget of each cell; None for `Budget()`.
        rank_by: What decides, in tuning and at the end: "loss", "metric" (the first one), the name of a metric, or
            "max:NAME" or "min:NAME"; None for the task's `rank_by`, and for the loss of a program.
        at_most: Seconds after which the trial ends at its last completed look, or for example "20m"; None for no limit.
        baseline: The optimizer whose median best value is the target for steps and seconds; None for adamw where
            it takes part, else the first optimizer.
        storage: An Optuna storage URL, for example sqlite:///trial.db, or the `pathlib.Path` of a SQLite file; None
            keeps the runs in memory. The trial waits for up to a minute where the storage is unavailable.
        workers: Runs in parallel, at least 1, each on one thread; 1 runs in this process.
        run_timeout: Seconds after which a run counts as hanging, or for example "10m"; None for 20 times the median
            of its cell (at least a minute), once that is known. The run is tried once more; then the trial stops. With
            one worker there is only a message.
        gradient: The gradient source of all runs of a task: one of `steepest.estimators`, or its name with options, as
            "score-function:sigma=0.05,samples=20"; None for backpropagation. It is part of what a run is: another
            source, or another option of it, makes new runs.
        device: The device to train on.
        accept_edits: Whether finished runs from before the last edit are used, too; pass True only if the edit does
            not change the numbers.
        observers: By name, functions that make an observer of a run (see `steepest.train.Observer`), whose `found()`
            returns plain JSON. The first final run of each alternative is observed, and its history keeps the result
            under that name; for example {"features": steepest.features.FeatureObserver}. Of tasks only.
        listener: Receives every run that starts or ends, and every message for the user.
        progress: Whether to say before anything runs what it will cost (see `price`), and then how far it is: by a bar
            in a notebook or on a terminal, else by a line per round on stderr. Not with a listener.

    Returns:
        The comparison, with verdict, tables and displays.

    Raises:
        UnknownName: If there is no optimizer, init, baseline, gradient source or built-in task of a given name.
        ImportFailed: If a `module:attribute` cannot be imported.
        TaskError: If the task cannot be trained or sent to worker processes, or a run fails; if a program does not
            report, or does not use what was chosen for it (see `steepest.train.run_program`).
        SteepestError: If a worker process dies, a run hangs twice, or the time is over before the first look.
        StorageError: If the storage cannot be used, is unavailable for a minute, or was changed by another program.
        InvalidArgument: If another argument is outside its range.

    >>> import torch
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> line = Task(model=lambda: torch.nn.Linear(1, 1), loss=torch.nn.functional.mse_loss,
    ...             train=(x, 2 * x), valid=(x, 2 * x), batch_size=16, steps=20)
    >>> comparison = compare(line, ["sgd", "adamw"], ["zero"], seeds=3, workers=1)
    >>> len(comparison.table())
    2
    """
    boolean("accept_edits", accept_edits)
    _check_listener(listener)
    if boolean("progress", progress) and listener is not None:
        raise InvalidArgument("progress must be left out with a listener", got=True, remedy="A listener shows its own.")
    at_least("workers", workers, 1, remedy="Pass 1 to run in this process.")
    storage = None if storage is None else fixed_location(storage)  # a task may change the folder
    limit = math.inf if at_most is None else parse_duration("at_most", at_most)
    deadline = time.monotonic() + limit
    timeout = RunTimeout(None if run_timeout is None else parse_duration("run_timeout", run_timeout))
    design, context = _planned(task, optimizers, inits, seeds, budget, rank_by, gradient, device, observers)
    task, candidates = context.task, context.candidates
    if instance("baseline", baseline, (str, NoneType), "the name of an optimizer") not in (None, *candidates):
        raise UnknownName.among("baseline among the optimizers of this comparison", str(baseline), candidates)
    with contained("a task, optimizer or init"):
        about_rates, untouched = early_notices(context)
        identities, unknown = (unidentified(context, design), []) if storage is None else identify(context, design)
    with contextlib.ExitStack() as stack:
        told = listener or Silent()
        if progress:
            looks, higher = design.seeds.looks, design.measure.higher_is_better
            told = stack.enter_context(listener_for(looks=looks, higher_is_better=higher))
        store = Store(storage, identities, accept_edits=accept_edits, say=told.waiting)
        stack.enter_context(contextlib.closing(store.patience))
        notices = [*about_rates.values(), *untouched, *unknown, *reuse_notices(design, store.past(), store.selection)]
        finished = store.finished()
        _check_steps(finished, context)
        notices += _unobserved(finished, context.observers)
        for line in notices:
            told.noticed(line)
        earlier_plans = store.enter_plan(design)
        if progress:
            told.noticed(str(price_of(context, design, finished, workers)))
        if missing_runs(design, finished):
            finished = gather(design, store, context, workers, told, timeout, deadline)
            _require_a_look(design, finished, limit)
        found = [*run_notices(finished, about_rates), *program_notices(design, scores_of(design, finished))]
        for line in found:
            told.noticed(line)
    if listener is None and not progress:
        for line in (*about_rates.values(), *found):
            warnings.warn(line, stacklevel=2)
    return Comparison(
        task_name=task.name,
        design=design,
        steps=steps_of(context, finished.values()),
        directions=directions_for(task, design.measure, finished.values()),
        usual_rates=usual_rates(candidates),
        workers=workers,
        earlier_plans=earlier_plans,
        baseline=baseline or ("adamw" if "adamw" in candidates else next(iter(candidates))),
        histories=finished,
        notices=(*notices, *found),
        environment=environment(context.device),
        sizes=sizes_of(task),
        gradient="" if context.gradient is None else source_name(context.gradient),
    )


def price(
    task: Subject = "digits",
    optimizers: Iterable[OptimizerSpec] = DEFAULT_OPTIMIZERS,
    inits: Iterable[str | Initializer] | None = None,
    *,
    seeds: int | Sequential | None = None,
    budget: Budget | None = None,
    rank_by: str | None = None,
    storage: str | Path | None = None,
    workers: int = 2,
    gradient: GradientSource | str | None = None,
    device: str = "cpu",
    accept_edits: bool = False,
) -> Price:
    """Return what a trial would cost: how many runs are left, and about how long they take. Nothing of it is run.

    The first steps of each optimizer are timed, for at most about ten seconds together; where the storage holds
    finished runs of it, these tell the time. A program cannot be timed before its first run.

    Args:
        task: As in `compare`, like all other arguments.
        optimizers: The optimizers.
        inits: The inits.
        seeds: How many seeds are run.
        budget: The budget of each cell.
        rank_by: What decides.
        storage: Where finished runs are; it is not created.
        workers: Runs in parallel.
        gradient: The gradient source.
        device: The device.
        accept_edits: Whether finished runs from before the last edit count.

    Returns:
        The price, which prints as a sentence.

    Raises:
        SteepestError: As `compare` does before its first run.

    >>> import torch
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> line = Task(model=lambda: torch.nn.Linear(1, 1), loss=torch.nn.functional.mse_loss,
    ...             train=(x, 2 * x), valid=(x, 2 * x), batch_size=16, steps=20)
    >>> price(line, ["sgd", "adamw"], seeds=10).final
    (20, 20)
    """
    boolean("accept_edits", accept_edits)
    at_least("workers", workers, 1)
    place = None if storage is None else fixed_location(storage)
    design, context = _planned(task, optimizers, inits, seeds, budget, rank_by, gradient, device, None)
    finished: Mapping[Run, History] = {}
    if place is not None and exists(place):
        with contained("a task, optimizer or init"):
            identities, _ = identify(context, design)
        store = Store(place, identities, accept_edits=accept_edits, say=Silent().waiting)
        with contextlib.closing(store.patience):
            finished = store.finished()
    return price_of(context, design, finished, workers)


def _planned(
    task: Any,
    optimizers: Any,
    inits: Any,
    seeds: Any,
    budget: Any,
    rank_by: Any,
    gradient: Any,
    device: Any,
    observers: Any,
) -> tuple[Design, RunContext]:
    """Return the design and all that is needed to execute its runs, from the arguments of `compare`, checked."""
    budget = Budget() if budget is None else instance("budget", budget, Budget, "a Budget")
    chosen_observers = _observers(observers)
    chosen_seeds = seeds_of(seeds)
    instance("rank_by", rank_by, (str, NoneType), "a string")
    source, device = chosen_source(gradient), check_device("device", device)
    subject = subject_of(task)
    candidates = _by_name(
        "optimizer", [(c.name, c) for c in map(resolve_candidate, _several("optimizers", optimizers))]
    )
    chosen = (getattr(subject, "init", "default"),) if inits is None else _several("inits", inits)
    schemes = _by_name("init", [(_shown(init), resolve_scheme(init)) for init in chosen])
    design = Design(
        cells={Cell(c.name, init): _centre(c) for c in candidates.values() for init in schemes},
        budget=budget,
        seeds=chosen_seeds,
        measure=measure_for(subject, rank_by),
        repeat=isinstance(subject, Program),
    )
    # Before the storage is opened, so that a task that cannot be trained does not create one.
    return design, context_for(subject, candidates, schemes, budget, device, chosen_observers, design.measure, source)


def _require_a_look(design: Design, finished: Mapping[Run, History], limit: float) -> None:
    """Check that a trial whose time is over has results to look at."""
    scores, starts = scores_of(design, finished), starts_of(design, finished)
    if tuning_runs(design, scores) or not final_analysis(design, scores, starts).look:
        raise SteepestError(
            f"a trial must reach its first look, {design.seeds.looks[0]} seeds after tuning, within its time",
            got=f"{len(finished)} finished run{'' if len(finished) == 1 else 's'} after {in_words(limit)}",
            remedy="They are kept in the storage: start again to resume, or allow more time (--at-most).",
        )


def _check_listener(listener: Any) -> None:
    try:
        found = listener is None or isinstance(listener, Listener)
    except Exception:  # an object's own __getattr__ may raise anything
        found = False
    if not found:
        raise InvalidArgument("listener must be a Listener", got=listener, remedy="See steepest.compare.Listener.")


def _check_steps(finished: Mapping[Run, History], context: RunContext) -> None:
    """Check that runs of a task which are used again have been trained to their end.

    How many steps a gradient source can pay is known only if all cost the same.
    """
    for run, history in finished.items() if context.gradient is None else ():
        if isinstance(context.task, Task) and not history.diverged and history.steps[-1] != context.steps:
            raise StorageError(
                f"a finished run must have {context.steps} steps",
                got=f"{history.steps[-1]} of {run}",
                remedy="The storage was changed; use another one.",
            )


def _unobserved(finished: Mapping[Run, History], observers: Mapping[str, Any]) -> list[str]:
    """Say which observers have not seen runs that are used again."""
    first = [history for run, history in finished.items() if run.seed == FIRST_SEED]
    missing = {name: sum(name not in history.observations for history in first) for name in observers}
    return [
        f"The observer {name!r} sees new runs only; {count} finished runs are used again without it."
        for name, count in missing.items()
        if count
    ]


def _observers(given: Any) -> dict[str, Callable[[], RunObserver]]:
    found = instance("observers", {} if given is None else given, Mapping, "a mapping {name: function}")
    for name, make in found.items():
        instance("the name of an observer", name, str, "a string")
        function("an observer", make, remedy="Pass a function without arguments that makes one.")
    return dict(found)


def _several(name: str, given: Any) -> list[Any]:
    rule = f"{name} must be several"
    if isinstance(given, (str, bytes)):
        raise InvalidArgument(rule, got=given, remedy=f"Pass a list, for example [{given!r}].")
    try:
        return list(instance(name, given, Iterable, "several", remedy="Pass a list."))
    except InvalidArgument:
        raise
    except Exception as error:  # an object that claims to be iterable, and is not
        raise InvalidArgument(rule, got=given, remedy="Pass a list.") from error


def _by_name(kind: str, named: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in named:
        if name in found:
            raise InvalidArgument(
                f"every {kind} must appear in a comparison once",
                got=name,
                remedy="Remove it, or give it another name.",
            )
        found[name] = value
    if not found:
        raise InvalidArgument(f"a comparison must have at least one {kind}", got="none", remedy=f"Name an {kind}.")
    return found


def _shown(init: Any) -> str:
    """Return the name of an init in results: of one of the user's own without its module."""
    return init.rpartition(":")[2] if isinstance(init, str) else str(init)


def _centre(candidate: Candidate) -> int:
    """Return the grid index nearest the candidate's own learning rate, in half decades."""
    return 4 * round(2 * math.log10(candidate.lr))
