"""How a run changes its network's features."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from steepest.linearize import SVD, Linearization, compare_linearizations
from steepest.tasks import Task
from steepest.train import FeatureChange, Spectrum

__all__ = ["FeatureObserver"]

_ROWS, _PARAMETERS, _RIDGE = 500, 20_000_000, 1e-3


class FeatureObserver:
    """Linearises a network in float64 at the first and at the last step of a run, at the first training examples.

    A trial must not end because somebody's model cannot be linearised: what is raised here becomes a reason.

    Attributes:
        found: How the features changed, or why that cannot be said; None as long as the run has not ended.
    """

    def __init__(self, task: Task, steps: int) -> None:
        self._task, self._last = task, steps
        self._start: Linearization | None = None
        self.found: FeatureChange | str | None = None

    def __call__(self, step: int, model: nn.Module) -> None:
        """Look at the model, if this is the first or the last step."""
        if step not in (0, self._last) or self.found is not None:
            return
        try:
            self._look(model)
        except Exception as error:  # a model's own code may raise anything
            lines = str(error).splitlines() or [type(error).__name__]
            self.found = lines[0]

    def _look(self, model: nn.Module) -> None:
        device = next(model.parameters()).device
        count = sum(parameter.numel() for parameter in model.parameters())
        if count > _PARAMETERS:  # two copies in float64 would be felt
            self.found = f"the network has {count:,} parameters, and at most {_PARAMETERS:,} are looked at"
            return
        double = copy.deepcopy(model).double()
        if self._start is None:
            inputs = self._inputs(1, device)
            outputs = Linearization(double, inputs, check=False).outputs
            if outputs > _ROWS:
                self.found = f"an example has {outputs:,} outputs, and at most {_ROWS:,} are looked at"
                return
            self._start = Linearization(double, self._inputs(_ROWS // outputs, device))
            self._start.svd()
            return
        start, end = self._start, Linearization(double, self._inputs(self._start.examples, device))
        change = compare_linearizations(start, end)
        self.found = FeatureChange(
            examples=start.examples,
            rows=start.shape[0],
            columns=start.shape[1],
            start=_spectrum(start, start.svd()),
            end=_spectrum(end, end.svd()),
            kernel_alignment=change.kernel_alignment,
            kernel_change=change.kernel_change,
            regime=change.regime,
        )
        self._start = None

    def _inputs(self, count: int, device: torch.device) -> tuple[Tensor, ...]:
        batch = self._task.take(torch.arange(min(count, self._task.examples)))
        inputs = [tensor.to(device) for tensor in batch[:-1]]
        return tuple(x.double() if x.is_floating_point() else x for x in inputs)


def _spectrum(linearization: Linearization, svd: SVD) -> Spectrum:
    ridge = _RIDGE * float(svd.singular_values[0]) ** 2
    return Spectrum(
        singular_values=[float(f"{value:.6g}") for value in svd.singular_values],  # as precise as a chart
        rank=svd.rank,
        threshold=svd.threshold,
        effective_rank=linearization.effective_rank(ridge) if ridge else 0.0,
    )
