"""How each fault is planted: a function of a run's parts for what goes wrong in weights, data, loss or rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from tests.diagnose import data
from tests.diagnose.models import Editable, Perceptron, hidden_layers, put
from tests.diagnose.runs import Parts, Recipe
from torch import Tensor, nn
from torch.nn import functional as F

NORMS = (nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)


def _layers(model: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    return [part for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d)]


def _head(model: nn.Module) -> nn.Linear:
    head = model.head if isinstance(model, Editable) else _layers(model)[-1]
    assert isinstance(head, nn.Linear)
    return head


def _outside_norms(model: nn.Module) -> Iterator[nn.Parameter]:
    for part in model.modules():
        if not isinstance(part, NORMS):
            yield from part.parameters(recurse=False)


def _which(model: nn.Module, which: str) -> list[tuple[Any, Any]]:
    pairs: list[tuple[Any, Any]] = hidden_layers(model)
    return {"all": pairs, "first": pairs[:1], "middle": pairs[len(pairs) // 2 :][:1], "last": pairs[-1:]}[which]


# Weights


@torch.no_grad()
def zero_weights(parts: Parts) -> None:
    """Every weight and bias is zero, as left by np.zeros or an empty checkpoint; norms are at one and zero."""
    for p in _outside_norms(parts.model):
        p.zero_()


@torch.no_grad()
def constant_weights(parts: Parts, value: float | None = None, bias: float = 0.0, ends: bool = True) -> None:
    """Every weight of every layer (ends=False: but the first and last) is one number, 1/fan-in unless given."""
    spared = [] if ends else [_head(parts.model), parts.model.embed]
    for part in parts.model.modules():
        for name, p in part.named_parameters(recurse=False):
            if isinstance(part, NORMS) or any(part is other for other in spared):
                continue
            if name.endswith("bias"):
                p.fill_(bias)
            elif p.dim() > 1 and not isinstance(part, nn.Embedding) and name != "position":
                p.fill_(1 / p[0].numel() if value is None else value)


@torch.no_grad()
def copied_units(parts: Parts, share: float = 1.0, which: str = "all", groups: int = 1) -> None:
    """A share of the units of hidden layers are copies, incoming and outgoing weights, of `groups` of them."""
    for layer, reader in _which(parts.model, which):
        units = layer.weight.shape[0]
        source = torch.arange(units)
        count = round(share * units)
        source[:count] = source[:count] % groups
        layer.weight.copy_(layer.weight[source])
        layer.bias.copy_(layer.bias[source])
        copies = source.bincount(minlength=units)[source].sqrt()[None, :, None]  # the sum over copies stays as large
        read = reader.weight.view(reader.weight.shape[0], units, -1)  # a flattened image has places in each channel
        reader.weight.copy_((read[:, source] / copies).reshape(reader.weight.shape))


@torch.no_grad()
def negative_bias(parts: Parts, value: float = 100.0, which: str = "all", norm: bool = False) -> None:
    """Biases so far below zero that no unit of these layers is ever positive (norm=True: the norm's own bias)."""
    if norm:
        norms = [part for part in parts.model.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
        for part in norms if which == "all" else norms[len(norms) // 2 :][:1]:
            part.bias.fill_(-value)
        return
    for layer, _ in _which(parts.model, which):
        layer.bias.fill_(-value)


@torch.no_grad()
def negative_weights(parts: Parts) -> None:
    """The middle layer, which reads units that are never negative, has negative weights only."""
    for layer, _ in _which(parts.model, "middle"):
        layer.weight.copy_(-layer.weight.abs())
        layer.bias.fill_(-0.1)


@torch.no_grad()
def scaled_weights(parts: Parts, scale: float, which: str = "all", biases: bool = False) -> None:
    """All weights (which="hidden": of all layers with hidden units; or of one) are `scale` times what is right."""
    inner = _which(parts.model, "all" if which == "hidden" else which)
    chosen: list[Any] = _layers(parts.model) if which == "all" else [layer for layer, _ in inner]
    for layer in dict.fromkeys(chosen):
        layer.weight.mul_(scale)
        if biases and layer.bias is not None:
            layer.bias.mul_(scale)
    if which == "all":
        for part in parts.model.modules():
            if isinstance(part, nn.MultiheadAttention):
                part.in_proj_weight.mul_(scale)


# Architecture: these change the recipe


def network(recipe: Recipe, **changes: Any) -> Recipe:
    """Another network or initialisation than the sane one."""
    return replace(recipe, **changes)


# Forward


def detach(parts: Parts, place: str = "middle", how: str = "detach") -> None:
    """The graph is cut: by .detach(), by .data, by a way through numpy, or by a tensor made anew."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "detach": torch.Tensor.detach,
        "data": lambda x: x.data,
        "numpy": lambda x: torch.from_numpy(x.detach().numpy().copy()),
        "clone": lambda x: x.clone().detach(),
    }
    put(parts.model, place, ways[how])


def zeroed(parts: Parts, place: str = "features") -> None:
    """A mask that is zero everywhere is multiplied in."""
    put(parts.model, place, lambda x: x * torch.zeros_like(x[:1]))


def integer_pixels(parts: Parts) -> None:
    """The input is divided by 255 a second time and made an integer: all zeros."""
    put(parts.model, "input", lambda x: (x / 255).trunc())


def batch_mean(parts: Parts, place: str = "features") -> None:
    """The mean is over the examples, by mistake."""
    put(parts.model, place, lambda x: x.mean(0, keepdim=True).expand_as(x))


def clamped(parts: Parts, low: float, high: float) -> None:
    """The output is clamped to a range in which it never is."""
    put(parts.model, "output", lambda x: x.clamp(low, high))


def softmax_of_one(parts: Parts) -> None:
    """A softmax over the one output: always one."""
    put(parts.model, "output", lambda x: x.softmax(-1))


def norm_of_one(parts: Parts) -> None:
    """A layer norm over the one output: always zero."""
    put(parts.model, "output", lambda x: F.layer_norm(x, (x.shape[-1],)) if x.shape[-1] == 1 else x * 0)


@torch.no_grad()
def saturated_output(parts: Parts, bias: float = 50.0, end: str = "sigmoid") -> None:
    """The head's bias is so far out that the sigmoid, tanh or ReLU after it is the same for every example."""
    _head(parts.model).bias.fill_(bias)
    ends = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
    put(parts.model, "output", ends[end])
    if end == "sigmoid" and parts.recipe.task == "bce":
        parts.criterion = F.binary_cross_entropy


# Parameters


def _named(model: nn.Module, which: str) -> list[nn.Parameter]:
    head = {id(p) for p in _head(model).parameters()}
    backbone = [p for p in model.parameters() if id(p) not in head]
    if which == "backbone":
        return backbone
    if which == "head":
        return list(_head(model).parameters())
    return list(_which(model, which)[0][0].parameters())


def frozen(parts: Parts, which: str = "backbone") -> None:
    """requires_grad is False, left over from somewhere."""
    for p in _named(parts.model, which):
        p.requires_grad_(False)


def not_in_optimizer(parts: Parts, which: str = "backbone") -> None:
    """The optimizer never gets these parameters."""
    left = {id(p) for p in _named(parts.model, which)}
    parts.optimized = [p for p in parts.model.parameters() if id(p) not in left]


def replaced_head(parts: Parts) -> None:
    """The optimizer was made before the head was replaced."""
    parts.optimized = list(parts.model.parameters())
    old = _head(parts.model)
    new = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)
    if isinstance(parts.model, Editable):
        parts.model.head = new
    else:
        parts.model[-1] = new  # type: ignore[index]


def unused_branch(parts: Parts) -> None:
    """A second branch is a part of the model, and forward never calls it."""
    width = _head(parts.model).in_features
    branch = nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, _head(parts.model).out_features))
    parts.model.auxiliary = branch  # type: ignore[assignment]


