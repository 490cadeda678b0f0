"""The permanent oscillation of rules of constant step length, against the recursion in fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from steepest.errors import InvalidArgument
from steepest.implicit_bias import EpochAdam, SignDescent, inverse_square_root, predict, simulate, two_cycle

entries = st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3)


def recursion(a: list[float], lr: float, b: float, theta0: list[float]) -> tuple[float, float]:
    """Run |r - c| in fractions until a residual comes back."""
    r = abs(Fraction(b) - sum((Fraction(x) * Fraction(t) for x, t in zip(a, theta0, strict=True)), Fraction(0)))
    c = sum((abs(Fraction(x)) for x in a), Fraction(0)) * Fraction(lr)
    while r > c:
        r -= c
    small, large = sorted((r, abs(r - c)))
    assert abs(large - c) in (small, large)
    return float(small), float(large)


@given(
    a=st.lists(entries, min_size=1, max_size=6).filter(any),
    lr=st.floats(1e-3, 3),
    b=st.floats(-10, 10),
    seed=st.integers(0, 10**6),
)
def test_both_residuals_are_those_of_the_recursion(a, lr, b, seed):
    theta0 = np.random.default_rng(seed).standard_normal(len(a)).tolist()
    small, large = recursion(a, lr, b, theta0)
    c = lr * sum(map(abs, a))
    # Whether it is 0 or c is for rounding to say.
    assume(small > 1e-9 * (c + abs(b)))
    found = two_cycle(a, lr, b, theta0)
    assert found == pytest.approx((small, large), abs=1e-10 * (1 + c + abs(b)))
    assert found[0] <= found[1]
    assert sum(found) == pytest.approx(c, rel=1e-12)


@pytest.mark.slow
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), lr=st.floats(0.01, 0.5))
def test_simulations_of_sign_descent_and_epoch_adam_end_in_the_cycle(seed, lr):
    rng = np.random.default_rng(seed)
    a, b, theta0 = rng.standard_normal(4), float(rng.standard_normal()), rng.standard_normal(4)
    expected = two_cycle(a, lr, b, theta0)
    assume(expected[0] > 1e-9)
    steps = 4 + 2 * math.ceil(abs(b - a @ theta0) / (lr * np.abs(a).sum()))
    for rule in (SignDescent(), EpochAdam()):
        run = simulate(rule, a[None], [b], lr, steps, theta0=theta0)
        last = (run.trajectory[-2:, 0] @ torch.from_numpy(a) - b).abs().sort().values
        assert last.tolist() == pytest.approx(expected, abs=1e-11)
        assert not bool(run.converged.any())
    assert not predict(EpochAdam(schedule=lambda _t: lr), a[None], [b], theta0).determined


@given(count=st.integers(1, 1000), a=st.lists(entries, min_size=1, max_size=4).filter(any))
def test_steps_that_divide_the_way_converge(count, a):
    reach = sum(map(abs, a))
    assert two_cycle(a, 1 / (count * reach)) == (0, 0)


def test_a_start_that_solves_the_equation_stays():
    assert two_cycle([1, 2], 0.3, 5, [1, 2]) == (0, 0)


@pytest.mark.slow
@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), q=st.sampled_from([0.2, 0.4, 0.45]), first=st.floats(0.05, 0.5))
def test_a_tail_that_is_too_short_leaves_the_residual_of_the_run(seed, q, first):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal(3), float(rng.standard_normal())
    found = two_cycle(a, lambda t: first * q**t, b)
    r, reach = abs(Fraction(b)), sum(abs(Fraction(float(x))) for x in a)
    for t in range(600):
        r = abs(r - reach * Fraction(first * q**t))
    assert found == pytest.approx((float(r), float(r)), abs=1e-12)
    run = simulate(SignDescent(), a[None], [b], lambda t: first * q**t, 600)
    assert float(run.residual) == pytest.approx(found[0], abs=1e-12)


def test_steps_whose_sum_is_too_small_leave_the_rest():
    # They sum to .5, and each has a reach of 1.11.
    assert two_cycle([1, 0.1, 0.01], lambda t: 0.05 * 0.9**t) == pytest.approx((0.445, 0.445), abs=1e-12)
    assert two_cycle([1, 0.1, 0.01], lambda t: 0.05 * 0.9**t, b=0.5) == (0, 0)


@pytest.mark.parametrize("schedule", [inverse_square_root, lambda t: 0.1 * 0.999**t, lambda t: 1 / (t + 1)])
def test_schedules_that_converge_have_no_cycle(schedule):
    assert two_cycle([1, 0.1, 0.01], schedule) == (0, 0)


@pytest.mark.parametrize(
    ("decay", "floor"),
    [
        (inverse_square_root, 0.01),
        (lambda t: 0.2 * 0.99**t, 0.0317),
        pytest.param(inverse_square_root, 0.005, marks=pytest.mark.slow),
        pytest.param(lambda t: 0.2 * 0.99**t, 0.01, marks=pytest.mark.slow),
    ],
    ids=["root", "powers", "root to .005", "powers to .01"],
)
def test_a_schedule_that_becomes_constant_ends_in_the_cycle_of_that_step(decay, floor):
    def schedule(t: int) -> float:
        return max(decay(t), floor)

    a, b = [1, 0.1, 0.01], 7.3
    small, large = two_cycle(a, schedule, b)
    r, c = abs(Fraction(b)), [Fraction(float(x)) for x in a]
    for t in range(2**16):
        r = abs(r - sum(c) * Fraction(schedule(t)))
    again = abs(r - sum(c) * Fraction(floor))
    assert (small, large) == pytest.approx(sorted((float(r), float(again))), abs=1e-9)
    assert small + large == pytest.approx(1.11 * floor, rel=1e-9)


def test_a_schedule_of_zeros_in_the_end_leaves_what_its_steps_leave():
    assert two_cycle([1.0], lambda t: 0.3 if t < 3 else 0.0) == pytest.approx((0.1, 0.1), abs=1e-12)
    assert two_cycle([1.0], lambda t: 0.3 if t < 5 else 0.0) == pytest.approx((0.1, 0.1), abs=1e-12)
    assert two_cycle([1.0], lambda t: 0.3 if t < 4 else 0.0) == pytest.approx((0.2, 0.2), abs=1e-12)


@pytest.mark.parametrize(
    "schedule",
    [
        [0.1, 0.2].__getitem__,
        [].__getitem__,
        lambda t: 0.01 + 0.001 * (t % 3),
        lambda t: 0.01 if t < 100_000 else 0.0,
        lambda t: 0.01 if t < 100_000 else 0.003,
        lambda t: 0.01 if t < 100_000 else 0.02,
        lambda t: 0.01 + 0.1 * inverse_square_root(t),
        lambda t: (t + 1) ** -1.1,
    ],
    ids=["table", "empty", "periodic", "ends late", "falls late", "rises late", "tends to", "finite sum"],
)
def test_a_schedule_whose_end_is_not_seen_is_refused(schedule):
    with pytest.raises(InvalidArgument, match="the end of the schedule must be seen"):
        two_cycle([1, 0.1, 0.01], schedule, b=50.0)


@pytest.mark.parametrize("lr", [0.0, -0.1, math.inf, math.nan])
def test_a_step_that_is_none_is_refused(lr):
    with pytest.raises(InvalidArgument, match=r"lr must be above 0|lr must be finite"):
        two_cycle([1, 2], lr)


@pytest.mark.parametrize(("a", "b"), [([0.0, 0.0], 1.0), ([1.0], math.inf), ([1.0], math.nan)])
def test_what_is_no_equation_is_refused(a, b):
    with pytest.raises(InvalidArgument, match=r"a must have an entry that is not 0|b must be finite"):
        two_cycle(a, 0.1, b)


def test_a_start_of_another_length_is_refused():
    with pytest.raises(InvalidArgument, match="theta0 must be a vector of 2"):
        two_cycle([1, 2], 0.1, theta0=[1, 2, 3])
