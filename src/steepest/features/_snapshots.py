"""Linearizations of a network at some steps of its training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steepest._check import at_least, finite, in_range, instance
from steepest.errors import InvalidArgument, SteepestError
from steepest.linearize import (
    RIDGE,
    SVD,
    FeaturesDisplay,
    FunctionDisplay,
    LearningDisplay,
    Linearization,
    LinearizationChange,
    PrincipalFeaturesDisplay,
    compare_linearizations,
)
from steepest.train import Event, Validated

__all__ = ["DIRECTIONS", "Curves", "Snapshot", "Snapshots"]

DIRECTIONS = (3, 10)
"""Numbers of principal directions in which the linearised model is shown, besides all of them."""

_POINTS = 1000, 500, 200
"""Numbers of points at which principal features, the function, and the features of each layer are drawn."""

_CURVES, _TIMES = 72, 72


@dataclass(frozen=True)
class Curves:
    """Displays of functions of x, for inputs of one number.

    Attributes:
        function: The network, and the predictions of the trained linearised model; None without real targets.
        features: The tangent features by parameter.
        principal: The principal features.
    """

    function: FunctionDisplay | None
    features: FeaturesDisplay
    principal: PrincipalFeaturesDisplay


@dataclass(frozen=True)
class Snapshot:
    """A network linearised at one step.

    Attributes:
        step: The number of training steps before.
        svd: The singular value decomposition of the features, with the numerical rank.
        change: The change of the kernel since the first snapshot.
        effective_rank: The effective rank with the ridge `RIDGE` s_1^2.
        target_alignment: The alignment of the kernel with the targets; None if they are neither numbers nor classes.
        learning: How the linearised model learns each direction, on the mean squared error; None without real targets.
        curves: Displays of functions of x; None where x is not one number.
    """

    step: int
    svd: SVD
    change: LinearizationChange
    effective_rank: float
    target_alignment: float | None
    learning: LearningDisplay | None
    curves: Curves | None


class Snapshots:
    """An observer of a run that linearises the network at every validation, in float64 where the model allows it.

    Args:
        inputs: The examples.
        target: Their targets: as many numbers as the network has outputs, or classes.
        time: The training time of the linearised model: steps times learning rate.
        span: The range over which functions of x are drawn, if x is one number; None for the range of the examples.

    Attributes:
        found: One snapshot per observed step; the first is the start.
        refused: By step, the reason why the network could not be linearised.
        precision: The precision of the linearizations.
        layers: By parameter: the name of its layer, and a readable type of that layer.
    """

    def __init__(
        self, inputs: tuple[Tensor, ...], target: Tensor, time: float, span: tuple[float, float] | None = None
    ) -> None:
        for tensor in instance("inputs", inputs, tuple, "a tuple of tensors") or (None,):
            instance("inputs", tensor, Tensor, "a tuple of tensors")
        instance("target", target, Tensor, "a tensor")
        if span is not None and len(instance("span", span, tuple, "two finite numbers")) != 2:
            raise InvalidArgument("span must be two finite numbers", got=span, remedy="Try (0.0, 1.0).")
        for end in span or ():
            finite("span", end)
        self._inputs, self._target, self._time = inputs, target, in_range("time", time, "(0, inf)")
        self._first: Linearization | None = None
        self._double = True
        self.found: list[Snapshot] = []
        self.refused: dict[int, str] = {}
        self.layers: dict[str, tuple[str, str]] = {}
        self.span: tuple[float, float] | None = None
        if len(inputs) == 1 and inputs[0][0].numel() == 1 and inputs[0].is_floating_point():
            self.span = (float(inputs[0].min()), float(inputs[0].max())) if span is None else span

    @property
    def linearization(self) -> Linearization:
        """The first linearization."""
        assert self._first is not None
        return self._first

    @property
    def precision(self) -> str:
        """The precision of the linearizations."""
        return str(self.linearization.dtype).removeprefix("torch.")

    def __call__(self, event: Event) -> None:
        """Linearise the model whenever it was validated, and its loss is finite."""
        if isinstance(event, Validated) and math.isfinite(event.loss):
            self.observe(event.step, event.model)

    def observe(self, step: int, model: nn.Module) -> None:
        """Linearise the model as it is now.

        Raises:
            SteepestError: If the first model cannot be linearised; a later failure is kept in `refused`.
        """
        at_least("step", step, 0)
        instance("model", model, nn.Module, "a torch.nn.Module")
        try:
            self.found.append(self._look(step, self._linearized(model)))
        except SteepestError as error:
            if self._first is None or not self.found:
                raise
            self.refused[step] = str(error)

    def _linearized(self, model: nn.Module) -> Linearization:
        if self._first is not None:
            return self._in_precision(model)
        try:
            self._first = self._in_precision(model)
        except SteepestError as refusal:
            self._double = False
            try:
                self._first = self._in_precision(model)
            except SteepestError:
                raise refusal from None
        modules = dict(model.named_modules())
        for name in self._first.paths:
            layer = name.rpartition(".")[0]
            self.layers[name] = layer, _described(modules.get(layer, model))
        return self._first

    def _in_precision(self, model: nn.Module) -> Linearization:
        return Linearization(model, self._inputs, dtype=torch.float64 if self._double else None)

    def _look(self, step: int, linearization: Linearization) -> Snapshot:
        svd = linearization.svd()
        y = as_numbers(self._target, linearization)
        regression = y is not None and self._target.is_floating_point()
        return Snapshot(
            step=step,
            svd=svd,
            change=compare_linearizations(self.linearization, linearization),
            effective_rank=linearization.effective_rank(RIDGE * float(svd.singular_values[0]) ** 2),
            target_alignment=None if y is None else linearization.alignment(y).value,
            learning=self._learning(linearization, y) if y is not None and regression else None,
            curves=self._curves(linearization, y if regression else None),
        )

    def _learning(self, linearization: Linearization, y: Tensor) -> LearningDisplay:
        times = self._time * torch.logspace(-6, 0, _TIMES, dtype=torch.float64)
        return LearningDisplay.of(linearization.trajectory(times, y=y))

    def _curves(self, linearization: Linearization, y: Tensor | None) -> Curves | None:
        if self.span is None:
            return None
        fine, middle, coarse = (torch.linspace(*self.span, count, dtype=torch.float64) for count in _POINTS)
        like = self.found[-1].curves if self.found else None
        strongest = max(3, min(10, _CURVES // len(linearization.paths)))
        return Curves(
            None if y is None else FunctionDisplay.of(linearization, middle, y, self._time, DIRECTIONS),
            FeaturesDisplay.of(linearization, coarse, strongest),
            PrincipalFeaturesDisplay.of(linearization, fine, like=None if like is None else like.principal),
        )


def as_numbers(target: Tensor, linearization: Linearization) -> Tensor | None:
    """Return targets as n x C numbers, classes as one-hot vectors; None if they are neither, or all zero."""
    rows, outputs = linearization.shape[0], linearization.outputs
    if target.is_floating_point():
        fits = target.numel() == rows and bool(target.isfinite().all()) and bool(target.any())
        return target.double() if fits else None
    if target.numel() * outputs != rows or outputs < 2 or target.is_complex() or target.dtype == torch.bool:
        return None
    if not 0 <= int(target.min()) <= int(target.max()) < outputs:
        return None
    return nn.functional.one_hot(target.flatten().long(), outputs).double()


def _described(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"Linear, {module.in_features} to {module.out_features}"
    return type(module).__name__
