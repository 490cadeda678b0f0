"""What training does to the linearised model, and how far the real one moves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from steepest.errors import InvalidArgument
from steepest.linearize import Linearization, compare_linearizations


@pytest.fixture
def problem():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        return model, torch.randn(10, 3).double(), torch.randn(10, 2).double()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradient_descent_is_that_of_sgd_on_the_linear_model(problem, reduction):
    model, x, y = problem
    lin = Linearization(model, x)
    fresh = torch.randn(4, 3, dtype=torch.float64)
    here, there = lin.features(), lin.features(fresh)
    start, start_there = lin.predictions(), lin.predictions(fresh)
    delta = torch.zeros(lin.shape[1], dtype=torch.float64, requires_grad=True)
    lr = 0.1 if reduction == "mean" else 0.005
    optimizer = torch.optim.SGD([delta], lr=lr)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.mse_loss(start + (here @ delta).view(10, 2), y, reduction=reduction).backward()
        optimizer.step()
    moved = delta.detach()
    found = lin.trajectory([0, 50], lr, y=y, reduction=reduction)
    assert torch.allclose(found.predictions[0], start)
    assert torch.allclose(found.predictions[1], start + (here @ moved).view(10, 2), rtol=1e-10, atol=1e-10)
    other = lin.trajectory([50], lr, y=y, x=fresh, reduction=reduction)
    assert torch.allclose(other.predictions[0], start_there + (there @ moved).view(4, 2), rtol=1e-8, atol=1e-8)
    svd = lin.svd()
    residual = (found.predictions[1] - y).flatten()
    assert torch.allclose(found.residuals[1], (svd.left.T @ residual)[: found.residuals.shape[1]], atol=1e-9)


def test_gradient_flow_is_the_limit_of_small_steps(problem):
    model, x, y = problem
    lin = Linearization(model, x)
    flow = lin.trajectory([2.0], y=y).predictions
    errors = [float((lin.trajectory([round(2 / lr)], lr, y=y).predictions - flow).norm()) for lr in (1e-2, 1e-3, 1e-4)]
    assert errors[1] < 0.2 * errors[0]
    assert errors[2] < 0.2 * errors[1]


def test_directions_are_learned_in_the_order_of_their_singular_values(problem):
    model, x, y = problem
    lin = Linearization(model, x)
    found = lin.trajectory([0.0, 1.0], y=y)
    assert bool((found.learned_at.diff() >= 0).all())
    k = 3
    at = float(found.learned_at[k])
    there = lin.trajectory([0.0, at], y=y).residuals[:, k]
    assert there[1] / there[0] == pytest.approx(1 / math.e)


@pytest.mark.parametrize(("factor", "converges"), [(0.99, True), (1.01, False)])
def test_gradient_descent_converges_exactly_below_the_largest_learning_rate(problem, factor, converges):
    model, x, y = problem
    lin = Linearization(model, x)
    lr = factor * lin.trajectory([0.0], y=y).largest_lr
    found = lin.trajectory([0, 5000], lr, y=y)
    assert (abs(found.residuals[1, 0]) < abs(found.residuals[0, 0])) == converges
    assert math.isinf(found.learned_at[0]) != converges


def test_what_the_features_cannot_represent_is_never_learned():
    model = nn.Linear(1, 1).double()
    x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    y = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    lin = Linearization(model, x)
    found = lin.trajectory([1e6], y=y)
    line = torch.linalg.lstsq(torch.cat([x, torch.ones_like(x)], 1), y[:, None]).solution
    best = torch.cat([x, torch.ones_like(x)], 1) @ line
    assert torch.allclose(found.predictions[0], best)
    assert found.unlearnable == pytest.approx(float((best[:, 0] - y).norm()))


def test_alignment_and_effective_rank_are_what_they_are_defined_as(problem):
    model, x, y = problem
    lin = Linearization(model, x)
    kernel, target = lin.kernel(), y.flatten()
    found = lin.alignment(y)
    assert found.value == pytest.approx(float(target @ kernel @ target / (kernel.norm() * target @ target)))
    assert float(found.shares.sum()) == pytest.approx(1)
    inverse = torch.linalg.inv(kernel + 0.1 * torch.eye(20, dtype=torch.float64))
    assert lin.effective_rank(0.1) == pytest.approx(float((kernel @ inverse).trace()))


def test_nothing_has_moved_between_a_model_and_itself(problem):
    model, x, _ = problem
    change = compare_linearizations(Linearization(model, x), Linearization(model, x))
    assert change.kernel_alignment == pytest.approx(1)
    assert change.subspace_overlap == pytest.approx(1)
    assert change.kernel_change == change.parameter_change == 0
    assert change.regime == "lazy"


def test_a_scaled_kernel_is_aligned_but_has_changed(problem):
    _, x, _ = problem
    last = nn.Sequential(nn.Tanh(), nn.Linear(3, 2, bias=False)).double()
    before = Linearization(last, x, lambda out: out)
    after = Linearization(last, x, lambda out: 2 * out)
    change = compare_linearizations(before, after)
    assert change.kernel_alignment == pytest.approx(1)
    assert change.kernel_change == pytest.approx(3)
    assert change.regime == "feature learning"
    with pytest.raises(InvalidArgument, match="same examples and parameters"):
        compare_linearizations(before, Linearization(last, x[:5]))


def test_wide_networks_are_lazier_than_narrow_ones():
    changes = []
    for width in (8, 512):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1)).double()
            x = torch.randn(12, 2).double()
        y = x[:, :1] * x[:, 1:]
        before = Linearization(model, x)
        lr = 0.2 * before.trajectory([0.0], y=y).largest_lr
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for _ in range(200):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        changes.append(compare_linearizations(before, Linearization(model, x)).kernel_change)
    assert changes[1] < 0.5 * changes[0]
