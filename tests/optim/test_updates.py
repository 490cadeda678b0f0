"""What one step does, against torch's SGD and against updates written out by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from steepest.norms import L2, LInf, Scaled, Spectral
from steepest.optim import SignDescent, SteepestDescent

SHAPES = [(4, 3), (5,), (2, 3, 2, 2)]
NORMS = [L2(), LInf(), Scaled(LInf(), by=0.5)]


def parameters(seed: int = 0, shapes: list[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]


def gradients(step: int, shapes: list[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def run(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: int = 6) -> None:
    for step in range(steps):
        for parameter, gradient in zip(params, gradients(step, [tuple(p.shape) for p in params]), strict=True):
            parameter.grad = gradient
        optimizer.step()


def values(params: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in params]


def assert_same(actual: list[Tensor], expected: list[Tensor], rtol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-14)


@given(
    lr=st.floats(0, 2),
    momentum=st.sampled_from([0.0, 0.5, 0.95]),
    nesterov=st.booleans(),
    maximize=st.booleans(),
)
def test_in_the_l2_norm_it_is_torchs_sgd(lr, momentum, nesterov, maximize):
    options = {"lr": lr, "momentum": momentum, "nesterov": nesterov and momentum > 0, "maximize": maximize}
    ours, theirs = parameters(), parameters()
    steepest, sgd = SteepestDescent(ours, L2(), **options), torch.optim.SGD(theirs, **options)
    run(steepest, ours)
    run(sgd, theirs)
    assert_same(values(ours), values(theirs))
    for p, q in zip(ours, theirs, strict=True):
        if momentum:
            assert torch.equal(steepest.state[p]["momentum_buffer"], sgd.state[q]["momentum_buffer"])
        else:
            assert not steepest.state[p]


def test_by_default_there_is_no_momentum_no_decay_and_the_step_is_penalized():
    ours, theirs = parameters(), parameters()
    run(SteepestDescent(ours, L2()), ours)
    run(torch.optim.SGD(theirs, lr=1e-3), theirs)
    assert_same(values(ours), values(theirs))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("mode", ["penalized", "constrained"])
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_weight_decay_shrinks_the_weights_before_the_step_and_stays_out_of_the_gradient(norm, mode, momentum):
    lr, decay = 0.1, 0.3
    params, expected = parameters(), values(parameters())
    buffers = [torch.zeros_like(value) for value in expected]
    run(SteepestDescent(params, norm, lr, mode=mode, momentum=momentum, weight_decay=decay), params)
    for step in range(6):
        for value, buffer, g in zip(expected, buffers, gradients(step), strict=True):
            buffer.mul_(momentum).add_(g)
            length = norm.dual_norm(buffer) if mode == "penalized" else 1
            value.mul_(1 - lr * decay).sub_(lr * length * norm.duality_map(buffer))
    assert_same(values(params), expected)


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_constrained_sign_step_moves_every_entry_by_lr(nesterov):
    lr, momentum = 0.01, 0.9
    params, expected = parameters(), values(parameters())
    buffers = [torch.zeros_like(value) for value in expected]
    run(SignDescent(params, lr, mode="constrained", momentum=momentum, nesterov=nesterov), params)
    for step in range(6):
        for value, buffer, g in zip(expected, buffers, gradients(step), strict=True):
            buffer.mul_(momentum).add_(g)
            value.sub_(lr * torch.sign(g + momentum * buffer if nesterov else buffer))
    assert_same(values(params), expected)


def test_the_penalized_sign_step_is_as_long_as_the_l1_norm_of_the_gradient():
    params, before = parameters(), values(parameters())
    run(SignDescent(params, 0.01), params, steps=1)
    for value, start, g in zip(values(params), before, gradients(0), strict=True):
        torch.testing.assert_close(value, start - 0.01 * g.abs().sum() * torch.sign(g))


def test_every_parameter_steps_by_itself():
    together, alone = parameters(), parameters()
    run(SteepestDescent(together, LInf(), 0.01), together, steps=1)
    for parameter, g in zip(alone, gradients(0), strict=True):
        parameter.grad = g
        SteepestDescent([parameter], LInf(), 0.01).step()
    assert_same(values(together), values(alone))


def test_many_small_matrices_of_one_shape_step_as_each_would_alone():
    shapes = [(4, 3)] * 5 + [(3, 4)] * 2
    together, alone = parameters(shapes=shapes), parameters(shapes=shapes)
    options = {"norm": Spectral(), "lr": 0.1, "mode": "constrained"}
    run(SteepestDescent(together, **options), together, steps=1)
    for parameter, g in zip(alone, gradients(0, shapes), strict=True):
        parameter.grad = g
        SteepestDescent([parameter], **options).step()
    assert_same(values(together), values(alone), rtol=1e-9)


def test_maximize_walks_the_opposite_way():
    down, up = parameters(), parameters()
    options = {"lr": 0.05, "momentum": 0.9, "mode": "constrained"}
    run(SteepestDescent(down, LInf(), **options), down)
    run(SteepestDescent(up, LInf(), **options, maximize=True), up)
    start = values(parameters())
    assert_same([u - s for u, s in zip(values(up), start, strict=True)],
                [s - d for d, s in zip(values(down), start, strict=True)], rtol=1e-9)  # fmt: skip


def test_each_group_has_its_own_norm_mode_and_learning_rate():
    a, b, c = parameters(shapes=[(4, 3), (4, 3), (5,)])
    optimizer = SteepestDescent(
        [
            {"params": [a], "norm": Spectral(exact=True), "mode": "constrained", "lr": 0.3},
            {"params": [b], "norm": LInf(), "maximize": True},
            {"params": [c]},
        ],
        norm=L2(),
        lr=0.1,
    )
    before = values([a, b, c])
    run(optimizer, [a, b, c], steps=1)
    ga, gb, gc = gradients(0, [(4, 3), (4, 3), (5,)])
    expected = [
        before[0] - 0.3 * Spectral(exact=True).duality_map(ga),
        before[1] + 0.1 * gb.abs().sum() * gb.sign(),
        before[2] - 0.1 * gc,
    ]
    assert_same(values([a, b, c]), expected)


def test_an_added_group_is_stepped_with_its_own_options():
    a, b = parameters(shapes=[(3,), (2,)])
    optimizer = SteepestDescent([a], L2(), lr=0.1)
    optimizer.add_param_group({"params": [b], "norm": LInf(), "mode": "constrained", "lr": 0.5})
    before = values([a, b])
    run(optimizer, [a, b], steps=1)
    ga, gb = gradients(0, [(3,), (2,)])
    assert_same(values([a, b]), [before[0] - 0.1 * ga, before[1] - 0.5 * gb.sign()])


def test_a_parameter_without_gradient_is_left_alone_also_by_weight_decay():
    params = parameters()
    before = values(params)
    optimizer = SteepestDescent(params, L2(), lr=0.1, momentum=0.9, weight_decay=0.5)
    params[0].grad = gradients(0)[0]
    optimizer.step()
    assert not torch.equal(params[0], before[0])
    for parameter, value in zip(params[1:], before[1:], strict=True):
        assert torch.equal(parameter, value)
        assert not optimizer.state[parameter]


def test_a_step_without_any_gradient_changes_nothing():
    params = parameters()
    before = values(params)
    SteepestDescent(params, L2(), lr=0.1, weight_decay=0.5).step()
    assert all(torch.equal(p, value) for p, value in zip(params, before, strict=True))


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "maximize": True}])
@pytest.mark.parametrize("mode", ["penalized", "constrained"])
def test_gradients_are_never_changed(mode, options):
    params = parameters()
    optimizer = SteepestDescent(params, L2(), lr=0.1, mode=mode, weight_decay=0.1, **options)
    held = [g.clone() for g in gradients(0)]
    for parameter, g in zip(params, held, strict=True):
        parameter.grad = g
    for _ in range(3):
        optimizer.step()
    for parameter, g, original in zip(params, held, gradients(0), strict=True):
        assert parameter.grad is g
        assert torch.equal(g, original)


def test_a_learning_rate_of_zero_moves_the_momentum_but_not_the_weights():
    params = parameters()
    before = values(params)
    optimizer = SteepestDescent(params, L2(), lr=0, momentum=0.9, weight_decay=0.1)
    run(optimizer, params, steps=1)
    assert all(torch.equal(p, value) for p, value in zip(params, before, strict=True))
    assert torch.equal(optimizer.state[params[0]]["momentum_buffer"], gradients(0)[0])


def test_the_momentum_update_has_the_check_values_of_the_course():
    w = nn.Parameter(torch.linspace(-0.4, 0.6, 20, dtype=torch.float64).view(4, 5))
    w.grad = torch.linspace(-0.6, 0.4, 20, dtype=torch.float64).view(4, 5)
    optimizer = SteepestDescent([w], L2(), lr=1e-3, momentum=0.9)
    optimizer.state[w]["momentum_buffer"] = torch.linspace(0.6, 0.9, 20, dtype=torch.float64).view(4, 5)
    optimizer.step()
    assert float(w.data[0, 0]) == pytest.approx(-0.39994, abs=1e-12)
    assert float(w.data[-1, -1]) == pytest.approx(0.59879, abs=1e-12)


@pytest.mark.parametrize("as_number", [float, lambda loss: loss], ids=["number", "tensor"])
def test_the_closure_is_evaluated_with_gradients_before_the_step_and_its_loss_returned(as_number):
    w = nn.Parameter(torch.tensor([3.0, -4.0], dtype=torch.float64))
    optimizer = SteepestDescent([w], L2(), lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return as_number(loss.detach())

    assert float(optimizer.step(closure)) == 25
    assert_same([w.detach()], [torch.tensor([2.4, -3.2], dtype=torch.float64)])


def test_without_a_closure_a_step_returns_nothing():
    params = parameters()
    assert SteepestDescent(params, L2()).step() is None


def test_it_minimises_a_convex_function_in_every_norm():
    target = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for norm, lr in ((L2(), 0.4), (LInf(), 0.05), (Spectral(exact=True), 0.2)):
        w = nn.Parameter(torch.zeros(4, 3, dtype=torch.float64))
        optimizer = SteepestDescent([w], norm, lr=lr)
        losses = []
        for _ in range(300):
            optimizer.zero_grad()
            loss = (w - target).square().sum() / 2
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        # Below this the entries are rounding, which jitters.
        assert all(later <= max(earlier, 1e-28) for earlier, later in pairwise(losses)), norm
        assert losses[-1] < 1e-2 * losses[0], norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_parameters_keep_their_dtype(dtype):
    w = nn.Parameter(torch.ones(4, 3, dtype=dtype))
    optimizer = SteepestDescent([w], Spectral(), lr=0.1, mode="constrained", momentum=0.9)
    w.grad = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    optimizer.step()
    assert w.dtype == optimizer.state[w]["momentum_buffer"].dtype == dtype
    assert 0.05 < float((w.data - 1).abs().max()) < 0.12


def test_a_parameter_without_entries_is_stepped_over_as_in_torch():
    empty, w = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.zeros(2))
    empty.grad, w.grad = torch.zeros(0, 3), torch.ones(2)
    SteepestDescent([empty, w], L2(), lr=0.1).step()
    torch.testing.assert_close(w.data, torch.full((2,), -0.1))
