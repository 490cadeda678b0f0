"""What the trajectory says against the linearised model, trained step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from tests.linearize.dense import dense
from torch import nn
from torch.nn import functional as F

from steepest.errors import InvalidArgument
from steepest.linearize import Linearization

N, C = 9, 2


def problem(width=6, n=N, seed=0):
    """A network, examples, targets and fresh points, in float64."""
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, C)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw, dtype=torch.float64) / 2)
    x, y, fresh = (torch.randn(*s, generator=draw, dtype=torch.float64) for s in ((n, 3), (n, C), (5, 3)))
    return model, x, y, fresh


class Linearised(nn.Module):
    """f(x; theta0) + J(x) delta, with plain autograd's J."""

    def __init__(self, model, x, fresh):
        super().__init__()
        self.jacobians = dense(model, (x,)), dense(model, (fresh,))
        self.starts = model(x).detach(), model(fresh).detach()
        self.delta = nn.Parameter(torch.zeros(self.jacobians[0].shape[1], dtype=torch.float64))

    def forward(self, which=0):
        return self.starts[which] + (self.jacobians[which] @ self.delta).unflatten(0, (-1, C))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("n", "width"), [(9, 6), (40, 3)])  # N < P, and P < N
def test_gradient_descent_is_what_sgd_does_on_mse_loss(reduction, n, width):
    model, x, y, fresh = problem(width, n)
    lin = Linearization(model, x)
    lr = 0.7 * lin.trajectory([0], 1e-3, y=y, reduction=reduction).largest_lr
    steps = [0, 1, 2, 3, 10, 40]
    here = lin.trajectory(steps, lr, y=y, reduction=reduction)
    there = lin.trajectory(steps, lr, y=y, x=fresh, reduction=reduction)
    plain = Linearised(model, x, fresh)
    optimizer = torch.optim.SGD(plain.parameters(), lr=lr)
    left = lin.svd().left[:, : len(here.singular_values)]
    for step in range(41):
        if step in steps:
            at = steps.index(step)
            torch.testing.assert_close(here.predictions[at], plain().detach(), rtol=0, atol=1e-10)
            torch.testing.assert_close(there.predictions[at], plain(1).detach(), rtol=0, atol=1e-10)
            residual = (plain() - y).detach().flatten()
            torch.testing.assert_close(here.residuals[at], left.T @ residual, rtol=0, atol=1e-10)
        optimizer.zero_grad()
        F.mse_loss(plain(), y, reduction=reduction).backward()
        optimizer.step()
    assert here.predictions.shape == (6, n, C)
    assert there.predictions.shape == (6, 5, C)


@pytest.mark.parametrize(("reduction", "c"), [("mean", 2 / (N * C)), ("sum", 2.0)])
def test_gradient_flow_is_the_matrix_exponential_of_the_kernel(reduction, c):
    model, x, y, fresh = problem()
    jacobian, other = dense(model, (x,)).numpy(), dense(model, (fresh,)).numpy()
    kernel, start = jacobian @ jacobian.T, (model(x) - y).detach().flatten().numpy()
    times = [0.0, 0.05, 0.5, 2.0]
    lin = Linearization(model, x)
    here = lin.trajectory(times, y=y, reduction=reduction)
    there = lin.trajectory(times, y=y, x=fresh, reduction=reduction)
    for at, t in enumerate(times):
        residual = expm(-c * t * kernel) @ start
        np.testing.assert_allclose(here.predictions[at].flatten().numpy(), residual + y.flatten().numpy(), atol=1e-9)
        # delta(t) = J' K^-1 (r(t) - r(0)); K is regular here.
        moved = other @ jacobian.T @ np.linalg.solve(kernel, residual - start)
        expected = model(fresh).detach().flatten().numpy() + moved
        np.testing.assert_allclose(there.predictions[at].flatten().numpy(), expected, atol=1e-7)


