"""What a training program of the user's own gets: the choices of one run, and where to report."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import numbers
import sys
import types
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import Optimizer

from steepest import _importing
from steepest._check import at_least, instance
from steepest._contained import last_line
from steepest.diagnose import Monitor
from steepest.errors import Diverged, InvalidArgument, NonFiniteGradient, TaskError
from steepest.init import Initializer, InitTable, initialize
from steepest.train._optimizer import made, state_bytes
from steepest.train._run_log import RunLog, is_first_rank
from steepest.train._schedules import Schedule, factors

__all__ = ["NON_FINITE", "Choices", "Trial"]

NON_FINITE = (NonFiniteGradient, torch.linalg.LinAlgError)
"""What a step of an optimizer raises where numbers are not finite."""


_RECORDS = 30


@dataclass(frozen=True, kw_only=True)
class Choices:
    """All that distinguishes one run of a program from another; None where nobody has chosen."""

    optimizer: Callable[[nn.Module, float], Optimizer]
    init: Initializer
    lr: float
    seed: int
    steps: int | None
    schedule: Schedule | None
    warmup: int | float
    device: str


class Trial:
    """One run of a training program: the program asks it for what is tried, and reports to it.

    It can be pickled, so that a program may launch processes of its own (`torch.multiprocessing.spawn`, torchrun); of
    several ranks, only the reports of rank 0 count. `run_program` and `steepest.compare.compare` make it.

    >>> def run(trial):
    ...     torch.manual_seed(trial.seed)
    ...     model, x = nn.Linear(1, 1), torch.linspace(-1, 1, 64)[:, None]
    ...     optimizer = trial.optimizer(model)
    ...     for step in range(trial.steps or 20):
    ...         optimizer.zero_grad()
    ...         loss = nn.functional.mse_loss(model(x), 2 * x)
    ...         loss.backward()
    ...         optimizer.step()
    ...     trial.report(step + 1, loss=nn.functional.mse_loss(model(x), 2 * x))
    >>> from steepest.train import run_program
    >>> run_program(run, lambda model, lr: torch.optim.SGD(model.parameters(), lr), lr=0.5, seed=0).steps
    [20]
    """

    def __init__(self, choices: Choices, log: RunLog) -> None:
        self._choices, self._log = choices, log
        self._optimizers: list[Optimizer] = []

    def __repr__(self) -> str:
        return f"Trial(lr={self._choices.lr:.3g}, seed={self._choices.seed}, steps={self._choices.steps})"

    def __reduce__(self) -> tuple[object, ...]:
        _importing.require("A trial that is sent to another process", "cloudpickle", extra="compare")
        import cloudpickle

        try:
            choices = cloudpickle.dumps(self._choices)
        except Exception as error:  # an object's own __reduce__ may raise anything
            raise TaskError(
                "the optimizer and init of a trial that is sent to another process must be picklable by cloudpickle",
                got=last_line(error),
                remedy="Define them at the top of a module.",
            ) from error
        return _unpickled, (choices, self._log.path, tuple(sys.path))

    @property
    def seed(self) -> int:
        """The seed of this run: the same for all alternatives, so that runs of one seed can be compared in pairs."""
        return self._choices.seed

    @property
    def steps(self) -> int | None:
        """The number of steps that this run is to have; None if nobody has chosen one, and the program decides."""
        self._log.use("steps")
        return self._choices.steps

    @property
    def lr(self) -> float:
        """The learning rate that is tried, with which `optimizer` makes the optimizer."""
        return self._choices.lr

    @property
    def device(self) -> str:
        """The device to train on, "cpu" unless another one was chosen."""
        self._log.use("device")
        return self._choices.device

    def initialize(self, model: nn.Module, data: Any = None) -> InitTable:
        """Fill the model by the init that is tried (see `steepest.init.initialize`); by "default", change nothing.

        Args:
            model: The model, before the optimizer is made.
            data: One batch of the model's inputs, which some schemes need.

        Returns:
            A table of what was done.

        Raises:
            InvalidArgument: If it is no model, or the scheme cannot fill it.
        """
        table = initialize(model, self._choices.init, torch.Generator().manual_seed(self.seed), data)
        self._log.use("init")
        return table

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Return the optimizer that is tried, for the model's parameters, at the learning rate that is tried.

        Raises:
            InvalidArgument: If it is no model, or the optimizer cannot be made for it.
        """
        optimizer = made(self._choices.optimizer, instance("model", model, nn.Module, "a torch.nn.Module"), self.lr)
        self._log.use("optimizer")
        self._optimizers.append(optimizer)
        _listen(optimizer, self._log)
        return optimizer

    def scheduler(self, optimizer: Optimizer, steps: int | None = None) -> LambdaLR:
        """Return the schedule that is tried, cosine unless another one was chosen; call its `step` after each step.

        Args:
            optimizer: The optimizer whose learning rates it sets.
            steps: The number of steps of the run, at least 1; None for `Trial.steps`.

        Raises:
            InvalidArgument: If it is no optimizer, or the number of steps is not known.
        """
        instance("optimizer", optimizer, Optimizer, "a torch.optim.Optimizer", remedy="Pass trial.optimizer(model).")
        if steps is None and self._choices.steps is None:
            raise InvalidArgument(
                "steps must be a whole number >= 1 where nobody has chosen the steps of the run",
                got=None,
                remedy="Pass it as trial.scheduler(optimizer, steps), or choose one by --steps (steps=).",
            )
        total = at_least("steps", self._choices.steps if steps is None else steps, 1)
        factor = factors(self._choices.schedule or "cosine", self._choices.warmup, total)

        def rate(step: int) -> float:
            if step > 0:  # it is not only made
                self._log.use("schedule")
            return factor(min(step, total))

        return LambdaLR(optimizer, rate)

    @contextlib.contextmanager
    def watch(self, model: nn.Module, optimizer: Optimizer, every: int | None = None) -> Generator[Monitor]:
        """Watch the training inside of the block, so that the report can say why the run does not train.

        Args:
            model: The model that is trained.
            optimizer: Its optimizer.
            every: Record each `every`-th step, at least 1; None for 30 records of a run whose steps are known, else
                each tenth.

        Yields:
            A `steepest.diagnose.Monitor`; call its `record(step, loss)` after each step.

        Raises:
            InvalidArgument: If an argument is no such thing.
        """
        steps = self._choices.steps
        every = (10 if steps is None else math.ceil(steps / _RECORDS)) if every is None else every
        monitor = Monitor(model, optimizer, every)
        try:
            with monitor:
                yield monitor
        finally:
            history = monitor.history
            self._log.write(
                "watched",
                gradient_steps=history["step"],
                train_loss=history["loss"],
                mean_gradient_norm=history["mean_gradient_norm"],
                gradient_norm=history["gradient_norm"],
                diagnosis=dataclasses.asdict(monitor.diagnosis()),
            )

    def report(self, step: int, *, loss: float | Tensor, **metrics: float | Tensor) -> None:
        """Report the validation loss and metrics after so many steps; the last report of a run counts.

        Metrics that the last report lacks are left out of the history; those that an earlier one lacks are nan there.
        Where several processes train, the reports of all ranks but 0 are ignored.

        Args:
            step: The number of steps taken: 0 before the first, larger in each report, at most `Trial.steps`.
            loss: The validation loss. One that is not finite ends the run as diverged.
            **metrics: Metrics by name; nan where one is not defined.

        Raises:
            Diverged: If the loss is not finite. The run has diverged, whether or not this error is caught.
            InvalidArgument: If an argument is outside its range, or the run has ended.
        """
        if not is_first_rank():
            return
        log = self._log
        log.read()
        try:
            step = self._next_step(step)
            loss = _number("loss", loss)
            values = {name: _number(f"the metric {name}", value) for name, value in metrics.items()}
        except InvalidArgument as error:
            log.refuse(error)
            raise
        finite = math.isfinite(loss)
        if not log.diverged:
            log.write(
                "report",
                step=step,
                loss=loss if finite else math.inf,
                metrics=values,
                state_bytes=sum(map(state_bytes, self._optimizers)),
            )
        if log.diverged or not finite:
            raise Diverged(
                "the validation loss must be finite for a run to go on", got=loss, remedy="The run counts as diverged."
            )

    def _next_step(self, step: Any) -> int:
        """Return the step of a report.

        Raises:
            InvalidArgument: If there can be no report at this step.
        """
        log, most = self._log, self._choices.steps
        step = at_least("step", step, 0, remedy="Pass the number of steps that were taken before.")
        last = log.reports[-1]["step"] if log.reports else -1
        if not log.is_open:
            raise InvalidArgument(
                "a report must come before the program returns",
                got=f"one after {step} steps",
                remedy="Wait for the threads and processes that report.",
            )
        if log.diverged:
            return step
        if step == last:
            raise InvalidArgument(
                "a step must be reported once", got=f"{step} again", remedy="Pass all metrics of a step in one report."
            )
        if step < last:
            raise InvalidArgument(
                "the steps of reports must ascend",
                got=f"{step} after {last}",
                remedy="Pass the number of steps that were taken since the start.",
            )
        if most is not None and step > most:
            raise InvalidArgument(
                f"a report must come within the {most} steps that were chosen",
                got=f"step {step}",
                remedy="Let the program train for trial.steps steps, or leave out --steps (steps=).",
            )
        return step


