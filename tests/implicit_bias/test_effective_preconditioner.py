"""The diagonal of a live torch optimizer, against the steps that torch itself takes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RMSprop

from steepest.errors import InvalidArgument
from steepest.implicit_bias import Preconditioned, effective_preconditioner, predict, simulate

LR = 0.01


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stepped(optimizer: Optimizer, gradient: Tensor) -> Tensor:
    """Take one step with the given gradient of all parameters, flattened; return how theta moved."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before, at = torch.cat([p.detach().flatten().clone() for p in parameters]), 0
    for p in parameters:
        p.grad = gradient[at : at + p.numel()].reshape(p.shape).to(p)
        at += p.numel()
    optimizer.step()
    return torch.cat([p.detach().flatten() for p in parameters]) - before


def one(made: Callable[..., Optimizer], n: int = 5, **options: object) -> Optimizer:
    return made([torch.nn.Parameter(gaussian(n, seed=9))], lr=LR, **options)


# The last step was -lr D g with the D that is in the state after it.
LAST = [
    (Adam, {"betas": (0.0, 0.99)}),
    (Adam, {"betas": (0.0, 0.99), "amsgrad": True}),
    (Adam, {"betas": (0.0, 0.9), "eps": 0.1}),
    (Adam, {"betas": (0.0, 0.99), "foreach": True}),
    (AdamW, {"betas": (0.0, 0.99), "weight_decay": 0}),
    (AdamW, {"betas": (0.0, 0.99), "weight_decay": 0, "amsgrad": True}),
    (NAdam, {"betas": (0.0, 0.99)}),
    (Adamax, {"betas": (0.0, 0.99)}),
    (Adamax, {"betas": (0.0, 0.9), "eps": 0.1}),
    (RMSprop, {}),
    (RMSprop, {"centered": True}),
    (RMSprop, {"alpha": 0.9, "eps": 0.1}),
    (Adagrad, {}),
    (Adagrad, {"initial_accumulator_value": 0.3, "eps": 0.01}),
    (SGD, {}),
]


@pytest.mark.parametrize(("made", "options"), LAST)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_without_momentum_the_last_step_was_the_learning_rate_times_the_diagonal_times_the_gradient(
    made, options, steps
):
    optimizer = one(made, **options)
    for t in range(steps):
        g = gaussian(5, seed=t)
        move = stepped(optimizer, g)
    D = effective_preconditioner(optimizer)
    assert D.dtype == torch.float64
    torch.testing.assert_close(move, -LR * D * g, rtol=1e-9, atol=0)


# Of a constant gradient Adagrad's sum has no end, and nothing is left of it about its mean.
SETTLING = [(made, options) for made, options in LAST if made is not Adagrad and "centered" not in options]


@pytest.mark.parametrize(
    ("made", "options"), [*SETTLING, (Adadelta, {"rho": 0.5}), (Adadelta, {"rho": 0.5, "eps": 1e-3})]
)
def test_where_the_second_moments_have_settled_the_next_step_has_this_diagonal(made, options):
    optimizer, g = one(made, **options), gaussian(5)
    for _ in range(4000 if made is RMSprop else 100):
        stepped(optimizer, g)
    D = effective_preconditioner(optimizer)
    torch.testing.assert_close(stepped(optimizer, g), -LR * D * g, rtol=1e-9, atol=0)


def test_after_one_step_of_adam_it_is_one_over_the_absolute_gradient_and_eps():
    optimizer, g = one(Adam, betas=(0.9, 0.999), eps=1e-3), gaussian(5)
    stepped(optimizer, g)
    torch.testing.assert_close(effective_preconditioner(optimizer), 1 / (g.abs() + 1e-3), rtol=1e-12, atol=0)


def groups(made: Callable[..., Optimizer], rates: tuple[float, ...], **options: object) -> Optimizer:
    parameters = [torch.nn.Parameter(gaussian(*shape, seed=4)) for shape in [(2, 3), (4,), (1,)]]
    return made([{"params": [p], "lr": lr} for p, lr in zip(parameters, rates, strict=True)], **options)


@pytest.mark.parametrize(
    ("made", "options"), [(Adam, {"betas": (0.0, 0.99)}), (RMSprop, {}), (Adagrad, {}), (SGD, {})], ids=str
)
def test_groups_count_in_proportion_to_their_learning_rates(made, options):
    optimizer = groups(made, (0.01, 0.03, 0.0), **options)
    for t in range(3):
        g = gaussian(11, seed=t)
        move = stepped(optimizer, g)
    # In units of the largest rate.
    torch.testing.assert_close(move, -0.03 * effective_preconditioner(optimizer) * g, rtol=1e-9, atol=0)


def test_a_first_group_that_does_not_move_gives_no_diagonal_in_which_it_does():
    optimizer = groups(SGD, (0.0, 0.01, 0.02))
    g = gaussian(11)
    move = stepped(optimizer, g)
    try:
        D = effective_preconditioner(optimizer)
    except InvalidArgument:
        return
    assert not bool(D[:6].any())
    torch.testing.assert_close(D[6:] / D[6:].sum(), (-move / g)[6:] / (-move / g)[6:].sum(), rtol=1e-9, atol=0)


def test_parameters_are_chosen_by_identity_and_in_the_order_asked():
    optimizer = groups(Adam, (0.01, 0.02, 0.04))
    stepped(optimizer, gaussian(11))
    whole = effective_preconditioner(optimizer)
    first, second, _ = (group["params"][0] for group in optimizer.param_groups)
    assert torch.equal(effective_preconditioner(optimizer, [second, first]), torch.cat([whole[6:10], whole[:6]]))
    assert effective_preconditioner(optimizer, []).shape == (0,)


