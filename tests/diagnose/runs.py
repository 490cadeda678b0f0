"""A recipe says how to make a sane run; a run is a model, its optimizer, data and loss, and the loop that trains it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import torch
from tests.diagnose import data, models
from torch import Tensor, nn
from torch.nn import functional as F

Criterion = Callable[[Tensor, Tensor], Tensor]

RATES = {
    ("mlp", "sgd"): 0.1,
    ("mlp", "momentum"): 0.02,
    ("mlp", "adam"): 3e-3,
    ("mlp", "adamw"): 3e-3,
    ("conv", "sgd"): 0.1,
    ("conv", "momentum"): 0.02,
    ("conv", "adam"): 3e-3,
    ("conv", "adamw"): 3e-3,
    ("transformer", "sgd"): 0.2,
    ("transformer", "momentum"): 0.05,
    ("transformer", "adam"): 3e-3,
    ("transformer", "adamw"): 3e-3,
}

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
    "nesterov": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}


@dataclass(frozen=True)
class Recipe:
    """A sane training run in words; whatever is None has a default that suits the rest."""

    family: str
    size: str
    task: str | None = None  # class, bce, mse, mse100, tokens
    optimizer: str = "adam"
    lr: float | None = None
    steps: int = 80
    act: str = "relu"
    norm: str | None = None
    style: str = "modules"  # modules, functional, sequential; a transformer: torch or blocks
    init: str | None = None  # default (PyTorch's own), he, xavier
    depth: int | None = None
    width: int | None = None
    skip: bool | None = None
    dropout: float = 0.0
    bias: bool = True  # of the output layer
    tied: bool = False  # one layer used again and again
    batch: int | None = None

    def complete(self) -> Recipe:
        """The same recipe with nothing left open."""
        transformer = self.family == "transformer"
        norm = self.norm or ("layer" if transformer else "none")
        steep = (self.task or "").startswith("mse") and self.optimizer in ("sgd", "momentum") and not transformer
        init = self.init
        if init is None:
            init = "he" if self.act in ("relu", "gelu", "silu", "leaky") else "xavier"
            if transformer or self.act == "sigmoid" or norm != "none":
                init = "default"
        return replace(
            self,
            task=self.task or ("tokens" if transformer else "class"),
            lr=self.lr or RATES.get((self.family, self.optimizer), 1e-3) * (0.2 if steep else 1),
            norm=norm,
            init=init,
            skip=transformer if self.skip is None else self.skip,
        )


def xavier(model: nn.Module) -> None:
    """Xavier initialisation for tanh in hidden layers; biases zero."""
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_normal_(part.weight, gain=1.4)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def make_model(recipe: Recipe, split: str) -> nn.Module:
    """The model of a complete recipe, drawn from torch's global generator."""
    assert recipe.task is not None
    assert recipe.norm is not None
    inputs, outputs = data.shape(recipe.family, recipe.task, split)
    large = recipe.size == "large"
    common: dict[str, Any] = {
        "act": recipe.act,
        "norm": recipe.norm,
        "functional": recipe.style == "functional",
        "skip": bool(recipe.skip),
        "dropout": recipe.dropout,
        "bias": recipe.bias,
        "tied": recipe.tied,
    }
    model: nn.Module
    if recipe.family == "mlp":
        width, depth = recipe.width or (64 if large else 32), recipe.depth or (8 if large else 4)
        model = models.Perceptron(inputs, outputs, width, depth, **common)
    elif recipe.family == "conv":
        channels = [12] * recipe.depth if recipe.depth else ([16, 16, 16, 16, 16, 16] if large else [8, 16, 16])
        channels = [recipe.width or c for c in channels]
        strides = [2, 1, 2] + [1] * (len(channels) - 3) if len(channels) > 2 else [2, 2]
        model = models.ConvNet(inputs, outputs, channels, strides, data.SIDES[split], **common)
    else:
        width, depth = recipe.width or (64 if large else 32), recipe.depth or (4 if large else 2)
        tokens = recipe.task == "tokens"
        length = data.LENGTHS[split] if tokens else data.PATCHES
        model = models.Transformer(
            inputs, outputs, length, width, depth, tokens=tokens, torch_layers=recipe.style == "torch", **common
        )
    if recipe.init == "he":
        models.he(model)
    elif recipe.init == "xavier":
        xavier(model)
    return models.sequential(model) if recipe.style == "sequential" else model  # type: ignore[arg-type]


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy over classes in the last dimension, for [batch] and for [batch, length]."""
    return F.cross_entropy(output.flatten(0, -2), target.flatten())


CRITERIA: dict[str, Criterion] = {
    "class": cross_entropy,
    "tokens": cross_entropy,
    "bce": F.binary_cross_entropy_with_logits,
    "mse": F.mse_loss,
    "mse100": F.mse_loss,
}


class HalfScaler:
    """Loss scaling as for float16: gradients that overflow there skip the step and halve the scale."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.skipped = 0

    def unscale(self, model: nn.Module) -> bool:
        """Divide the gradients by the scale after their passage through float16; say whether all are finite."""
        fine = True
        for p in model.parameters():
            if p.grad is not None:
                p.grad.copy_(p.grad.half().float() / self.scale)
                fine = fine and bool(p.grad.isfinite().all())
        if not fine:
            self.scale /= 2
            self.skipped += 1
        return fine


