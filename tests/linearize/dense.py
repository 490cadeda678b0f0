"""The reference that is obviously right: one plain backward pass for each row of the Jacobian."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from steepest.linearize import Linearization

__all__ = ["assert_right", "by_differences", "dense", "evaluate", "flat", "random", "relative", "trace", "trainable"]


def flat(found: Any, n: int) -> Tensor:
    """What a model returned, as [n, C]."""
    if isinstance(found, Mapping):
        found = tuple(found.values())
    if isinstance(found, (tuple, list)):
        return torch.cat([flat(part, n) for part in found], 1)
    return found.reshape(n, -1)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def evaluate(model: nn.Module, inputs: tuple[Tensor, ...], outputs: Any = None) -> Tensor:
    """The outputs of the whole batch, [n, C]; a model that writes into its inputs writes into copies."""
    found = model(*(t.clone() for t in inputs))
    return flat(found if outputs is None else outputs(found), len(inputs[0]))


def dense(model: nn.Module, inputs: tuple[Tensor, ...], outputs: Any = None) -> Tensor:
    """The Jacobian [n C, P] by definition: row (i, c) is the gradient of entry (i, c) of model(x)."""
    parameters = list(trainable(model).values())

    def row(entry: Tensor) -> Iterator[Tensor]:
        found = torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True)
        for p, gradient in zip(parameters, found, strict=True):
            yield (torch.zeros_like(p) if gradient is None else gradient.to_dense()).flatten()

    return torch.stack([torch.cat(list(row(entry))) for entry in evaluate(model, inputs, outputs).flatten()]).detach()


def by_differences(model: nn.Module, inputs: tuple[Tensor, ...], step: float = 1e-6) -> Tensor:
    """The Jacobian by central differences, for smooth models in float64: it shares nothing with autograd."""
    columns: list[Tensor] = []
    with torch.no_grad():
        for p in trainable(model).values():
            for entry in p.view(-1).split(1):
                start = entry.clone()
                entry.copy_(start + step)
                above = evaluate(model, inputs)
                entry.copy_(start - step)
                below = evaluate(model, inputs)
                entry.copy_(start)
                columns.append((above - below).flatten() / (2 * step))
    return torch.stack(columns, 1)


def trace(kernel: Tensor, c: int) -> Tensor:
    """The sum over outputs of the diagonal of each block, [n1, n2]."""
    return kernel.unflatten(1, (-1, c)).unflatten(0, (-1, c)).diagonal(dim1=1, dim2=3).sum(-1)


def relative(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected||, in Frobenius' norm."""
    return float((found - expected).norm() / expected.norm().clamp_min(1e-300))


def random(*shape: int, seed: int = 0) -> Tensor:
    """Numbers of the normal distribution that depend on nothing but the seed."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


Inputs = Tensor | tuple[Tensor, ...]


def assert_right(model: nn.Module, x: Inputs, *others: Inputs, **options: Any) -> Linearization:
    """Linearize in float64 at x: features, kernels and predictions there and at the others are those of autograd."""
    model = model.double()
    lin = Linearization(model, x, **options)

    def reference(inputs: Inputs) -> Tensor:
        return dense(model, inputs if isinstance(inputs, tuple) else (inputs,))

    first = reference(x)
    assert relative(lin.features(), first) < 1e-10
    assert relative(lin.kernel(), first @ first.T) < 1e-10
    for other in others:
        second = reference(other)
        assert relative(lin.features(other), second) < 1e-10
        assert relative(lin.kernel(other), second @ second.T) < 1e-10
        assert relative(lin.kernel(None, other), first @ second.T) < 1e-10
        assert relative(lin.kernel(other, x), second @ first.T) < 1e-10
        assert relative(lin.kernel(other, x, trace=True), trace(second @ first.T, lin.outputs)) < 1e-10
        values = evaluate(model, other if isinstance(other, tuple) else (other,)).detach()
        assert relative(lin.predictions(other), values) < 1e-10
    return lin
