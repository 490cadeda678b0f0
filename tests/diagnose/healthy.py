"""Healthy runs, no two of a kind: whatever they look like, a diagnosis of one of these is a false alarm.

A row is a function of (split, seed) that makes the run, and what its loss does: it falls to a part of what it was, or,
for a model that was trained before, stays below a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tests.diagnose import data
from tests.diagnose.healthy_models import Adapter, Autoencoder, Experts, Recurrent, Residual
from tests.diagnose.healthy_parts import (
    Change,
    Finish,
    also,
    autocast,
    averaged,
    cosine,
    double,
    huber,
    imbalance,
    label_noise,
    noise_floor,
    optimizer,
    pretrained,
    prior_bias,
    smoothed,
    targets,
    warm_up,
    warm_up_and_cosine,
    zero_branches,
    zero_head,
)
from tests.diagnose.models import Transformer
from tests.diagnose.runs import CRITERIA, HalfScaler, Recipe, Run, forked, make_parts, seed_of
from torch import Tensor, nn
from torch.nn import functional as F

from steepest.optim import Muon, Scion, SignDescent, route


@dataclass(frozen=True)
class Healthy:
    """How to make a healthy run, and what its loss does."""

    make: Callable[[str, int], Run]
    falls_to: float = 0.8
    stays_below: float | None = None


def recipe(
    family: str,
    size: str,
    change: Change | None = None,
    finish: Finish | None = None,
    falls_to: float = 0.8,
    stays_below: float | None = None,
    **options: Any,
) -> Healthy:
    """A row from a recipe; `change` sees the parts before the optimizer is made, `finish` the run after it."""

    def make(split: str, seed: int) -> Run:
        parts = make_parts(Recipe(family, size, **options), split, seed)
        if change is not None:
            change(parts)
        run = parts.run(seed)
        if finish is not None:
            finish(run)
        return run

    return Healthy(make, falls_to, stays_below)


def other(
    model: Callable[[str], nn.Module],
    task: tuple[str, str],
    make: Callable[[nn.Module], torch.optim.Optimizer],
    loss: Callable[[nn.Module, data.Batch], Tensor] | None = None,
    finish: Finish | None = None,
    steps: int = 80,
    falls_to: float = 0.8,
) -> Healthy:
    """A row with a model of its own, on the data of a family's task."""
    criterion = CRITERIA[task[1]]

    def plain(net: nn.Module, batch: data.Batch) -> Tensor:
        return criterion(net(batch[0]), batch[-1])

    def build(split: str, seed: int) -> Run:
        net = model(split)
        run = Run(net, make(net), data.batches(*task, split, seed), loss or plain, steps, seed)
        if finish is not None:
            finish(run)
        return run

    return Healthy(build, falls_to)