@dataclass
class Run:
    """All that a training loop needs, and the loop."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: Iterator[data.Batch]
    loss: Callable[[nn.Module, data.Batch], Tensor]
    steps: int
    seed: int = 0
    frozen: Sequence[str] = ()  # names of parameters that are meant not to move
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
    clip: float | None = None
    accumulate: int = 1
    scaler: HalfScaler | None = None
    after_step: Callable[[], None] | None = None  # a moving average of the weights, say

    def step(self) -> tuple[Tensor, data.Batch]:
        """One step of the optimizer: the loss (its mean over the accumulated batches), and the last batch."""
        self.optimizer.zero_grad()
        total = torch.zeros(())
        for _ in range(self.accumulate):
            batch = next(self.batches)
            loss = self.loss(self.model, batch) / self.accumulate
            (loss * self.scaler.scale if self.scaler else loss).backward()
            total = total + loss.detach() if self.accumulate > 1 else loss
        fine = self.scaler is None or self.scaler.unscale(self.model)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if fine:
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
            if self.after_step is not None:
                self.after_step()
        return total, batch

    def train(self, monitor: Any = None) -> list[float]:
        """Train, and tell the monitor of every step; the losses."""
        losses = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            for step in range(self.steps):
                loss, batch = self.step()
                if monitor is not None:
                    monitor.record(step, loss, target=batch[-1])
                losses.append(float(loss.detach()))
        return losses


@dataclass
class Parts:
    """What a run is put together from; a plant changes one of these."""

    recipe: Recipe
    split: str
    model: nn.Module
    criterion: Criterion
    batches: Iterator[data.Batch]
    lr: float
    generator: torch.Generator
    optimized: Iterable[nn.Parameter] | None = None  # all of the model's where None

    def run(self, seed: int) -> Run:
        """Put the run together."""
        parameters = self.model.parameters() if self.optimized is None else self.optimized
        optimizer = OPTIMIZERS[self.recipe.optimizer](list(parameters), lr=self.lr)
        criterion = self.criterion
        return Run(
            self.model,
            optimizer,
            self.batches,
            lambda model, batch: criterion(model(*batch[:-1]), batch[-1]),
            self.recipe.steps,
            seed,
        )


def make_parts(recipe: Recipe, split: str, seed: int) -> Parts:
    """The parts of a sane run; call it where torch's global generator may be used."""
    recipe = recipe.complete()
    assert recipe.task is not None
    assert recipe.lr is not None
    return Parts(
        recipe,
        split,
        make_model(recipe, split),
        CRITERIA[recipe.task],
        data.batches(recipe.family, recipe.task, split, seed, recipe.batch),
        recipe.lr,
        torch.Generator().manual_seed(seed + 7),
    )


def seed_of(label: str, split: str, seed: int) -> int:
    """A seed of its own for every row, split and repetition."""
    return crc32(f"{label}/{split}/{seed}".encode()) % 1_000_000


def forked(seed: int) -> Any:
    """A context in which torch's global generator is seeded, and after which it is as before."""
    stack = torch.random.fork_rng(devices=[])

    class Seeded(nullcontext[None]):
        def __enter__(self) -> None:
            stack.__enter__()
            torch.manual_seed(seed)

        def __exit__(self, *error: Any) -> None:
            stack.__exit__(*error)

    return Seeded()


def constant_loss(run: Run, task: str, count: int = 20) -> float:
    """The least loss of a prediction that is the same for every example, from `count` batches of this run's data."""
    target = torch.cat([batch[-1] for batch in itertools.islice(run.batches, count)])
    if task.startswith("mse"):
        return float((target - target.mean(0)).square().mean())
    if task == "bce":
        p = target.mean()
        return float(-(p * p.log() + (1 - p) * (1 - p).log()))
    shares = target.flatten().bincount().float() / target.numel()
    shares = shares[shares > 0]
    return float(-(shares * shares.log()).sum())