def layers_in_a_list(parts: Parts) -> None:
    """The layers are in a Python list, so that model.parameters() does not know them."""
    assert isinstance(parts.model, Perceptron)
    layers = list(parts.model.layers)
    del parts.model.layers
    parts.model.layers = layers  # type: ignore[assignment]


# Rate


def learning_rate(parts: Parts, factor: float) -> None:
    """The learning rate is off by a factor."""
    parts.lr *= factor


# Data


def scaled_inputs(parts: Parts, scale: float = 1e4) -> None:
    """The inputs are not normalised."""
    parts.batches = ((scale * x, y) for x, y in parts.batches)


def shuffled_targets(parts: Parts) -> None:
    """Inputs and targets are shuffled each by itself."""
    parts.batches = ((x, y[torch.randperm(len(y), generator=parts.generator)]) for x, y in parts.batches)


def random_targets(parts: Parts) -> None:
    """The targets are drawn anew, without a look at the inputs."""

    def draw(y: Tensor) -> Tensor:
        outputs = data.shape(parts.recipe.family, str(parts.recipe.task), parts.split)[1]
        if not y.is_floating_point():
            return torch.randint(outputs, y.shape, generator=parts.generator)
        if parts.recipe.task == "bce":
            return torch.randint(2, y.shape, generator=parts.generator).float()
        scale = 100.0 if parts.recipe.task == "mse100" else 1.0
        return scale * torch.randn(y.shape, generator=parts.generator)

    parts.batches = ((x, draw(y)) for x, y in parts.batches)