def test_the_state_is_read_and_left_as_it_is(rng_untouched):
    optimizer = one(Adam)
    stepped(optimizer, gaussian(5))
    before = {k: v.clone() for k, v in optimizer.state[optimizer.param_groups[0]["params"][0]].items()}
    with rng_untouched():
        D = effective_preconditioner(optimizer)
    assert not D.requires_grad
    for k, v in optimizer.state[optimizer.param_groups[0]["params"][0]].items():
        assert torch.equal(v, before[k])


def test_single_precision_states_give_a_double_precision_diagonal():
    theta = torch.nn.Parameter(torch.zeros(3))
    optimizer = Adam([theta], eps=0)
    stepped(optimizer, torch.tensor([1e-3, 1.0, 1e3]))
    torch.testing.assert_close(
        effective_preconditioner(optimizer), torch.tensor([1e3, 1.0, 1e-3], dtype=torch.float64), rtol=1e-6, atol=0
    )


# Refused


@pytest.mark.parametrize("made", [Adam, AdamW, NAdam, Adamax, RMSprop, Adagrad, Adadelta])
def test_an_optimizer_that_has_not_stepped_is_refused(made):
    with pytest.raises(InvalidArgument, match="must have stepped every parameter"):
        effective_preconditioner(one(made))


def test_sgd_needs_no_step():
    assert torch.equal(effective_preconditioner(one(SGD, momentum=0.9)), torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize(
    "made",
    [
        torch.optim.RAdam,
        torch.optim.Rprop,
        torch.optim.ASGD,
        torch.optim.Adafactor,
        torch.optim.LBFGS,
        type("Mine", (Adam,), {}),
    ],
)
def test_optimizers_without_a_known_diagonal_are_refused(made):
    with pytest.raises(InvalidArgument, match="must divide gradients by a diagonal that is known here"):
        effective_preconditioner(one(made))


def test_a_parameter_of_another_optimizer_is_refused():
    optimizer = one(Adam)
    stepped(optimizer, gaussian(5))
    # Equal, but not the same.
    with pytest.raises(InvalidArgument, match="parameters must be some of the optimizer's"):
        effective_preconditioner(optimizer, [optimizer.param_groups[0]["params"][0].detach().clone()])


# Freezing


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (Adam, {}),
        (AdamW, {"weight_decay": 0}),
        (NAdam, {}),
        (Adamax, {}),
        (RMSprop, {"centered": True}),
        (Adagrad, {}),
        (Adadelta, {}),
        (SGD, {"momentum": 0.9}),
    ],
    ids=str,
)
def test_a_run_whose_diagonal_is_frozen_ends_where_it_is_predicted(made, options):
    A, b = gaussian(3, 8, seed=1), gaussian(3, seed=2)
    theta = torch.nn.Parameter(torch.zeros(8, dtype=torch.float64))
    optimizer = made([theta], lr=LR, **options)
    for _ in range(20):
        stepped(optimizer, A.T @ (A @ theta.detach() - b))
    D, start = effective_preconditioner(optimizer), theta.detach().clone()
    prediction = predict(Preconditioned(D), A, b, start)
    assert prediction.determined
    # Frozen here by hand, at the step that converges soonest.
    values = torch.linalg.eigvalsh(A @ torch.diag(D) @ A.T)
    end, step = start.clone(), 2 / (values[0] + values[-1])
    for _ in range(2000):
        end -= step * D * (A.T @ (A @ end - b))
    torch.testing.assert_close(end, prediction.point, rtol=0, atol=1e-9)
    run = simulate(Preconditioned(D), A, b, float(step), 2000, theta0=start)
    assert run.theta0.equal(start)
    np.testing.assert_allclose(A @ prediction.point, b, rtol=0, atol=1e-10)


def test_of_the_live_optimizer_itself_nothing_is_claimed_unless_it_is_sgd():
    A, b = gaussian(3, 8, seed=1), gaussian(3, seed=2)
    for made in (Adam, Adagrad, RMSprop):
        theta = torch.nn.Parameter(torch.zeros(8, dtype=torch.float64))
        optimizer = made([theta], lr=LR)
        stepped(optimizer, A.T @ (A @ theta.detach() - b))
        assert not predict(optimizer, A, b).determined


@pytest.mark.parametrize("options", [{}, {"dampening": 0.5}, {"nesterov": True}], ids=str)
@pytest.mark.parametrize("before", [1, 5])
def test_a_live_sgd_with_momentum_under_way_ends_where_it_is_predicted(options, before):
    A, b = gaussian(3, 8, seed=1), gaussian(3, seed=2)
    theta = torch.nn.Parameter(gaussian(8, seed=3))
    optimizer = functools.partial(SGD, lr=0.02, momentum=0.9, **options)([theta])
    for t in range(before):
        # Gradients of other equations, which leave the row space.
        stepped(optimizer, gaussian(8, seed=10 + t))
    prediction = predict(optimizer, A, b)
    assert prediction.determined
    for _ in range(2000):
        stepped(optimizer, A.T @ (A @ theta.detach() - b))
    torch.testing.assert_close(theta.detach(), prediction.point, rtol=0, atol=1e-8)


def test_groups_whose_learning_rates_decay_differently_are_preconditioned_differently():
    first, second = (torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    optimizer = torch.optim.Adagrad([{"params": [first], "lr_decay": 1.0}, {"params": [second]}], lr=0.1)
    for _ in range(3):
        first.grad = second.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    D = effective_preconditioner(optimizer)
    assert float(D[0] / D[1]) < 0.5, "the next step of the first is a fourth of the other's"