def _listen(optimizer: Optimizer, log: RunLog) -> None:
    """Let the log know of every step, and whether the last one failed for numbers that are not finite.

    A hook of the optimizer would not be called where the step raises an error; and an error in a process that the
    program has launched may arrive as nothing but its exit status.
    """
    step: Any = type(optimizer).step

    @functools.wraps(step)
    def listening(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        try:
            result = step(self, *args, **kwargs)
        except NON_FINITE:
            log.failed_step(True)
            raise
        log.use("step")
        log.failed_step(False)
        return result

    optimizer.step = types.MethodType(listening, optimizer)  # a method, as torch's schedulers expect


def _number(name: str, value: Any) -> float:
    """Return a number, or a tensor or array with one entry, as a float."""
    if not isinstance(value, numbers.Real):
        with contextlib.suppress(Exception):  # it has several entries, or an object's own method raises anything
            value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidArgument(f"{name} must be a number", got=value, remedy="Pass a float, or a tensor with one entry.")
    try:
        return float(value)
    except OverflowError:  # a whole number beyond float64
        return math.inf


def _unpickled(choices: bytes, path: str, modules: tuple[str, ...]) -> Trial:
    """Return a trial in another process, which finds the modules that the first one finds."""
    _importing.require("A trial from another process", "cloudpickle", extra="compare")
    import cloudpickle

    sys.path += [folder for folder in modules if folder not in sys.path]
    return Trial(cloudpickle.loads(choices), RunLog(path))