def adam(lr: float = 3e-3) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Adam for the parameters that want a gradient."""
    return lambda model: torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)


def sgd(lr: float, momentum: float = 0.0) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """Stochastic gradient descent."""
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def tied_language_model(split: str) -> nn.Module:
    """A transformer whose output layer is its embedding."""
    size = data.VOCABULARIES[split]
    return Transformer(size, size, data.LENGTHS[split], 32, 2, tied_embedding=True, bias=False)


def sparse_model(split: str) -> nn.Module:
    """An embedding with sparse gradients, and a layer that predicts the next token from it."""
    size = data.VOCABULARIES[split]
    return nn.Sequential(nn.Embedding(size, 24, sparse=True), nn.Linear(24, size))


class SparseAndDense(torch.optim.Optimizer):
    """SparseAdam for embeddings with sparse gradients and Adam for the rest, stepped together."""

    def __init__(self, model: nn.Module) -> None:
        self.parts = [
            torch.optim.SparseAdam(list(model.get_submodule("0").parameters()), lr=0.02),
            torch.optim.Adam(model.get_submodule("1").parameters(), lr=0.02),
        ]
        super().__init__(list(model.parameters()), {"lr": 0.02})

    def step(self, *_: object) -> None:  # type: ignore[override]
        """Step both."""
        for part in self.parts:
            part.step()


def adapter(split: str) -> nn.Module:
    """A trained, frozen base with a low-rank adapter that starts at zero."""
    return Adapter(data.SIDES[split] ** 2)


def freeze_base(run: Run) -> None:
    """Train the base on the digits, then declare it frozen, and ask for the digits renamed."""
    base = run.model.get_submodule("base")
    early = torch.optim.Adam(base.parameters(), lr=3e-3)
    for _ in range(60):
        x, y = next(run.batches)
        early.zero_grad()
        F.cross_entropy(base(x), y).backward()
        early.step()
    for p in base.parameters():
        p.requires_grad_(False)
        p.grad = None
    run.frozen = [f"base.{n}" for n, _ in base.named_parameters()]
    run.batches = ((x, (y + 1) % 10) for x, y in run.batches)
    run.optimizer = adam(1e-2)(run.model)


def autoencoding(model: nn.Module, batch: data.Batch) -> Tensor:
    """The squared error of a reconstruction."""
    return F.mse_loss(model(batch[0]), batch[0])


def autoencoder(split: str) -> nn.Module:
    """An autoencoder with eight hidden numbers."""
    return Autoencoder(data.SIDES[split] ** 2)


def residual(image: bool, norm: bool) -> Callable[[str], nn.Module]:
    """A residual net whose branches are zero at the start."""
    return lambda split: Residual(1 if image else data.SIDES[split] ** 2, image, norm)


def experts(split: str) -> nn.Module:
    """A mixture of sixteen experts, of which an example sees one."""
    return Experts(data.SIDES[split] ** 2)


def recurrent(cell: type[nn.LSTM] | type[nn.GRU]) -> Callable[[str], nn.Module]:
    """A recurrent net that predicts the next token."""
    return lambda split: Recurrent(cell, data.VOCABULARIES[split])


def image_reader(cell: type[nn.LSTM] | type[nn.GRU]) -> Callable[[str], nn.Module]:
    """A recurrent net that reads an image patch by patch."""
    return lambda split: Recurrent(cell, data.PATCH_SIZES[split], tokens=False)


def muon(model: nn.Module) -> torch.optim.Optimizer:
    """Muon with a norm for each kind of parameter."""
    return Muon(route(model).param_groups(lr=0.02), lr=0.02)


M, C, T, S, L = "mlp", "conv", "transformer", "small", "large"

HEALTHY: dict[str, Healthy] = {
    # plain
    "mlp, PyTorch's init, SGD": recipe(M, S, init="default", optimizer="sgd", steps=120, lr=0.2),
    "mlp, He init, momentum": recipe(M, L, optimizer="momentum"),
    "mlp, sequential, AdamW": recipe(M, L, optimizer="adamw", style="sequential"),
    "mlp, GELU, functional": recipe(M, S, act="gelu", style="functional"),
    "mlp, tanh": recipe(M, S, act="tanh", optimizer="sgd"),
    "mlp, SiLU": recipe(M, L, act="silu", optimizer="adamw"),
    "mlp, sigmoid, shallow": recipe(M, S, act="sigmoid", depth=2, lr=0.02),
    "mlp, leaky ReLU, RMSprop": recipe(M, S, act="leaky", optimizer="rmsprop", lr=1e-3),
    "mlp, Nesterov": recipe(M, S, optimizer="nesterov", lr=0.02),
    "mlp, no output bias": recipe(M, S, bias=False),
    "mlp, ten layers of 50, He, momentum": recipe(M, L, depth=10, width=50, optimizer="momentum", steps=120, lr=0.01),
    "mlp, residual, LayerNorm": recipe(M, L, norm="layer", skip=True, optimizer="adamw"),
    "mlp, BatchNorm, SGD": recipe(M, L, norm="batch", optimizer="sgd"),
    "mlp, BatchNorm, momentum, sequential": recipe(M, L, norm="batch", optimizer="momentum", style="sequential"),
    "mlp, dropout a half": recipe(M, S, dropout=0.5, width=64, depth=2),
    "mlp, dropout, functional": recipe(M, L, dropout=0.1, style="functional"),
    "mlp, one wide layer": recipe(M, S, depth=1, width=256, optimizer="sgd"),
    "mlp, binary": recipe(M, S, task="bce", optimizer="momentum"),
    "mlp, regression": recipe(M, S, task="mse"),
    "mlp, regression, SGD, tanh": recipe(M, S, task="mse", act="tanh", optimizer="sgd"),
    "mlp, regression, Huber": recipe(M, S, huber, task="mse"),
    "mlp, target in hundreds": recipe(M, L, task="mse100", lr=0.01, steps=120),
    "mlp, target in thousands": recipe(
        M, S, targets(lambda y, _: 1e3 * y), task="mse", lr=0.03, depth=2, width=64, steps=120
    ),
    "mlp, target in thousandths": recipe(M, S, targets(lambda y, _: 1e-3 * y), task="mse", lr=1e-3),
    "mlp, target with a large mean": recipe(M, S, prior_bias, task="mse"),
    "mlp, regression with a noise floor": recipe(M, S, targets(noise_floor), task="mse"),
    "conv, SGD": recipe(C, S, optimizer="sgd", steps=120),
    "conv, PyTorch's init, Adam": recipe(C, S, init="default"),
    "conv, sequential, momentum": recipe(C, S, style="sequential", optimizer="momentum"),
    "conv, BatchNorm, SGD": recipe(C, L, norm="batch", optimizer="sgd"),
    "conv, GroupNorm, AdamW": recipe(C, L, norm="group", optimizer="adamw"),
    "conv, residual, BatchNorm, functional": recipe(C, L, norm="batch", skip=True, style="functional"),
    "conv, tanh": recipe(C, S, act="tanh", optimizer="momentum"),
    "conv, dropout": recipe(C, S, dropout=0.3),
    "conv, regression": recipe(C, S, task="mse"),
    "conv, binary, RMSprop": recipe(C, S, task="bce", optimizer="rmsprop", lr=1e-3),
    "transformer, PyTorch's layers, dropout": recipe(T, S, style="torch", dropout=0.1),
    "transformer, PyTorch's layers, large, AdamW": recipe(T, L, style="torch", optimizer="adamw"),
    "transformer, blocks, SGD": recipe(T, S, optimizer="sgd"),
    "transformer, blocks, GELU, AdamW": recipe(T, L, act="gelu", optimizer="adamw", style="functional"),
    "transformer, patches": recipe(T, S, task="class"),
    "transformer, patches, momentum, regression": recipe(T, L, task="mse", optimizer="momentum", lr=0.01),
    # starts on purpose
    "mlp, zero head": recipe(M, S, zero_head, optimizer="sgd"),
    "transformer, zero head": recipe(T, S, zero_head),
    "mlp, residual branches from zero": other(residual(image=False, norm=False), (M, "class"), sgd(0.02, 0.9)),
    "conv, residual branches from zero": other(residual(image=True, norm=False), (C, "class"), adam()),
    "mlp, LayerNorm, residual branches from zero": other(residual(image=False, norm=True), (M, "class"), adam()),
    "conv, BatchNorm scales from zero": other(residual(image=True, norm=True), (C, "class"), sgd(0.05, 0.9)),
    "transformer, branches from zero": recipe(T, L, zero_branches, optimizer="adamw"),
    "transformer, branches and head from zero": recipe(T, S, lambda p: (zero_branches(p), zero_head(p))[0]),
    "low-rank adapter on a frozen base": other(adapter, (M, "class"), adam(), finish=freeze_base, steps=100),
    # schedules
    "warm-up": recipe(M, L, finish=warm_up(30), optimizer="adamw"),
    "warm-up, transformer": recipe(T, S, finish=warm_up(40), optimizer="adamw", steps=100),
    "cosine": recipe(C, S, finish=cosine, optimizer="momentum"),
    "warm-up and cosine": recipe(T, L, finish=warm_up_and_cosine, optimizer="adamw", steps=100),
    # trained before
    "fine-tuning all": recipe(C, S, finish=pretrained(new_head=True, lr=0.3)),
    "fine-tuning the head, declared": recipe(C, S, finish=pretrained(new_head=True, freeze=True)),
    "fine-tuning the head of a transformer": recipe(T, S, finish=pretrained(new_head=True, freeze=True)),
    "going on from a converged model": recipe(M, S, finish=pretrained(400, lr=0.3), stays_below=0.3),
    "going on from a converged conv": recipe(
        C, S, finish=pretrained(300, lr=0.1), optimizer="momentum", stays_below=0.3
    ),
    "going on from a converged transformer": recipe(T, S, finish=pretrained(200, lr=0.3), stays_below=2.4),
    "going on from a converged regression": recipe(M, S, finish=pretrained(300, lr=0.1), task="mse", stays_below=0.35),
    # batches
    "batches of one": recipe(M, S, batch=1, optimizer="sgd", lr=0.01, steps=500),
    "batches of two": recipe(C, S, batch=2, lr=1e-3, steps=120),
    "batches of four, transformer": recipe(T, S, batch=4, optimizer="adamw", steps=120),
    "batches of four, regression": recipe(M, S, batch=4, task="mse", lr=2e-3, steps=120),
    "accumulation": recipe(C, S, finish=also(accumulate=4), batch=8),
    "accumulation, transformer": recipe(T, S, finish=also(accumulate=2), batch=16),
    # targets
    "rare class": recipe(M, S, imbalance, lr=5e-3),
    "label noise": recipe(M, L, targets(label_noise), falls_to=0.85),
    "label noise, conv": recipe(C, S, targets(label_noise), optimizer="momentum", falls_to=0.85),
    "smoothed labels": recipe(C, L, smoothed, norm="batch"),
    # the loop
    "clipping, transformer": recipe(T, S, finish=also(clip=1.0), optimizer="adamw"),
    "clipping hard, SGD": recipe(M, S, finish=also(clip=0.5), optimizer="sgd", lr=0.3),
    "average of weights": recipe(C, S, finish=averaged, optimizer="adamw"),
    "bfloat16 autocast": recipe(C, S, finish=autocast),
    "bfloat16 autocast, mlp": recipe(M, L, finish=autocast, optimizer="momentum"),
    "float64": recipe(M, S, finish=double, optimizer="momentum"),
    "float64, regression": recipe(M, S, finish=double, task="mse"),
    "loss scaling, first steps skipped": recipe(M, S, finish=also(scaler=HalfScaler(2.0**22))),
    "loss scaling, conv": recipe(C, S, finish=also(scaler=HalfScaler(2.0**22)), optimizer="momentum"),
    # optimizers of this library
    "Muon": recipe(M, L, finish=optimizer(muon)),
    "Muon, conv": recipe(C, S, finish=optimizer(muon)),
    "Muon, transformer": recipe(T, S, finish=optimizer(muon)),
    "sign descent": recipe(
        M, S, finish=optimizer(lambda m: SignDescent(m.parameters(), lr=2e-3, mode="constrained", momentum=0.9))
    ),
    "Scion": recipe(M, L, finish=optimizer(lambda m: Scion(m, lr=0.02))),
    "Scion, transformer": recipe(T, S, finish=optimizer(lambda m: Scion(m, lr=0.02))),
    # other models
    "LSTM": other(recurrent(nn.LSTM), (T, "tokens"), adam(1e-2)),
    "GRU, SGD": other(recurrent(nn.GRU), (T, "tokens"), sgd(0.3, 0.9)),
    "LSTM on patches": other(image_reader(nn.LSTM), (T, "class"), adam(1e-2), steps=100),
    "GRU on patches": other(image_reader(nn.GRU), (T, "class"), adam(1e-2), steps=100),
    "tied embeddings": other(tied_language_model, (T, "tokens"), adam()),
    "autoencoder": other(autoencoder, (M, "class"), adam(), autoencoding),
    "mixture of experts": other(experts, (M, "class"), adam()),
    "mixture of experts, momentum": other(experts, (M, "class"), sgd(0.05, 0.9)),
    "sparse embedding, SGD": other(sparse_model, (T, "tokens"), sgd(2.0), steps=120),
    "sparse embedding, SparseAdam": other(sparse_model, (T, "tokens"), SparseAndDense),
}


def build_healthy(name: str, split: str = "dev", seed: int = 0) -> Run:
    """The run of a row."""
    number = seed_of(name, split, seed)
    with forked(number):
        return HEALTHY[name].make(split, number)
