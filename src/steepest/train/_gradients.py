"""The gradient of a step: by backpropagation, or from a gradient source that evaluates the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from steepest._check import at_least, instance
from steepest.errors import EvaluationFailed, InvalidArgument, NoFiniteValue
from steepest.estimators import Estimate, GradientSource, needs_autograd
from steepest.tasks import Batch, Task
from steepest.tasks._checking import check_gradient
from steepest.tasks._one_run import for_one_run
from steepest.train._loss import LossOfParameters, mixed

__all__ = ["Gradients"]


class Gradients:
    """Computes the gradient of a step's loss, and gives it to the parameters.

    Without a source it is that of backpropagation. A source gets the loss as a function of the parameters that train,
    and random numbers that follow from the seed of the run, the step and the rank, so that a step which is repeated is
    the same.

    Args:
        source: The gradient source; None for backpropagation.
        task: The task.
        model: The model, on its device and in training mode.
        seed: The seed of the run.
        device: The device of the run.

    Attributes:
        changed: Of each buffer of the model, whether an evaluation changes it; known after `rehearse`.
    """

    def __init__(self, source: GradientSource | None, task: Task, model: nn.Module, seed: int, device: str) -> None:
        self._source, self._task, self._model, self._seed, self._device = source, task, model, seed, device
        self._differentiates = source is None or needs_autograd(source)
        self._loss = LossOfParameters(task, model, device, needs_autograd=self._differentiates)
        self._together = 1
        self._last = 0
        self._missed: tuple[int, int] | None = None  # evaluations as an estimate says, and as they were counted
        self._steps = self._constant = self._with_non_finite = self._non_finite = 0
        self.changed: list[bool] = []

    def rehearse(self, task: Task, batch: Batch) -> int:
        """Find out how a source evaluates the loss and what a step costs; return what that has spent, in evaluations.

        The cost of a source that does not say it is measured by one estimate. The model stays as it is.

        Args:
            task: The task as it was before the run, whose loss may have a state.
            batch: A batch, on the device.

        Raises:
            TaskError: If the loss has no gradient, and the source needs one.
            InvalidArgument: If the source returns no estimate.
        """
        if self._source is None:
            self._last = 1
            return 0
        loss = LossOfParameters(
            for_one_run(task, self._seed), self._model, self._device, needs_autograd=self._differentiates
        )
        self._together, self.changed = loss.rehearse(batch)
        if self._differentiates:
            inputs = {name: each.requires_grad_() for name, each in loss.parameters.items()}
            check_gradient(loss.at(batch, 0, 1)(inputs))
        if callable(getattr(self._source, "evaluations", None)):
            return 0
        self._estimate(loss, batch, "rehearsal")
        return self._last

    @property
    def cost(self) -> int:
        """How many evaluations the next step spends, as the source says; else as many as the last one has.

        A source that has once said too little is not believed where the last step has spent more.
        """
        says = getattr(self._source, "evaluations", None)
        if not callable(says):
            return self._last
        said = at_least("evaluations(x)", says(self._loss.parameters), 1)
        return said if self._missed is None else max(said, self._last)

    @property
    def spent(self) -> int:
        """How many evaluations the last step has spent."""
        return self._last

    def compute(self, batch: Batch, step: int, rank: int = 0) -> Tensor:
        """Give every parameter the gradient of the loss of a batch, on the device; return the loss, a scalar.

        Raises:
            TaskError: If the loss has no gradient, and backpropagation needs one.
            InvalidArgument: If the source returns no estimate.
        """
        if self._source is None:
            loss = self._task.training_loss(self._model, batch)
            check_gradient(loss)
            loss.backward()
            return loss
        estimate = self._estimate(self._loss, batch, step, rank)
        self._loss.keep_buffers()
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad:
                parameter.grad = estimate.gradient[name].detach().to(parameter)
        self._steps += 1
        self._constant += estimate.constant
        self._non_finite += estimate.non_finite
        self._with_non_finite += estimate.non_finite > 0
        return estimate.value.detach().reshape(())

    def _estimate(self, loss: LossOfParameters, batch: Batch, *where: int | str) -> Any:
        """Return an estimate, and count its evaluations: those that it says, or that were made if these are more."""
        estimate = self._estimated(loss, batch, *where)
        self._last = max(estimate.evaluations, loss.evaluated)
        if self._last > estimate.evaluations:
            self._missed = estimate.evaluations, self._last
        return estimate

    def _estimated(self, loss: LossOfParameters, batch: Batch, *where: int | str) -> Any:
        assert self._source is not None
        generator = torch.Generator(self._device).manual_seed(mixed("gradient source", self._seed, *where))
        noise = mixed("loss", self._seed, *where)
        parameters = loss.parameters
        try:
            return _checked(self._source(loss.at(batch, noise, self._together), parameters, generator), parameters)
        except NoFiniteValue:  # the run has diverged, as where backpropagation meets such a loss
            nothing = {name: torch.full_like(each, math.nan) for name, each in parameters.items()}
            return Estimate(torch.tensor(math.nan), nothing, evaluations=max(1, self.cost))
        except EvaluationFailed as error:
            failure = error.__cause__ or error
        raise failure  # the user's own error, as it arrives from backpropagation too

    @property
    def remarks(self) -> list[str]:
        """Sentences for the user about the values of the loss that a source has met."""
        found: list[str] = []
        if self._non_finite:
            found.append(
                f"In {self._with_non_finite:,} of {self._steps:,} steps {self._non_finite:,} values of the loss were "
                "NaN or infinite; each was treated as the worst finite one."
            )
        if self._constant:
            found.append(
                f"In {self._constant:,} of {self._steps:,} steps all values of the loss were equal, so that nothing "
                "was known about its gradient: larger perturbations or batches would help."
            )
        if self._missed is not None:
            said, counted = self._missed
            found.append(
                f"The gradient source says that an estimate has cost {said:,} evaluation{'s' * (said != 1)} of the "
                f"loss, where it has made {counted:,}: those that it has made were counted."
            )
        return found


def _checked(estimate: Any, parameters: dict[str, Tensor]) -> Estimate:
    """Return what a source has returned, if its value is a number and its gradient has the structure of the parameters.

    Raises:
        InvalidArgument: If it is not so.
    """
    rule = "a gradient source must return an Estimate whose gradient has the names and shapes of the parameters"
    instance("a gradient source's result", estimate, Estimate, "a steepest.estimators.Estimate")
    at_least("the evaluations of an estimate", estimate.evaluations, 1)  # without any, a budget would never end
    value: Any = estimate.value
    if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex():
        raise InvalidArgument(
            "a gradient source must return an Estimate whose value is a scalar tensor",
            got=_described(value),
            remedy="Return torch.tensor(value), or the mean of the values of the loss.",
        )
    gradient: Any = estimate.gradient
    if not isinstance(gradient, Mapping) or {*gradient} != {*parameters}:
        got = f"names {', '.join(map(str, gradient))}" if isinstance(gradient, Mapping) else _described(gradient)
        raise InvalidArgument(rule, got=got, remedy="Return {name: tensor}, with a tensor for each name in x.")
    for name, each in parameters.items():
        its: Any = gradient[name]
        if not isinstance(its, Tensor) or its.shape != each.shape or (its.is_complex() and not each.is_complex()):
            got = f"{_described(its)} of {name}"
            raise InvalidArgument(rule, got=got, remedy=f"Return a real tensor of shape {tuple(each.shape)}.")
    return estimate


def _described(value: Any) -> str:
    """Return what a value is: the shape of a tensor, and of anything else its kind."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"shape {tuple(value.shape)}{', complex' if value.is_complex() else ''}"