def test_gradient_flow_solves_its_differential_equation():
    model, x, y, fresh = problem(3, 20)
    plain = Linearised(model, x, fresh)
    jacobian, start = plain.jacobians[0].numpy(), (plain.starts[0] - y).flatten().numpy()

    def slope(_, delta):
        return -2 / len(start) * jacobian.T @ (start + jacobian @ delta)

    times = [0.0, 0.3, 1.0, 4.0]
    solved = solve_ivp(slope, (0, 4), np.zeros(jacobian.shape[1]), t_eval=times, rtol=1e-10, atol=1e-12)
    trajectory = Linearization(model, x).trajectory(times, y=y, x=fresh)
    expected = plain.starts[1].flatten().numpy()[:, None] + plain.jacobians[1].numpy() @ solved.y
    np.testing.assert_allclose(trajectory.predictions.flatten(1).numpy(), expected.T, rtol=0, atol=1e-7)


def test_gradient_flow_is_the_limit_of_small_steps():
    model, x, y, _ = problem()
    lin = Linearization(model, x)
    flow = lin.trajectory([1.0], y=y).predictions
    errors = [
        float((lin.trajectory([steps], 1 / steps, y=y).predictions - flow).norm()) for steps in (2000, 4000, 8000)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_just_below_the_largest_learning_rate_converges_and_just_above_diverges(reduction):
    model, x, y, _ = problem()
    lin = Linearization(model, x)
    largest = lin.trajectory([0], y=y, reduction=reduction).largest_lr
    below = lin.trajectory([0, 100_000], 0.999 * largest, y=y, reduction=reduction)
    above = lin.trajectory([0, 100_000], 1.001 * largest, y=y, reduction=reduction)
    assert below.residuals[1, 0].abs() <= 1e-12 * below.residuals[0, 0].abs()
    assert above.residuals[1, 0].abs() >= 1e12 * above.residuals[0, 0].abs()
    assert above.learned_at[0] == math.inf
    # That of plain gradient descent: 2 over the largest eigenvalue of the loss' Hessian.
    hessian = dense(model, (x,))
    hessian = 2 * hessian.T @ hessian / (N * C if reduction == "mean" else 1)
    assert largest == pytest.approx(2 / float(torch.linalg.eigvalsh(hessian)[-1]))


@pytest.mark.parametrize("lr", [None, 0.2])
def test_a_direction_is_learned_when_its_residual_has_shrunk_by_e(lr):
    model, x, y, _ = problem()
    lin = Linearization(model, x)
    trajectory = lin.trajectory([0], lr, y=y)
    assert trajectory.learned_at.isfinite().all()
    for k, at in enumerate(trajectory.learned_at.tolist()):
        if lr is None:
            later = lin.trajectory([at], y=y).residuals[0, k]
            assert float(later / trajectory.residuals[0, k]) == pytest.approx(math.exp(-1))
        else:
            around = lin.trajectory([math.floor(at), math.ceil(at)], lr, y=y).residuals[:, k]
            shrunk = (around / trajectory.residuals[0, k]).abs()
            assert shrunk[0] >= math.exp(-1) * (1 - 1e-9)
            assert shrunk[1] <= math.exp(-1) * (1 + 1e-9)


def test_larger_singular_values_are_learned_first_by_gradient_flow():
    model, x, y, _ = problem()
    trajectory = Linearization(model, x).trajectory([0.0], y=y)
    assert (trajectory.learned_at.diff() >= 0).all()
    c = 2 / (N * C)
    torch.testing.assert_close(trajectory.learned_at, 1 / (c * trajectory.singular_values**2))


def test_what_is_outside_of_the_features_is_never_learned():
    model, x, y, _ = problem(3, 40)
    jacobian, start = dense(model, (x,)), (model(x) - y).detach().flatten()
    best = torch.linalg.lstsq(jacobian, start[:, None], driver="gelsd").solution
    unlearnable = float((start - (jacobian @ best)[:, 0]).norm())
    trajectory = Linearization(model, x).trajectory([1e12], y=y)
    assert unlearnable > 1
    assert trajectory.unlearnable == pytest.approx(unlearnable, rel=1e-10)
    assert float((trajectory.predictions[0] - y).norm()) == pytest.approx(unlearnable, rel=1e-8)


def test_few_directions_leave_the_others_where_they_were():
    model, x, y, fresh = problem()
    lin = Linearization(model, x)
    left, values, right = torch.linalg.svd(dense(model, (x,)), full_matrices=False)
    start = (model(x) - y).detach().flatten()
    trajectory = lin.trajectory([1e9], y=y, x=fresh, k=3)
    delta = -right[:3].T @ (left[:, :3].T @ start / values[:3])
    expected = model(fresh).detach() + (dense(model, (fresh,)) @ delta).unflatten(0, (-1, C))
    torch.testing.assert_close(trajectory.predictions[0], expected, rtol=0, atol=1e-9)
    assert trajectory.residuals.shape == (1, 3)
    outside = start - left[:, :3] @ (left[:, :3].T @ start)
    assert trajectory.unlearnable == pytest.approx(float(outside.norm()))


def test_a_learning_rate_that_learns_a_direction_at_once():
    model, x, y, _ = problem()
    lin = Linearization(model, x)
    half = lin.trajectory([0], y=y).largest_lr / 2
    trajectory = lin.trajectory([0, 1], half, y=y)
    assert trajectory.learned_at[0] <= 0.1
    assert trajectory.residuals[1, 0].abs() <= 1e-14 * trajectory.residuals[0, 0].abs()


def test_a_float32_model_follows_its_float64_twin():
    model, x, y, fresh = problem()
    exact = Linearization(model, x).trajectory([0.1, 1.0], y=y, x=fresh)
    single = Linearization(model.float(), x.float()).trajectory([0.1, 1.0], y=y.float(), x=fresh.float())
    torch.testing.assert_close(single.predictions, exact.predictions, rtol=0, atol=1e-4)


def test_targets_may_be_flat():
    model, x, y, _ = problem()
    lin = Linearization(model, x)
    flat = lin.trajectory([1.0], y=y.flatten())
    torch.testing.assert_close(flat.predictions, lin.trajectory([1.0], y=y).predictions)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"y": torch.zeros(N)}, "9 x 2 outputs"),
        ({"y": [0.0] * N}, "9 x 2 outputs"),
        ({"y": torch.full((N, C), math.nan)}, "finite"),
        ({"lr": 0.0}, "lr must be a number in"),
        ({"lr": -0.1}, "lr must be a number in"),
        ({"lr": math.nan}, "lr must be a number in"),
        ({"lr": math.inf}, "lr must be a number in"),
        ({"lr": "0.1"}, "lr must be a number in"),
        ({"lr": torch.tensor(0.1)}, "lr must be a number in"),
        ({"t": [True]}, "t must be finite numbers >= 0"),
        ({"t": torch.tensor([1j])}, "t must be finite numbers >= 0"),
        ({"t": torch.ones(2, device="meta")}, "t must be finite numbers >= 0"),
        ({"y": torch.ones(N, C).bool()}, "9 x 2 outputs"),
        ({"y": torch.ones(N, C).to_sparse()}, "9 x 2 outputs"),
        ({"y": torch.ones(N, C, device="meta")}, "9 x 2 outputs"),
        ({"k": math.nan}, "Ask for k from 1"),
        ({"reduction": None}, "reduction must be one of mean, sum"),
        ({"lr": 0.1, "t": [0.5]}, "whole steps"),
        ({"t": [-1.0]}, "t must be finite numbers >= 0"),
        ({"t": [math.nan]}, "t must be finite numbers >= 0"),
        ({"t": []}, "t must be finite numbers >= 0"),
        ({"t": ["a"]}, "t must be finite numbers >= 0"),
        ({"t": None}, "t must be finite numbers >= 0"),
        ({"y": None}, "9 x 2 outputs"),
        ({"k": 2.0}, "Ask for k from 1"),
        ({"reduction": "none"}, "reduction must be one of mean, sum"),
        ({"k": 0}, "Ask for k from 1"),
        ({"k": 1000}, "Ask for k from 1"),
        ({"x": torch.zeros(4, 7, dtype=torch.float64)}, "the model must take x"),
        ({"x": torch.zeros(0, 3, dtype=torch.float64)}, "At least one example"),
    ],
)
def test_arguments_outside_of_their_range_are_refused(arguments, says):
    model, x, y, _ = problem()
    lin = Linearization(model, x)
    with pytest.raises(InvalidArgument, match=says):
        lin.trajectory(**{"t": [1.0], "y": y} | arguments)


def test_more_directions_than_the_rank_are_refused():
    x = torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lin = Linearization(nn.Linear(5, 1, bias=False).double(), torch.cat([x, x, x[:, :1]], 1))
    with pytest.raises(InvalidArgument, match="only 2 singular values"):
        lin.trajectory([1.0], y=torch.ones(12), k=3)
