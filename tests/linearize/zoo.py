"""Small architectures of every kind: how one is written, and the register of all. The files zoo_* hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["ZOO", "Architecture", "Net", "architecture", "batch", "build", "draw", "mlp", "parameter", "tokens"]

Draw = Callable[[int], Any]


@dataclass(frozen=True)
class Architecture:
    """A model with the distribution of its inputs.

    Attributes:
        build: Draws the model and returns it with a function that draws n examples.
        n: How many examples there are at first.
        others: How many there are in other batches; often one of them is the length of a sequence.
        train: Whether it stays in training mode.
        slow: Whether it takes seconds.
        single: Whether float32 is precise enough for it.
        warns: How a warning begins that torch gives for it; it is no concern of ours.
    """

    build: Callable[[], tuple[nn.Module, Draw]]
    n: int
    others: tuple[int, ...]
    train: bool
    slow: bool
    single: bool
    warns: str


ZOO: dict[str, Architecture] = {}


def architecture(
    n: int = 4,
    *,
    others: tuple[int, ...] = (1, 5),
    train: bool = False,
    slow: bool = False,
    single: bool = True,
    warns: str = "",
) -> Callable[[Callable[[], tuple[nn.Module, Draw]]], Callable[[], tuple[nn.Module, Draw]]]:
    def register(function: Callable[[], tuple[nn.Module, Draw]]) -> Callable[[], tuple[nn.Module, Draw]]:
        assert function.__name__ not in ZOO
        ZOO[function.__name__] = Architecture(function, n, others, train, slow, single, warns)
        return function

    return register


def build(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The model, always the same one."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = ZOO[name].build()[0].to(dtype)
    return model if ZOO[name].train else model.eval()


def batch(name: str, n: int | None = None, seed: int = 2, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Its examples; another seed gives others."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        sample = ZOO[name].build()[1]
        torch.manual_seed(seed)
        x = sample(ZOO[name].n if n is None else n)
    inputs = x if isinstance(x, tuple) else (x,)
    return tuple(t.to(dtype) if t.is_floating_point() else t for t in inputs)


class Net(nn.Module):
    """Parts and a forward pass that is a function of them and of the inputs."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, *x: Tensor) -> Any:
        return self.run(self, *x)


def draw(*shape: int) -> Draw:
    return lambda n: torch.randn(n, *shape, dtype=torch.float64)


def tokens(length: int, vocabulary: int = 7) -> Draw:
    return lambda n: torch.randint(0, vocabulary, (n, length))


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, dtype=torch.float64))


def mlp(activation: Callable[[], nn.Module], bias: bool = True, outputs: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, 5, bias), activation(), nn.Linear(5, 4, bias), activation(), nn.Linear(4, outputs, bias)
    )
