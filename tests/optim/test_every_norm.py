"""Steps in every norm, against updates written by hand from the norm's own functions, and their certificates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest.norms import (
    L1,
    L2,
    Flattened,
    LInf,
    Lp,
    MaxColumn,
    MaxRow,
    Norm,
    Nuclear,
    Scaled,
    Schatten,
    Spectral,
    Split,
    duality_gap,
)
from steepest.optim import SteepestDescent

EXACT: list[tuple[Norm, tuple[int, ...]]] = [
    (L1(), (6, 4)),
    (L2(), (6, 4)),
    (LInf(), (6, 4)),
    (Lp(3.0), (6, 4)),
    (Spectral(exact=True), (6, 4)),
    (Nuclear(), (6, 4)),
    (Schatten(4.0), (6, 4)),
    (MaxRow(), (6, 4)),
    (MaxColumn(), (6, 4)),
    (Scaled(Spectral(exact=True), by=0.3), (6, 4)),
    (Scaled(L2(), by=2.5), (5,)),
    (Split(Spectral(exact=True), parts=3), (6, 4)),
    (Split(LInf(), parts=(1, 3), dim=1), (6, 4)),
    (Flattened(Spectral(exact=True)), (5, 3, 2, 2)),
    (Scaled(Flattened(MaxRow()), by=0.5), (5, 3, 2, 2)),
]
ITERATIVE: list[tuple[Norm, tuple[int, ...]]] = [
    (Spectral(), (6, 4)),
    (Scaled(Spectral(), by=0.3), (6, 4)),
    (Split(Spectral(), parts=2, dim=1), (6, 4)),
    (Flattened(Spectral()), (5, 3, 2, 2)),
]
EVERY = pytest.mark.parametrize(("norm", "shape"), EXACT + ITERATIVE, ids=lambda value: str(value))
MODES = pytest.mark.parametrize("mode", ["penalized", "constrained"])

FOLLOWING = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.8, "nesterov": True},
    {"momentum": 0.8, "nesterov": True, "maximize": True, "weight_decay": 0.3},
]


def tensors(shape: tuple[int, ...], seed: int, count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


def step_by_hand(norm: Norm, v: Tensor, lr: float, mode: str) -> Tensor:
    if mode == "constrained":
        return -lr * norm.duality_map(v)
    parts = [v]
    if isinstance(norm, Split):  # its iterative parts are each as long as they come
        parts = v.chunk(norm.parts, norm.dim) if isinstance(norm.parts, int) else v.split(norm.parts, norm.dim)
        inner = norm.norm
    else:
        inner = norm
    directions = [inner.duality_map(part) / inner(inner.duality_map(part)) for part in parts]
    dual = sum((part * direction).sum() for part, direction in zip(parts, directions, strict=True))
    torch.testing.assert_close(norm.dual_norm(v), dual, rtol=1e-9, atol=0)
    return -lr * dual * torch.cat(directions, norm.dim if isinstance(norm, Split) else 0)


def each_with_all_options_and_one_of_the_others() -> Iterator[Any]:
    for (i, (norm, shape)), (j, mode), (k, options) in itertools.product(
        enumerate(EXACT + ITERATIVE), enumerate(["penalized", "constrained"]), enumerate(FOLLOWING)
    ):
        marks = () if k == 3 or k == (i + j) % 3 else pytest.mark.slow
        yield pytest.param(norm, shape, mode, options, id=f"{norm}-{mode}-{options}", marks=marks)


@pytest.mark.parametrize(("norm", "shape", "mode", "options"), list(each_with_all_options_and_one_of_the_others()))
def test_a_step_is_the_dual_norm_times_the_duality_map_or_the_radius_times_the_map(norm, shape, mode, options):
    lr, momentum, decay = 0.05, options.get("momentum", 0.0), options.get("weight_decay", 0.0)
    starts, (expected_0, expected_1, _) = tensors(shape, 1), tensors(shape, 1)
    expected, buffers = [expected_0, expected_1], [torch.zeros(shape, dtype=torch.float64) for _ in range(2)]
    params = [nn.Parameter(start) for start in starts[:2]]
    optimizer = SteepestDescent(params, norm, lr, mode=mode, **options)
    for step in range(3):
        gradients = tensors(shape, 100 + step)[:2]
        for i, g in enumerate(gradients):
            params[i].grad = g.clone()
            downhill = -g if options.get("maximize") else g
            buffers[i] = momentum * buffers[i] + downhill
            v = downhill + momentum * buffers[i] if options.get("nesterov") else buffers[i]
            expected[i] = expected[i] * (1 - lr * decay) + step_by_hand(norm, v, lr, mode)
        optimizer.step()
        for parameter, g in zip(params, gradients, strict=True):
            assert torch.equal(parameter.grad, g)
    for parameter, buffer, value in zip(params, buffers, expected, strict=True):
        torch.testing.assert_close(parameter.data, value, rtol=1e-9, atol=1e-11)
        if momentum:
            torch.testing.assert_close(optimizer.state[parameter]["momentum_buffer"], buffer, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("norm", "shape"), EXACT, ids=str)
def test_every_penalised_step_is_the_minimiser_by_its_certificate(norm, shape):
    (start, g, _), lr = tensors(shape, 2), 0.07
    w = nn.Parameter(start.clone())
    w.grad = g
    SteepestDescent([w], norm, lr).step()
    assert float(duality_gap(norm, g, w.data - start, alpha=2 * lr)) < 1e-12


@pytest.mark.parametrize(("norm", "shape"), ITERATIVE, ids=str)
def test_every_iterative_penalised_step_misses_little_of_the_minimum_of_the_exact_norm(norm, shape):
    (start, g, _), lr = tensors(shape, 2), 0.07
    w = nn.Parameter(start.clone())
    w.grad = g
    SteepestDescent([w], norm, lr).step()
    assert float(duality_gap(norm.exactly(), g, w.data - start, alpha=2 * lr)) < 0.05


@MODES
@EVERY
def test_a_gradient_of_zeros_moves_nothing_but_the_decay(norm, shape, mode):
    (start, *_) = tensors(shape, 3)
    w = nn.Parameter(start.clone())
    w.grad = torch.zeros(shape, dtype=torch.float64)
    SteepestDescent([w], norm, 0.1, mode=mode, weight_decay=0.5, momentum=0.9).step()
    torch.testing.assert_close(w.data, 0.95 * start, rtol=1e-15, atol=0)


@MODES
@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [pytest.param(torch.float32, 2e-6, marks=pytest.mark.slow), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)],
    ids=str,
)
@EVERY
def test_in_lower_precision_a_step_is_that_of_float64_to_rounding(norm, shape, dtype, rounding, mode):
    g = tensors(shape, 4)[0].to(dtype)
    steps = []
    for precision in (torch.float64, dtype):
        w = nn.Parameter(torch.zeros(shape, dtype=precision))
        w.grad = g.to(precision)
        SteepestDescent([w], norm, 1.0, mode=mode).step()
        assert w.dtype == precision
        steps.append(w.data.double())
    exact, rounded = steps
    assert float((rounded - exact).norm()) <= rounding * float(exact.norm())
