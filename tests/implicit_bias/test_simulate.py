from __future__ import annotations

import functools
import itertools

import pytest
import torch

from steepest.implicit_bias import (
    Entropy,
    EpochAdam,
    GradientDescent,
    MirrorDescent,
    NormSteepest,
    Preconditioned,
    RescaledFeatures,
    SignDescent,
    inverse_square_root,
    predict,
    simulate,
)
from steepest.norms import LInf
from steepest.optim import EpochAdam as EpochAdamOptimizer

A = [[1.0, 0.1, 0.01], [0.0, 1.0, 2.0], [0.5, -1.0, 0.3]]
b = [1.0, -1.0, 0.5]


def by_hand(update, steps, theta0=(0.0, 0.0, 0.0)):
    """A loop over full batches of half the squared residuals."""
    matrix, target = torch.tensor(A, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    theta = torch.tensor(theta0, dtype=torch.float64)
    for t in range(steps):
        theta = update(theta, matrix.mT @ (matrix @ theta - target), t)
    return theta


def with_torch(make, steps, schedule):
    """The same with a torch optimizer and autograd."""
    matrix, target = torch.tensor(A, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    theta = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = make([theta])
    for t in range(steps):
        optimizer.param_groups[0]["lr"] = schedule(t)
        optimizer.zero_grad()
        (0.5 * (matrix @ theta - target).square().sum()).backward()
        optimizer.step()
    return theta.detach()


@pytest.mark.parametrize(
    ("rule", "update"),
    [
        (GradientDescent(), lambda x, g, t: x - 0.1 / (t + 1) * g),
        (SignDescent(), lambda x, g, t: x - 0.1 / (t + 1) * g.sign()),
        (EpochAdam(), lambda x, g, t: x - 0.1 / (t + 1) * g.sign()),
        (EpochAdam(eps=0.1), lambda x, g, t: x - 0.1 / (t + 1) * g / (g.abs() + 0.1)),
        (Preconditioned([1.0, 2.0, 3.0]), lambda x, g, t: x - 0.1 / (t + 1) * g * torch.tensor([1.0, 2.0, 3.0])),
        (NormSteepest(LInf()), lambda x, g, t: x - 0.1 / (t + 1) * g.abs().sum() * g.sign()),
        (NormSteepest(LInf(), mode="constrained"), lambda x, g, t: x - 0.1 / (t + 1) * g.sign()),
    ],
    ids=["gradient", "sign", "epoch", "eps", "preconditioned", "penalized", "constrained"],
)
def test_a_rule_steps_as_its_equation_says(rule, update):
    run = simulate(rule, A, b, lambda t: 0.1 / (t + 1), 20)
    assert torch.allclose(run.point[0], by_hand(update, 20), rtol=1e-12, atol=1e-12)


def test_mirror_descent_multiplies():
    run = simulate(MirrorDescent(Entropy()), A, b, 0.1, 20)
    assert torch.allclose(run.point[0], by_hand(lambda x, g, _t: x * (-0.1 * g).exp(), 20, (1.0, 1.0, 1.0)))


def test_rescaled_features_are_gradient_descent_on_the_rescaled_matrix():
    matrix = torch.tensor(A, dtype=torch.float64)
    s = matrix.square().mean(dim=0).sqrt()
    run = simulate(RescaledFeatures(momentum=0.5), A, b, 0.1, 20).point[0]
    assert torch.allclose(run, simulate(GradientDescent(momentum=0.5), matrix / s, b, 0.1, 20).point[0] / s)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_that_of_torch(nesterov):
    own = simulate(GradientDescent(momentum=0.9, nesterov=nesterov), A, b, inverse_square_root, 30).point[0]
    make = functools.partial(torch.optim.SGD, momentum=0.9, nesterov=nesterov)
    assert torch.allclose(own, with_torch(make, 30, inverse_square_root), rtol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.SGD,
        torch.optim.Adam,
        functools.partial(torch.optim.AdamW, weight_decay=0.1),
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
        torch.optim.Adafactor,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Adamax,
        torch.optim.Rprop,
        torch.optim.ASGD,
    ],
    ids=lambda make: getattr(make, "__name__", "AdamW, decay"),
)
def test_a_torch_optimizer_is_run_by_its_own_code(make):
    run = simulate(make, A, b, lambda t: 0.1 / (t + 1), 25)
    # Rprop ignores the learning rate after its first step, which is fixed where it is made.
    made = functools.partial(make, lr=0.1) if make is torch.optim.Rprop else make
    run = simulate(made, A, b, lambda t: 0.1 / (t + 1), 25)
    assert torch.allclose(run.point[0], with_torch(made, 25, lambda t: 0.1 / (t + 1)), rtol=1e-10, atol=1e-12)


def test_lbfgs_gets_losses_and_gradients():
    exact = {"tolerance_grad": 1e-12, "tolerance_change": 1e-15}
    run = simulate(functools.partial(torch.optim.LBFGS, line_search_fn="strong_wolfe", **exact), A, b, 1.0, 5)
    assert run.residual.item() < 1e-7


def test_muon_sees_theta_as_a_row():
    run = simulate(functools.partial(torch.optim.Muon, weight_decay=0.0), A[:1], b[:1], 0.01, 10)
    assert run.point.shape == (1, 3)
    assert run.point.norm() > 0


def test_epochs_are_those_of_the_optimizer():
    matrix, target = torch.tensor(A, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    theta = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = EpochAdamOptimizer([theta], lr=0.1, steps_per_epoch=3, schedule=lambda _t: 1.0)
    generator = torch.Generator().manual_seed(4)
    for _ in range(5):
        for i in torch.randperm(3, generator=generator).tolist():
            optimizer.zero_grad()
            (0.5 * (matrix[i] @ theta - target[i]) ** 2).backward()
            optimizer.step()
    run = simulate(EpochAdam(batch_size=1), A, b, 0.1, 15, seeds=[4])
    assert torch.allclose(run.point[0], theta.detach(), rtol=1e-12)


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_the_gradients_of_labels_are_those_of_autograd(loss):
    labels = [1, -1, 1]
    matrix, signs = torch.tensor(A, dtype=torch.float64), torch.tensor(labels, dtype=torch.float64)
    theta = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    margins = signs * (matrix @ theta)
    value = torch.nn.functional.softplus(-margins).sum() if loss == "logistic" else torch.exp(-margins).sum()
    value.backward()
    run = simulate(GradientDescent(), A, labels, 1.0, 1, theta0=theta, loss=loss)
    assert torch.allclose(run.point[0], theta.detach() - theta.grad, rtol=1e-12)
    assert run.losses[0, 0].item() == pytest.approx(value.item(), rel=1e-12)


def test_runs_are_schedules_by_seeds_and_each_is_as_if_alone():
    rule, schedules, seeds = SignDescent(batch_size=1), [0.1, inverse_square_root], [3, 5]
    together = simulate(rule, A, b, schedules, 50, seeds=seeds)
    assert (together.schedules, together.seeds) == ((0, 0, 1, 1), (3, 5, 3, 5))
    for r, (schedule, seed) in enumerate(itertools.product(schedules, seeds)):
        alone = simulate(rule, A, b, schedule, 50, seeds=[seed])
        assert torch.equal(together.point[r], alone.point[0])
    assert not torch.equal(together.point[0], together.point[1]), "another order"


def test_every_epoch_sees_every_row_once():
    # With gradients that do not depend on theta the sum over an epoch is that of all rows.
    rows = torch.eye(5, dtype=torch.float64)
    run = simulate(SignDescent(batch_size=2), rows, [1e6] * 5, 1.0, 3 * 7)
    assert torch.equal(run.point[0], torch.full((5,), 7.0, dtype=torch.float64))


def test_the_start_and_the_end_are_recorded_and_long_runs_keep_their_last_steps():
    short = simulate(GradientDescent(), A, b, 0.1, 10)
    assert short.steps.tolist() == list(range(11))
    assert short.trajectory.shape == (11, 1, 3)
    assert torch.equal(short.trajectory[0, 0], torch.zeros(3, dtype=torch.float64))
    assert torch.equal(short.trajectory[-1], short.point)
    long = simulate(GradientDescent(), A, b, 0.1, 5000)
    assert long.steps[-64:].tolist() == list(range(4937, 5001))
    assert len(long.steps) <= 512 + 1
    assert torch.equal(long.trajectory[-1], long.point)


def test_a_run_has_converged_only_if_its_schedule_brings_it_to_rest():
    A1, b1 = [[1.0, 0.1, 0.01]], [1.0]
    # 1/11.1 crosses to the solution in exactly ten steps, and a constant step would leave it again.
    schedules = [1 / 11.1, lambda t: 0.05 * 0.9**t, lambda t: 0.9 * 0.4**t, lambda t: 0.3 * 0.98**t]
    assert simulate(SignDescent(), A1, b1, schedules, 3000).converged.tolist() == [False, False, False, True]
    assert simulate(GradientDescent(), A1, b1, [0.5, 1e-6], 3000).converged.tolist() == [True, False]


def test_contradicting_equations_converge_at_their_least_squares():
    run = simulate(GradientDescent(), [[1.0, 0.0], [1.0, 0.0]], [0.0, 1.0], 0.1, 500)
    assert run.converged.item()
    assert run.point[0].tolist() == pytest.approx([0.5, 0.0])


def test_a_live_optimizer_goes_on_from_its_state_and_is_left_as_it_was():
    theta = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = torch.optim.Adam([theta], lr=0.1)
    row, label = torch.tensor([1.0, 2.0], dtype=torch.float64), 1.0
    for _ in range(3):
        optimizer.zero_grad()
        (0.5 * (row @ theta - label) ** 2).backward()
        optimizer.step()
    before, steps = theta.detach().clone(), float(optimizer.state[theta]["step"])
    run = simulate(optimizer, row[None], [label], 0.1, 4)
    assert torch.equal(theta.detach(), before)
    assert float(optimizer.state[theta]["step"]) == steps
    for _ in range(4):
        optimizer.zero_grad()
        (0.5 * (row @ theta - label) ** 2).backward()
        optimizer.step()
    assert torch.allclose(run.point[0], theta.detach(), rtol=1e-12)
    assert torch.equal(run.theta0, before)


def test_a_spread_shows_that_several_equations_do_not_determine_sign_descent():
    rows, target = [[1.0, 0.3, -0.5, 0.2, 0.7], [-0.4, 1.0, 0.6, -0.8, 0.1]], [1.0, -0.5]
    prediction = predict(SignDescent(), rows, target)
    spread = prediction.spread()
    assert not prediction.determined
    assert spread.rested == 6
    assert spread.distance > 0.05
    assert "6 of 6 runs came to rest, at most" in str(spread)


def test_a_spread_of_a_determined_rule_has_no_width():
    prediction = predict(GradientDescent(momentum=0.5), A, b)
    spread = prediction.spread(steps=20000)
    assert spread.rested >= 2
    assert spread.distance < 1e-6
    assert (spread.points - prediction.point).norm(dim=1).max() < 1e-6


def test_a_spread_of_runs_that_never_rest_says_so():
    prediction = predict(EpochAdam(schedule=lambda _t: 0.07), [[1.0, 0.1, 0.01]], [1.0])
    spread = prediction.spread(steps=300)
    assert spread.rested == 0
    assert "0 of 3 runs came to rest; ends" in str(spread)


def test_a_spread_of_separable_data_compares_directions():
    prediction = predict(torch.optim.Adam, [[2.0, 0.1], [0.3, 1.0]], [1, 1], loss="logistic")
    spread = prediction.spread(steps=200)
    assert spread.points.norm(dim=1).tolist() == pytest.approx([1.0] * len(spread.points))


def test_theta_that_grows_for_ever_has_not_converged():
    assert not bool(simulate(GradientDescent(), [[1.0, 0.5]], [1.0], 100.0, 5, loss="exponential").converged.any())
