"""Momentum and Nesterov momentum in every precision, and what of them is kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from steepest.norms import L2, LInf, MaxRow, Norm, Spectral
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
NESTEROV = pytest.mark.parametrize("nesterov", [False, True], ids=["plain", "nesterov"])
# One tensor goes another way than several.
COUNTS = pytest.mark.parametrize("count", [1, 3])


def gradients(step: int, count: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(6, 4, generator=generator).to(dtype) for _ in range(count)]


@COUNTS
@NESTEROV
@DTYPES
@pytest.mark.parametrize("norm", [L2(), LInf(), MaxRow(), Spectral()], ids=str)
def test_the_buffer_is_momentum_times_itself_plus_the_gradient_to_the_rounding_of_its_dtype(
    norm, dtype, nesterov, count
):
    params = [nn.Parameter(torch.zeros(6, 4, dtype=dtype)) for _ in range(count)]
    optimizer = SteepestDescent(params, norm, 0.1, mode="constrained", momentum=0.9, nesterov=nesterov)
    held = [torch.zeros(6, 4, dtype=torch.float64) for _ in range(count)]
    for step in range(3):
        for i, g in enumerate(gradients(step, count, dtype)):
            params[i].grad = g
            held[i] = 0.9 * held[i] + g.double()
        optimizer.step()
        for i, p in enumerate(params):
            buffer = optimizer.state[p]["momentum_buffer"]
            assert buffer.dtype == dtype
            # Two roundings, of the product and of the sum; from the rounded one the next step goes on.
            size = held[i].abs() + gradients(step, count, dtype)[i].double().abs()
            assert bool(((buffer.double() - held[i]).abs() <= torch.finfo(dtype).eps * size).all())
            held[i] = buffer.double()


@COUNTS
@NESTEROV
@DTYPES
def test_what_is_followed_is_the_buffer_or_with_nesterov_the_gradient_plus_momentum_times_it(dtype, nesterov, count):
    params = [nn.Parameter(torch.zeros(6, 4, dtype=dtype)) for _ in range(count)]
    optimizer = SteepestDescent(params, L2(), 1.0, momentum=0.9, nesterov=nesterov)
    for step in range(3):
        before = [p.detach().double().clone() for p in params]
        for p, g in zip(params, gradients(step, count, dtype), strict=True):
            p.grad = g
        optimizer.step()
        for p, start in zip(params, before, strict=True):
            g, m = p.grad.double(), optimizer.state[p]["momentum_buffer"].double()
            expected = start - (g + 0.9 * m if nesterov else m)
            largest = max(float(x.abs().max()) for x in (start, g, m, expected))
            tolerance = 4 * torch.finfo(dtype).eps * largest
            torch.testing.assert_close(p.detach().double(), expected, rtol=0, atol=tolerance)


@NESTEROV
@pytest.mark.parametrize("norm", [L2(), LInf(), MaxRow(), Spectral(exact=True)], ids=str)
@pytest.mark.parametrize("mode", ["penalized", "constrained"])
def test_three_steps_in_bfloat16_stay_with_the_reference(norm: Norm, mode, nesterov):
    w = nn.Parameter(torch.zeros(6, 4, dtype=torch.bfloat16))
    optimizer = SteepestDescent([w], norm, 0.25, mode=mode, momentum=0.9, nesterov=nesterov)
    value = buffer = torch.zeros(6, 4, dtype=torch.float64)
    for step in range(3):
        (w.grad,) = gradients(step, 1, torch.bfloat16)
        optimizer.step()
        g = w.grad.double()
        buffer = 0.9 * buffer + g
        v = g + 0.9 * buffer if nesterov else buffer
        value = value - 0.25 * norm.duality_map(v) * (norm.dual_norm(v) if mode == "penalized" else 1)
    torch.testing.assert_close(optimizer.state[w]["momentum_buffer"].double(), buffer, rtol=0.02, atol=0.02)
    assert float((w.detach().double() - value).norm()) < 0.02 * float(value.norm())


@pytest.mark.parametrize("mode", ["penalized", "constrained"])
@pytest.mark.parametrize("norm", [L2(), LInf(), MaxRow(), Spectral()], ids=str)
def test_the_buffer_is_a_tensor_of_its_own_that_no_step_scales(norm, mode):
    w = nn.Parameter(torch.zeros(6, 4))
    optimizer = SteepestDescent([w], norm, 0.25, mode=mode, momentum=0.5)
    w.grad = gradients(0, 1, torch.float32)[0]
    first = w.grad.clone()
    optimizer.step()
    buffer = optimizer.state[w]["momentum_buffer"]
    assert torch.equal(buffer, first)
    assert buffer.data_ptr() not in (w.grad.data_ptr(), w.data_ptr())


@pytest.mark.parametrize(("momentum", "names"), [(0.0, []), (0.9, ["momentum_buffer"])])
@pytest.mark.parametrize("mode", ["penalized", "constrained"])
@pytest.mark.parametrize("norm", [L2(), LInf(), Spectral()], ids=str)
def test_the_state_is_one_buffer_a_parameter_and_nothing_without_momentum(norm, mode, momentum, names):
    w = nn.Parameter(torch.zeros(6, 4, dtype=torch.bfloat16))
    w.grad = gradients(0, 1, torch.bfloat16)[0]
    optimizer = SteepestDescent([w], norm, 0.1, mode=mode, momentum=momentum)
    for _ in range(2):
        optimizer.step()
    state = optimizer.state.get(w, {})
    assert list(state) == names
    assert all(buffer.shape == w.shape and buffer.dtype == w.dtype for buffer in state.values())


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda w: SignDescent([w], 0.1), []),
        (lambda w: Muon([w], 0.1), ["momentum_buffer"]),
        (lambda w: Scion([w], 0.1), ["momentum_buffer"]),
        (lambda w: EpochAdam([w], 0.1), ["step", "root_so_far", "root_mean_square"]),
    ],
    ids=["SignDescent", "Muon", "Scion", "EpochAdam"],
)
def test_a_preset_keeps_these_tensors_a_parameter(make, names):
    w = nn.Parameter(torch.zeros(6, 4))
    (w.grad,) = gradients(0, 1, torch.float32)
    optimizer = make(w)
    optimizer.step()
    assert list(optimizer.state.get(w, {})) == names


def test_momentum_that_is_switched_off_and_on_again_leaves_the_buffer_where_it_was():
    w = nn.Parameter(torch.zeros(6, 4, dtype=torch.float64))
    optimizer = SteepestDescent([w], L2(), 0.1, momentum=0.5)
    (group,) = optimizer.param_groups
    grads = [gradients(step, 1, torch.float64)[0] for step in range(3)]
    for momentum, g in zip((0.5, 0.0, 0.5), grads, strict=True):
        group["momentum"], w.grad = momentum, g
        optimizer.step()
    torch.testing.assert_close(optimizer.state[w]["momentum_buffer"], 0.5 * grads[0] + grads[2])
    torch.testing.assert_close(w.data, -0.1 * (grads[0] + grads[1] + 0.5 * grads[0] + grads[2]))