def stale_targets(parts: Parts) -> None:
    """Each batch comes with the targets of the batch before."""

    def late(batches: Iterator[data.Batch]) -> Iterator[data.Batch]:
        _, before = next(batches)
        for x, y in batches:
            yield x, before
            before = y

    parts.batches = late(parts.batches)


def noise_inputs(parts: Parts) -> None:
    """The inputs are noise, a wrong file; the targets are right."""

    def draw(x: Tensor) -> Tensor:
        if x.is_floating_point():
            return torch.randn(x.shape, generator=parts.generator)
        return torch.randint(data.VOCABULARIES[parts.split], x.shape, generator=parts.generator)

    parts.batches = ((draw(x), y) for x, y in parts.batches)


def nan_inputs(parts: Parts, share: float = 0.02, value: float = math.nan) -> None:
    """A few examples have a NaN, or an infinity, in one of their numbers."""

    def spoil(x: Tensor) -> Tensor:
        x = x.clone()
        bad = torch.rand(len(x), generator=parts.generator) < share
        x.flatten(1)[bad, 3] = value
        return x

    parts.batches = ((spoil(x), y) for x, y in parts.batches)


# Arithmetic


def log_of_zero(parts: Parts) -> None:
    """Inputs are taken on a log scale, and the smallest are zero."""
    put(parts.model, "input", lambda x: (x - x.amin()).log())


def zero_deviation(parts: Parts) -> None:
    """Each input feature is divided by its deviation in the batch; some never change."""
    put(parts.model, "input", lambda x: (x - x.mean(0)) / x.std(0))


@torch.no_grad()
def root_of_zero(parts: Parts) -> None:
    """A penalty is the root of a sum of squares that are zero at the start; the root's slope there is infinite."""
    before = parts.criterion
    bias = _head(parts.model).bias
    bias.zero_()
    parts.criterion = lambda output, target: before(output, target) + 1e-3 * bias.square().sum().sqrt()


def pair_distances(parts: Parts) -> None:
    """A term of the loss has the distances of all pairs of outputs, each output's distance from itself too."""
    before = parts.criterion

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        flat = output.flatten(1)
        distances = (flat[:, None] - flat[None]).square().sum(-1).sqrt()
        return before(output, target) - 1e-3 * distances.mean()

    parts.criterion = criterion


def divergence_of_one_hot(parts: Parts) -> None:
    """The Kullback–Leibler divergence is written out, and one-hot targets make it 0 log 0."""

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        p = F.one_hot(target, output.shape[-1]).float()
        return (p * (p.log() - output.log_softmax(-1))).sum(-1).mean()

    parts.criterion = criterion


def naive_softmax(parts: Parts, temperature: float = 0.005) -> None:
    """A softmax written out, exp over a sum of exp, with a small temperature: exp overflows."""

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        e = (output / temperature).exp()
        p = e / e.sum(-1, keepdim=True)
        return -p.gather(-1, target[..., None]).clamp(min=1e-9).log().mean()

    parts.criterion = criterion


def naive_log_sigmoid(parts: Parts, temperature: float = 0.01) -> None:
    """Binary cross entropy written out: a sigmoid that is exactly one, and the log of one minus it."""

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        p = (output / temperature).sigmoid()
        return -(target * p.log() + (1 - target) * (1 - p).log()).mean()

    parts.criterion = criterion


def half_overflow(parts: Parts, place: str = "features") -> None:
    """A place of the model is computed in float16, and its numbers are too large for that."""
    put(parts.model, place, lambda x: (1e6 * x).half().float() / 1e6)


def exponential_output(parts: Parts) -> None:
    """The model predicts a log and the loss takes exp of it, of numbers in the hundreds."""
    before = parts.criterion
    parts.criterion = lambda output, target: before((300 * output).exp(), target)


def mask_of_everything(parts: Parts) -> None:
    """The causal mask is one diagonal too low: the first token may look at nothing."""
    mask = parts.model.mask
    assert isinstance(mask, Tensor)
    mask.copy_(torch.full_like(mask, -torch.inf).triu(0))


def mean_of_none(parts: Parts) -> None:
    """The loss is the mean of every class's mean, and some batch lacks a class."""

    def criterion(output: Tensor, target: Tensor) -> Tensor:
        each = F.cross_entropy(output.flatten(0, -2), target.flatten(), reduction="none")
        return torch.stack([each[target.flatten() == k].mean() for k in range(output.shape[-1])]).mean()

    parts.criterion = criterion
