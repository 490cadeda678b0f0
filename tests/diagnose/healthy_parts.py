"""What a healthy run may have besides a recipe: schedules, clipping, other targets, an earlier training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from tests.diagnose import data, healthy_models
from tests.diagnose.runs import CRITERIA, Parts, Run
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

Change = Callable[[Parts], None]
Finish = Callable[[Run], None]


def warm_up(steps: int) -> Finish:
    """A learning rate that rises linearly for some steps."""

    def finish(run: Run) -> None:
        run.schedule = LambdaLR(run.optimizer, lambda step: min(1.0, (step + 1) / steps))

    return finish


def cosine(run: Run) -> None:
    """A learning rate that falls to zero."""
    run.schedule = CosineAnnealingLR(run.optimizer, run.steps)


def warm_up_and_cosine(run: Run) -> None:
    """Up for twenty steps, down to nothing for the rest."""
    run.schedule = LambdaLR(
        run.optimizer,
        lambda step: min((step + 1) / 20, 0.5 + 0.5 * math.cos(math.pi * step / run.steps)),
    )


def also(**attributes: Any) -> Finish:
    """Attributes of the run: clip, accumulate, scaler."""

    def finish(run: Run) -> None:
        for name, value in attributes.items():
            setattr(run, name, copy.copy(value))

    return finish


def averaged(run: Run) -> None:
    """An exponential moving average of the weights is kept beside the model."""
    average = torch.optim.swa_utils.AveragedModel(
        run.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    )
    run.after_step = lambda: average.update_parameters(run.model)


def optimizer(make: Callable[[nn.Module], torch.optim.Optimizer]) -> Finish:
    """An optimizer other than the recipe's."""

    def finish(run: Run) -> None:
        run.optimizer = make(run.model)

    return finish


def autocast(run: Run) -> None:
    """The forward pass is in bfloat16 where torch thinks it safe."""
    inner = run.loss

    def loss(model: nn.Module, batch: data.Batch) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return inner(model, batch)

    run.loss = loss


def double(run: Run) -> None:
    """Everything is in float64."""
    run.model.double()
    run.batches = ((x.double() if x.is_floating_point() else x, _wide(y)) for x, y in run.batches)


def _wide(y: Tensor) -> Tensor:
    return y.double() if y.is_floating_point() else y


def pretrained(steps: int = 150, freeze: bool = False, new_head: bool = False, lr: float = 1.0) -> Finish:
    """The model was trained before; then goes on, with a new head perhaps, and with all else frozen perhaps."""

    def finish(run: Run) -> None:
        earlier = torch.optim.Adam(run.model.parameters(), lr=3e-3)
        for _ in range(steps):
            earlier.zero_grad()
            run.loss(run.model, next(run.batches)).backward()
            earlier.step()
        for p in run.model.parameters():
            p.grad = None
        head = run.model.get_submodule("head")
        assert isinstance(head, nn.Linear)
        if new_head:
            head.reset_parameters()
        if freeze:
            inside = {id(p) for p in head.parameters()}
            run.frozen = [n for n, p in run.model.named_parameters() if id(p) not in inside]
            for name in run.frozen:
                run.model.get_parameter(name).requires_grad_(False)
        for group in run.optimizer.param_groups:
            group["lr"] *= lr

    return finish


def targets(change: Callable[[Tensor, torch.Generator], Tensor]) -> Change:
    """Other targets than the recipe's."""

    def apply(parts: Parts) -> None:
        parts.batches = ((x, change(y, parts.generator)) for x, y in parts.batches)

    return apply


def label_noise(y: Tensor, generator: torch.Generator) -> Tensor:
    """Thirty per cent of the labels are drawn at random."""
    return torch.where(
        torch.rand(y.shape, generator=generator) < 0.3, torch.randint(10, y.shape, generator=generator), y
    )


def noise_floor(y: Tensor, generator: torch.Generator) -> Tensor:
    """As much noise as signal."""
    return y + 0.7 * torch.randn(y.shape, generator=generator)


def imbalance(parts: Parts) -> None:
    """Nine tenths of the examples are of one class, told from the rest by a binary output."""

    def rare(batches: Iterator[data.Batch]) -> Iterator[data.Batch]:
        for x, y in batches:
            yield x, (y == 3)[:, None].float()

    parts.model.head = nn.Linear(parts.model.get_submodule("head").in_features, 1)  # type: ignore[arg-type]
    parts.criterion = CRITERIA["bce"]
    parts.batches = rare(parts.batches)


def zero_head(parts: Parts) -> None:
    """The head starts at zero, so that the first prediction is uniform."""
    for p in parts.model.get_submodule("head").parameters():
        nn.init.zeros_(p)


def zero_branches(parts: Parts) -> None:
    """The branches of a transformer start at zero."""
    healthy_models.zero_branches(parts.model)


def smoothed(parts: Parts) -> None:
    """Cross entropy with smoothed labels."""
    parts.criterion = lambda output, target: F.cross_entropy(output, target, label_smoothing=0.1)


def huber(parts: Parts) -> None:
    """Huber's loss."""
    parts.criterion = F.huber_loss


def prior_bias(parts: Parts) -> None:
    """The head's bias starts at the target's mean, and the target has a large mean."""
    nn.init.constant_(parts.model.get_submodule("head").bias, 20.0)  # type: ignore[arg-type]
    parts.batches = ((x, y + 20) for x, y in parts.batches)
