"""A worker's copy of the model, with its optimizer and its position in the data."""

from __future__ import annotations

import copy
import hashlib
import io
import math
from collections import Counter

import torch
from torch import Tensor, nn

from steepest._frozen import frozen_names
from steepest._random import seeded
from steepest.errors import NonFiniteGradient
from steepest.tasks import Batch, Task
from steepest.tasks._batch import moved
from steepest.tasks._one_run import for_one_run
from steepest.tasks._shares import Shares
from steepest.train._distributed.settings import Settings
from steepest.train._finite import FiniteParameters
from steepest.train._loss import mixed
from steepest.train._optimizer import state_bytes
from steepest.train._set_up import Ready

__all__ = ["Replica"]


class Replica:
    """Model, optimizer and data of one worker.

    All replicas of a run start with the same bits and take the same steps, so that each can go on for all others.
    A parameter without a gradient takes part in the exchange with zeros: on a worker without examples, or in a step
    that does not use it. One that the first batch does not use keeps none while its mean over the workers is zero.
    Statistics that the model keeps while it trains (floating-point buffers that a forward pass changes, as those of
    batch normalisation) are averaged with the gradients, so that they, too, are the same everywhere.

    Args:
        settings: The settings of the run.

    Attributes:
        step: The number of steps that were taken.
        finite: Whether no step met a gradient that is not finite.
        evaluations: How many evaluations of the loss the last gradient has cost; one for backpropagation.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._seed, self._device = settings, settings.seed, settings.device
        self.task: Task = for_one_run(settings.task, settings.seed)
        self.shares = Shares(self.task, settings.seed)
        self.step, self.finite, self.evaluations = 0, True, 0
        first, _, _ = self.shares.at(0, 0, 1)
        assert first is not None
        self.model = self.task.build(self._seed)
        frozen_names(self.model, self.task.frozen)
        with seeded(self._seed, self._device):
            self._ready = Ready(settings, self.task, self.model, first)
            self.optimizer, self.rates = self._ready.optimizer, self._ready.rates
            self._watched = FiniteParameters(self.model)
            self.parameters = [each for each in self.model.parameters() if each.requires_grad]
            self._unused, self._statistics = self._rehearsed(first)
        self._before: list[Tensor] | None = None  # the statistics before a step that is not completed

    def _rehearsed(self, batch: Batch) -> tuple[list[nn.Parameter], list[Tensor]]:
        """Return the parameters that a whole batch does not use, and the buffers that it changes.

        A copy of the model is run, so that no state moves. A gradient source tells of every parameter.
        """
        if self._settings.gradient is not None:
            changed = zip(self.model.buffers(), self._ready.gradients.changed, strict=True)
            return [], [each for each, moves in changed if moves and each.is_floating_point()]
        twin = copy.deepcopy(self.model)
        task = for_one_run(self._settings.task, self._seed)  # a loss may have a state too
        task.training_loss(twin, moved(batch, self._device)).backward()
        used = [each.grad is not None for each in twin.parameters() if each.requires_grad]
        unused = [each for each, is_used in zip(self.parameters, used, strict=True) if not is_used]
        buffers = zip(self.model.buffers(), twin.buffers(), strict=True)
        return unused, [own for own, its in buffers if own.is_floating_point() and not torch.equal(own, its)]

    def gradient(self, batch: Batch | None, rank: int) -> Tensor | None:
        """Compute the gradient of a share of the step's batch, zero for None; return the loss, a scalar tensor.

        Random numbers of the model (dropout) depend on the seed, the step and the rank alone.
        """
        self.optimizer.zero_grad()
        if self._before is None:
            self._before = [each.clone() for each in self._statistics]
        for each, before in zip(self._statistics, self._before, strict=True):
            each.copy_(before)  # of an earlier attempt at this step
        loss, self.evaluations = None, 0
        if batch is not None:
            with seeded(mixed(self._seed, self.step, rank), self._device):
                loss = self._ready.gradients.compute(moved(batch, self._device), self.step, rank).detach()
            self.evaluations = self._ready.gradients.spent
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return loss

    @property
    def exchanged(self) -> list[Tensor]:
        """What is averaged over the workers: the gradients of all parameters that train, and the statistics."""
        return [*(each.grad for each in self.parameters if each.grad is not None), *self._statistics]

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers are exchanged, by data type."""
        found: Counter[str] = Counter()
        for each in (*self.parameters, *self._statistics):
            found[str(each.dtype).removeprefix("torch.")] += each.numel()
        return dict(found)

    def advance(self) -> None:
        """Take the step with the gradients at hand, the mean over the whole batch."""
        self._before = None
        for parameter in self._unused:
            if parameter.grad is not None and not parameter.grad.any():
                parameter.grad = None
        if self.task.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.task.clip_norm)
        try:
            self.optimizer.step()
        except (NonFiniteGradient, torch.linalg.LinAlgError):
            self.finite = False
        self.step += 1
        self.rates.set(self.step)

    @property
    def measured(self) -> int:
        """How many evaluations were spent before the first step, to measure its cost."""
        return self._ready.spending.spent

    @property
    def remarks(self) -> list[str]:
        """Sentences for the user about the learning rates and the gradients."""
        return self._ready.remarks

    def validate(self) -> tuple[float, dict[str, float]]:
        """Return the validation loss and the metrics by name; inf and nan where a parameter is no longer finite."""
        if not self._watched.hold():
            return math.inf, dict.fromkeys(self.task.metrics, math.nan)
        with seeded(self._seed, self._device):
            return self.task.validate(self.model, self._device)

    def save(self) -> bytes:
        """Return the state as bytes: the step, parameters, buffers, and the optimizer's state."""
        file = io.BytesIO()
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, "step": self.step, "finite": self.finite}, file)
        return file.getvalue()

    def load(self, data: bytes) -> None:
        """Continue from a state that `save` of another replica returned; its place in the data follows from the step.

        Only members of the group send it: they run the same program, so that its pickles are trusted.
        """
        state = torch.load(io.BytesIO(data), map_location=self._device, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.finite = state["step"], state["finite"]
        self.rates.resume(self.step)
        self._before = None

    def digest(self) -> str:
        """Return a digest of the bits of all parameters, and of the buffers with floating-point numbers.

        Others count what one worker alone has seen.
        """
        digest = hashlib.sha256()
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            if tensor.is_floating_point():
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def state_bytes(self) -> int:
        """The size of the optimizer's tensors in bytes."""
        return state_bytes(self.optimizer)
