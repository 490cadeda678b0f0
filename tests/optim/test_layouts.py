"""Parameters of every layout and size: in pieces, strided, tied, empty, without dimensions, of several dtypes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest.norms import L1, L2, Flattened, LInf, Lp, MaxColumn, MaxRow, Norm, Nuclear, Scaled, Spectral, Split
from steepest.optim import EpochAdam, SignDescent, SteepestDescent

MODES = pytest.mark.parametrize("mode", ["penalized", "constrained"])
OPTIONS = pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "maximize": True, "weight_decay": 0.2}],
    ids=["plain", "momentum", "all"],
)


def randn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def train(params: list[nn.Parameter], optimizer: torch.optim.Optimizer, lay: Callable[[Tensor], Tensor]) -> None:
    for step in range(3):
        for i, p in enumerate(params):
            p.grad = lay(randn(tuple(p.shape), 100 * step + i).to(p.dtype))
        optimizer.step()


def as_it_is(x: Tensor) -> Tensor:
    return x


PIECEWISE = [L2(), LInf(), Scaled(LInf(), 0.5), Scaled(L2(), 3.0), Split(LInf(), 2), Split(LInf(), 2, dim=1), MaxRow()]


@OPTIONS
@MODES
@pytest.mark.parametrize("norm", PIECEWISE, ids=str)
def test_large_tensors_step_in_pieces_as_they_would_whole(norm, mode, options, monkeypatch):
    results = []
    for piece in (2**20, 7):
        monkeypatch.setattr("steepest.optim._steepest_descent._PIECE", piece)
        monkeypatch.setattr("steepest.optim._steepest_descent._SMALL", 2**16 if piece > 7 else 3)
        params = [nn.Parameter(randn(shape, i)) for i, shape in enumerate([(6, 4), (2, 2), (10, 10)])]
        train(params, SteepestDescent(params, norm, 0.1, mode=mode, **options), as_it_is)
        results.append([p.data for p in params])
    torch.testing.assert_close(*results, rtol=1e-13, atol=1e-14)


def test_a_split_sign_step_takes_tensors_of_any_size():
    w = nn.Parameter(torch.zeros(3 * 700, 1024))
    w.grad = torch.ones_like(w)
    SteepestDescent([w], Split(LInf(), parts=3), 0.5, mode="constrained").step()
    assert bool((w == -0.5).all())


def transposed(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def strided(x: Tensor) -> Tensor:
    wide = torch.zeros(*x.shape, 3, dtype=x.dtype)
    wide[..., 1] = x
    return wide[..., 1]


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else transposed(x)


def offset(x: Tensor) -> Tensor:
    return torch.cat([torch.full((1,), torch.nan, dtype=x.dtype), x.flatten()])[1:].view(x.shape)


LAYOUTS = [transposed, strided, channels_last, offset]
STRIDED: list[tuple[Norm, tuple[int, ...]]] = [
    *((norm, (6, 4)) for norm in (L1(), L2(), LInf(), Lp(3.0), MaxRow(), MaxColumn(), Nuclear())),
    *((norm, (6, 4)) for norm in (Spectral(), Spectral(exact=True), Split(Spectral(), 2))),
    *((norm, (5, 3, 2, 2)) for norm in (L1(), L2(), LInf(), Flattened(Spectral()), Flattened(MaxRow()))),
    *((norm, (5, 3, 1, 1)) for norm in (Flattened(Spectral()), Flattened(MaxColumn()))),
]


def pairwise() -> Iterator[Any]:
    """Every layout in every norm, each time of another tensor; the other combinations are slow."""
    for (i, (norm, shape)), (j, lay), (k, of) in itertools.product(
        enumerate(STRIDED), enumerate(LAYOUTS), enumerate(["parameter", "gradient", "both"])
    ):
        marks = () if (i + j + k) % 3 == 0 else pytest.mark.slow
        yield pytest.param(norm, shape, lay, of, id=f"{norm}-{shape}-{lay.__name__}-{of}", marks=marks)


@pytest.mark.parametrize(("norm", "shape", "lay", "of"), list(pairwise()))
def test_the_layout_of_parameters_and_gradients_makes_no_difference(norm, shape, lay, of, monkeypatch):
    monkeypatch.setattr("steepest.optim._steepest_descent._PIECE", 7)
    for mode, small in (("penalized", 2**16), ("constrained", 3)):
        monkeypatch.setattr("steepest.optim._steepest_descent._SMALL", small)
        results = []
        for layout in (as_it_is, lay):
            params = [nn.Parameter((as_it_is if of == "gradient" else layout)(randn(shape, 7))) for _ in range(2)]
            optimizer = SteepestDescent(params, norm, 0.1, mode=mode, momentum=0.9, nesterov=True, weight_decay=0.1)
            train(params, optimizer, as_it_is if of == "parameter" else layout)
            results.append([p.data for p in params])
        torch.testing.assert_close(*results, rtol=1e-8, atol=1e-9)


def test_a_gradient_that_is_one_number_expanded_is_taken_and_left():
    number = torch.ones((), dtype=torch.float64)
    params = [nn.Parameter(torch.zeros(4, 3, dtype=torch.float64)) for _ in range(2)]
    for p in params:
        p.grad = number.expand(4, 3)
    SteepestDescent(params, LInf(), 0.1, mode="constrained", momentum=0.9, nesterov=True, maximize=True).step()
    assert float(number) == 1
    assert all(bool((p == 0.1).all()) for p in params)


def test_tied_weights_step_once_with_the_sum_of_their_gradients():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight = net[0].weight
    optimizer = SteepestDescent(net.parameters(), L2(), 0.1)
    start, x = net[0].weight.detach().clone(), torch.ones(1, 4)
    net(x).sum().backward()
    ones = torch.ones(4)
    gradient = torch.outer(start.T @ ones, ones) + torch.outer(ones, start @ ones)
    optimizer.step()
    torch.testing.assert_close(net[1].weight.data, start - 0.1 * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda params: SteepestDescent(params, L2(), 0.1, momentum=0.9, weight_decay=0.5),
        lambda params: SteepestDescent(params, Spectral(), 0.1, momentum=0.9, weight_decay=0.5),
        lambda params: SignDescent(params, 0.1, mode="constrained", momentum=0.9, weight_decay=0.5),
        lambda params: EpochAdam(params, 0.1, weight_decay=0.5),
    ],
    ids=["L2", "spectral", "sign", "EpochAdam"],
)
def test_a_parameter_without_gradient_neither_decays_nor_gets_a_state(make):
    frozen, absent, w = (nn.Parameter(torch.ones(3, 3)) for _ in range(3))
    frozen.requires_grad_(False)
    w.grad = torch.eye(3)
    optimizer = make([frozen, absent, w])
    optimizer.step()
    assert torch.equal(frozen, torch.ones(3, 3))
    assert torch.equal(absent, torch.ones(3, 3))
    assert set(optimizer.state) == {w}
    assert not torch.equal(w, torch.ones(3, 3))


SMALLEST = [L1(), L2(), LInf(), Lp(3.0), Scaled(LInf(), 0.5)]
MATRICES = [MaxRow(), MaxColumn(), Spectral(), Spectral(exact=True), Nuclear(), Flattened(Spectral())]


@MODES
@pytest.mark.parametrize("norm", SMALLEST + MATRICES, ids=str)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=str)
def test_empty_parameters_are_stepped_over_beside_others(norm, shape, mode):
    params = [nn.Parameter(torch.zeros(size)) for size in (shape, shape, (2, 2))]
    for p in params:
        p.grad = torch.ones_like(p)
    SteepestDescent(params, norm, 0.1, mode=mode, momentum=0.9, nesterov=True, weight_decay=0.1).step()
    assert bool(params[2].any())


@MODES
@pytest.mark.parametrize("norm", SMALLEST, ids=str)
def test_a_scalar_steps_by_its_size_or_by_the_radius(norm, mode):
    w = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    w.grad = torch.tensor(-3.0, dtype=torch.float64)
    SteepestDescent([w], norm, 0.1, mode=mode).step()
    by = norm.by if isinstance(norm, Scaled) else 1.0
    assert float(w.detach()) == pytest.approx(1 + (0.1 * 3 / by**2 if mode == "penalized" else 0.1 / by), abs=1e-12)


@OPTIONS
@pytest.mark.parametrize("norm", [L2(), LInf(), MaxRow(), Spectral()], ids=str)
def test_parameters_of_several_dtypes_go_together(norm, options):
    dtypes = [torch.float32, torch.bfloat16, torch.float64, torch.float16]
    params = [nn.Parameter(torch.zeros(4, 4, dtype=dtype)) for dtype in dtypes]
    train(params, SteepestDescent(params, norm, 0.1, mode="constrained", **options), as_it_is)
    for i, p in enumerate(params):
        alone = nn.Parameter(torch.zeros(4, 4, dtype=p.dtype))
        optimizer = SteepestDescent([alone], norm, 0.1, mode="constrained", **options)
        for step in range(3):
            alone.grad = randn((4, 4), 100 * step + i).to(p.dtype)
            optimizer.step()
        torch.testing.assert_close(p.data, alone.data, rtol=0, atol=4 * torch.finfo(p.dtype).eps)
