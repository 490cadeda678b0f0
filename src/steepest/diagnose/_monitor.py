"""Watches a training run from inside the user's own training loop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer
from torch.utils.hooks import RemovableHandle

from steepest._check import at_least, instance
from steepest.diagnose._arguments import check_loss, gradients_in_order, has_stepped, unwrapped
from steepest.diagnose._diagnosis import Diagnosis
from steepest.diagnose._records import Records
from steepest.diagnose._rules import diagnose
from steepest.diagnose._statistics import STATISTICS
from steepest.diagnose._summary import SummaryDisplay
from steepest.diagnose._watch.activations import ActivationRow, ActivationWatch
from steepest.diagnose._watch.guard import Guard
from steepest.diagnose._watch.number import Number, kept, number
from steepest.diagnose._watch.outputs import Output, prediction
from steepest.diagnose._watch.parameters import ParameterRow, ParameterWatch
from steepest.diagnose._watch.structure import ModelStructure
from steepest.diagnose._watch.targets import TargetWatch
from steepest.diagnose._watch.units import UnitWatch
from steepest.errors import InvalidArgument

__all__ = ["Monitor"]

_FLUSH = 32


@dataclass(frozen=True)
class _Seen:
    """One step, still on its device."""

    weights: ParameterRow
    activations: ActivationRow
    rates: list[Number]
    stepped: bool


class Monitor:
    """Records a training run without changing it, and names the cause if it does not train.

    A context manager around any loop. Call `record(step, loss)` after `optimizer.step()` and before the gradients
    are cleared. If the optimizer is given, its steps are seen without that call, and only the loss is missing.

    For every parameter it keeps the norms of gradient and weight (exact) and the ratio of update to weight (from a
    sample of entries); for every layer, statistics of a sample of its activations; the mean gradient norm
    (1/P) sum_p ||dL/dp||_2 over the P parameters that have a gradient. Numbers leave the device at most once in 32
    records. After the block only these numbers are kept.

    Layers may be frozen, unfrozen, added and replaced during the run: the model's structure is read at every recorded
    step.

    A failure inside the monitor gives a RuntimeWarning, and the monitor stops recording; it never ends the training.
    Code compiled by `torch.compile` runs without hooks: then only gradients, weights, losses and the output are seen.

    Args:
        model: The model that is trained.
        optimizer: Its optimizer, or several; with it, parameters that no optimizer holds are noticed, and learning
            rates are known.
        every: Record each `every`-th step, and the first; >= 1.
        frozen: Parameters that are frozen on purpose: names, names of modules, or patterns as in a shell.

    Raises:
        InvalidArgument: If the model has no parameters (or lazy ones), the optimizer holds none of them, `every` is
            below 1, or the block is entered a second time.
        UnknownName: If a name in `frozen` is no parameter's or module's.

    >>> import torch
    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with Monitor(model, optimizer) as monitor:
    ...     loss = model(torch.ones(1, 2)).sum()
    ...     loss.backward()
    ...     optimizer.step()
    ...     monitor.record(0, loss)
    >>> monitor.history["gradient_norm"]["bias"]
    [1.0]
    >>> monitor.diagnosis().cause
    'healthy'
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Iterable[Optimizer] | None = None,
        every: int = 1,
        *,
        frozen: Iterable[str] = (),
    ) -> None:
        instance("model", model, nn.Module, "a torch.nn.Module")
        inner = cast("nn.Module", getattr(model, "_orig_mod", model))  # what torch.compile has wrapped
        self.every = at_least("every", every, 1, remedy="Pass 1 to record each step.")
        self._optimizers = unwrapped(optimizer)
        groups = [group for o in self._optimizers for group in o.param_groups]
        self._momentum = max((float(group.get("momentum", 0)) for group in groups), default=0.0)
        self._structure = ModelStructure(inner, self._optimizers, frozen)
        self._guard = Guard()
        self._weights = ParameterWatch(list(self._structure.named.values()))
        self._activations = ActivationWatch(model, inner, self._guard, self._on_forward, self._structure.known)
        self._targets = TargetWatch()
        self._shape: tuple[int, ...] | None = None
        self._units = UnitWatch(inner)
        self._state = "new"
        self._handles: list[RemovableHandle] = []
        self._steps: list[int] = []
        self._losses: list[Number] = []
        self._given: list[bool] = []
        self._rates: list[list[Number]] = []
        self._stepped: list[bool] = []
        self._start: Tensor | None = None
        self._before: Tensor | None = None
        self._begun = self._followed = self._resumed = False
        self._last_step = -1
        self._unrecorded: tuple[int, _Seen | None] | None = None
        self._result: Records | None = None

    def __enter__(self) -> Monitor:
        if self._state != "new":
            raise InvalidArgument("a monitor must be entered once", got=self._state, remedy="Make a new Monitor.")
        self._state = "open"
        with self._guard:
            self._before, self._start = self._weights.sample(), self._weights.weight_norms()
            self._resumed = any(has_stepped(optimizer) for optimizer in self._optimizers)
            self._activations.arm()
            if self._optimizers:
                self._handles.append(self._optimizers[-1].register_step_post_hook(self._on_step))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove every hook and release the model, as leaving the block does; the records stay readable."""
        if self._state == "closed":
            return
        for handle in self._handles:
            handle.remove()
        self._activations.disarm()
        with self._guard:
            self._keep_unrecorded()
        self._result = self._read()
        self._state = "closed"
        with self._guard:
            self._weights.release()
        self._activations.release()
        self._units.release()
        self._targets = TargetWatch()
        self._structure.release()
        self._optimizers, self._handles = (), []
        self._losses, self._rates = [], []
        self._unrecorded = self._before = self._start = None

    def paused(self) -> AbstractContextManager[None]:
        """Return a context in which the model may be run forward and backward without being watched."""
        return self._activations.paused()

    def due(self, step: int) -> bool:
        """Return whether this step is recorded; steps are counted from 0 on."""
        step = at_least("step", step, 0, remedy="Count the steps from 0 or 1 on.")
        return self._due(step)

    def _due(self, step: int) -> bool:
        return step % self.every == 0 or not self._steps

    def record(
        self,
        step: int,
        loss: Number | None = None,
        *,
        target: Tensor | None = None,
        gradient: Mapping[str, Tensor] | Sequence[Tensor | None] | None = None,
    ) -> None:
        """Record a step: after `optimizer.step()`, before the gradients are cleared.

        Args:
            step: The number of the step.
            loss: The loss of its batch, a scalar. The loss of a step that is not recorded (see `every`) completes the
                last record, if that has none.
            target: The batch's target, of any shape; with it, the loss of a constant predictor is known.
            gradient: The gradients by parameter name, or in the parameters' order; by default `p.grad`.

        Raises:
            InvalidArgument: If the loss is no scalar, the gradients do not fit, or the block is not open.
            UnknownName: If `gradient` names a parameter that the model does not have.
        """
        if self._state != "open":
            raise InvalidArgument(
                "steps must be recorded inside the monitor's block",
                got=f"a {self._state} monitor",
                remedy="Put the training loop into `with Monitor(model) as monitor:`.",
            )
        step = at_least("step", step, 0, remedy="Count the steps from 0 or 1 on.")
        check_loss(loss)
        if target is not None:
            instance("target", target, Tensor, "a tensor", remedy="Pass the target that the loss was computed with.")
        given = None if gradient is None else gradients_in_order(gradient, self._structure.named)
        if self._guard.failed:
            return
        with self._guard:
            seen = self._unrecorded[1] if self._unrecorded else None
            self._unrecorded = None
            self._shape = self._shape if target is None else tuple(target.shape)
            if self._due(step):
                if seen is None:
                    seen = self._see(given, stepped=not self._optimizers)
                elif given is not None:
                    seen = replace(seen, weights=replace(seen.weights, gradient=self._weights.gradient_norms(given)))
                if target is not None:
                    self._targets.capture(target)
                if self._targets.curious and loss is not None:
                    self._recognise(seen.activations.outputs, target, number(loss))
                self._keep(step, loss, seen)
            elif loss is not None and self._given and not self._given[-1]:
                self._losses[-1], self._given[-1] = kept(loss), True
            self._last_step = step
            self._prepare(step + 1, seen)

    def diagnosis(self) -> Diagnosis:
        """Return the cause for which the run does not train, or that it is healthy; inside the block or after it."""
        return diagnose(self._read(), self._guard.reason)

    def summary(self) -> SummaryDisplay:
        """Return one figure of the run: loss, gradients, updates and activations, with the diagnosis above."""
        return SummaryDisplay.of(self._read(), self.diagnosis())

    @property
    def history(self) -> dict[str, Any]:
        """The records, as lists with one entry per recorded step.

        `step`, `loss` (nan where none was given), `learning_rate`, `mean_gradient_norm`; by parameter name
        `gradient_norm` (nan where it had none), `weight_norm` (after the step), `update_ratio`; and `activations`: by
        module name, by statistic.
        """
        records = self._read()
        names = [p.name for p in records.parameters]
        rows = records.rows
        return {
            "step": records.steps.tolist(),
            "loss": records.loss.tolist(),
            "learning_rate": records.lr.tolist(),
            "mean_gradient_norm": records.mean_gradient_norm.tolist(),
            "gradient_norm": dict(zip(names, rows.gradient.T.tolist(), strict=True)),
            "weight_norm": dict(zip(names, rows.weight.T.tolist(), strict=True)),
            "update_ratio": dict(zip(names, rows.update.T.tolist(), strict=True)),
            "activations": {
                name: dict(zip(STATISTICS, values.T.tolist(), strict=True))
                for name, values in records.activations.items()
            },
        }

    def _on_forward(self) -> None:
        """Read the weights when the first step begins, including changes since the block was entered."""
        self._follow()
        if not self._begun:
            self._begun = True
            self._before, self._start = self._weights.sample(), self._weights.weight_norms()
            self._units.look(self._structure.named, -1)

    def _follow(self) -> None:
        """Watch the model's present parameters and layers."""
        self._followed = True
        if not self._structure.changed():
            return
        self._weights.follow(list(self._structure.named.values()))
        if self._start is not None:
            self._start = torch.cat([self._start, self._weights.weight_norms()[len(self._start) :]])
        if self._before is not None:
            self._before = self._weights.sample()
        self._activations.follow()
        self._units.follow(self._structure.model)

    def _on_step(self, *_: Any) -> None:
        """See a step of the optimizer; its number is the next one, unless `record` says otherwise."""
        if self._guard.failed or self._state != "open":
            return
        with self._guard:
            self._keep_unrecorded()
            step = self._last_step + 1
            seen = self._see(None, stepped=True) if self._due(step) else None
            self._unrecorded = step, seen
            self._prepare(step + 1, seen)

    def _keep_unrecorded(self) -> None:
        """Keep the optimizer's last step, if the user has not recorded it."""
        if self._unrecorded is not None:
            step, seen = self._unrecorded
            if seen is not None:
                self._keep(step, None, seen)
            self._last_step, self._unrecorded = step, None

    def _see(self, gradients: Sequence[Tensor | None] | None, *, stepped: bool) -> _Seen:
        if not self._followed:  # the model itself was not called
            self._follow()
        self._structure.begin() if not self._steps else self._structure.look(again=self._is_look())
        if gradients is None:
            gradients = self._structure.gradients()
        rates: list[Number] = [group["lr"] for o in self._optimizers for group in o.param_groups if "lr" in group]
        return _Seen(
            self._weights.measure(gradients, self._before),
            self._activations.take(),
            [rate.detach().clone() if isinstance(rate, Tensor) else rate for rate in rates],
            stepped,
        )

    def _recognise(self, outputs: Sequence[Output], target: Tensor | None, loss: float) -> None:
        """Find out which loss it is, from the output with the target or with the gradient."""
        output = prediction(outputs, self._shape)
        if output is None or output.whole is None:
            return
        if target is not None:
            self._targets.recognise(output.whole, target, loss)
        if output.slope is not None and output.slope.shape == output.whole.shape:
            self._targets.infer(output.whole, output.slope, loss)
        self._activations.keep_output = self._targets.curious

    def _keep(self, step: int, loss: Number | None, seen: _Seen) -> None:
        self._steps.append(step)
        self._losses.append(math.nan if loss is None else kept(loss))
        self._given.append(loss is not None)
        self._rates.append(seen.rates)
        self._stepped.append(seen.stepped)
        self._weights.keep(seen.weights)
        self._activations.keep(seen.activations, self._shape)
        if self._is_look():
            self._units.look(self._structure.named, len(self._steps) - 1)
        if len(self._steps) % _FLUSH == 0:
            self._flush()

    def _is_look(self) -> bool:
        return len(self._steps).bit_count() == 1  # after 1, 2, 4, 8, ... records

    def _prepare(self, step: int, seen: _Seen | None) -> None:
        """Prepare for this step, given the record of the one before it."""
        self._followed = False
        self._activations.forget()
        if self._due(step):
            self._activations.arm()
            self._before = seen.weights.after if seen is not None else self._weights.sample()
        else:
            self._activations.disarm()
            self._before = None

    def _flush(self) -> None:
        self._losses = [number(loss) for loss in self._losses]
        self._rates = [[number(rate) for rate in rates] for rates in self._rates]
        self._weights.flush()
        self._activations.flush()
        self._targets.flush()
        self._units.flush()

    def _read(self) -> Records:
        """Return the records; empty ones if they cannot be read."""
        if self._result is not None:
            return self._result
        with self._guard:
            return self._records()
        return Records.of_nothing(self._structure.described())

    def _records(self) -> Records:
        if self._state == "open" and self._steps:
            self._units.look(self._structure.named, len(self._steps) - 1, last=True)
        self._flush()
        rows = self._weights.rows()
        start = np.full(rows.gradient.shape[1], np.nan) if self._start is None else np.array(self._start.tolist())
        peaks = [number(g["initial_lr"]) for o in self._optimizers for g in o.param_groups if "initial_lr" in g]
        return Records(
            parameters=self._structure.described((np.nan_to_num(rows.update) > 0).sum(axis=0) > 1),
            steps=np.array(self._steps, dtype=np.int64),
            loss=np.array(self._losses, dtype=float),
            given=np.array(self._given, dtype=bool),
            lr=np.array([max(map(float, rates), default=math.nan) for rates in self._rates], dtype=float),
            peak_lr=max(peaks, default=math.nan),
            resumed=self._resumed,
            momentum=self._momentum,
            stepped=np.array(self._stepped, dtype=bool),
            start=start,
            rows=rows,
            activations=self._activations.rows(),
            sites=self._activations.sites,
            heads=self._activations.heads,
            output_gradient=self._activations.output_gradients(),
            copies=self._units.looks(),
            baselines=self._targets.baselines(),
            inferred=self._targets.inferred,
            first_nonfinite=self._activations.first_nonfinite,
            unregistered=tuple(self._activations.unregistered),
        )
