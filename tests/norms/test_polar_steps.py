"""The coefficients of the polar iteration, computed anew in 40 digits."""

from __future__ import annotations

import pytest
from mpmath import lu_solve, matrix, mp, mpf, polyroots

from steepest.norms._polar.iteration import DEEP_STEPS, STEPS, Steps

BOTH = pytest.mark.parametrize("steps", [STEPS, DEEP_STEPS], ids=["five", "seven"])


@pytest.fixture(autouse=True)
def forty_digits():
    with mp.workdps(40):
        yield


def value(coefficients: list[mpf], x: mpf) -> mpf:
    return sum(c * x ** (2 * j + 1) for j, c in enumerate(coefficients))


def extrema(coefficients: list[mpf], lower: mpf, upper: mpf) -> list[mpf]:
    """Where the derivative, a polynomial in y = x^2, vanishes inside."""
    derivative = [(2 * j + 1) * c for j, c in enumerate(coefficients)]
    squares = polyroots(derivative[::-1], maxsteps=500, extraprec=200)
    places = sorted(mp.sqrt(mp.re(y)) for y in squares if abs(mp.im(y)) < mpf(10) ** -15 and mp.re(y) > 0)
    return [x for x in places if lower < x < upper]


def minimax_quintic(lower: mpf, upper: mpf) -> tuple[list[mpf], mpf]:
    """The odd quintic nearest to 1 on [lower, upper], and its error, by Remez's exchange."""
    x = [(lower + upper) / 2 - (upper - lower) / 2 * mp.cos(mp.pi * k / 3) for k in range(4)]
    for _ in range(100):
        rows = matrix([[xi, xi**3, xi**5, (-1) ** i] for i, xi in enumerate(x)])
        *coefficients, error = lu_solve(rows, matrix([1] * 4))
        exchanged = [lower, *extrema(coefficients, lower, upper), upper]
        assert len(exchanged) == 4
        if max(abs(a - b) for a, b in zip(exchanged, x, strict=True)) < mpf(10) ** -25:
            return coefficients, abs(error)
        x = exchanged
    raise AssertionError("Remez's exchange has not converged")


def greedy_steps(lower: mpf, count: int) -> tuple[list[list[mpf]], mpf]:
    """Each step the minimax quintic of the interval that the one before leaves, and how far the last is from 1."""
    upper = mpf("1.02")
    steps = []
    for i in range(count):
        upper *= mpf("1.05") if i else 1
        cushioned = max(lower, mpf("0.05") * upper)
        quintic, error = minimax_quintic(cushioned, upper)
        least, greatest = min(value(quintic, lower), 1 - error), 1 + error
        centre = (least + greatest) / 2
        lower, upper = least / centre, greatest / centre
        steps.append([c / centre for c in quintic])
    return steps, upper - 1


def after_all(steps: Steps, x: mpf) -> mpf:
    for step in steps.polynomials:
        x = value([mpf(c) for c in step], x)
    return x


@BOTH
def test_each_step_is_the_minimax_quintic_of_what_the_one_before_leaves(steps):
    anew, _ = greedy_steps(mpf(str(steps.least)), len(steps.polynomials))
    for coefficients, expected in zip(steps.polynomials, anew, strict=True):
        for c, e in zip(coefficients, expected, strict=True):
            assert c == pytest.approx(float(e), rel=1e-9, abs=1e-9)


@BOTH
def test_together_they_take_what_is_above_the_least_to_within_a_quarter_of_a_percent_of_one(steps):
    least = mpf(str(steps.least))
    _, error = greedy_steps(least, len(steps.polynomials))
    # The margin of 1.05 at each step is for rounding and is counted in `error`; exactly computed values need less.
    assert error < 0.0025
    values = [after_all(steps, least * (mpf("1.02") / least) ** (mpf(k) / 400)) for k in range(401)]
    assert max(abs(v - 1) for v in values) <= 0.0025


@pytest.mark.parametrize(("steps", "most"), [(STEPS, 373), (DEEP_STEPS, 4457)], ids=["five", "seven"])
def test_what_is_smaller_is_multiplied_by_at_most_so_much_and_never_made_larger_than_one(steps, most):
    slope = mpf(1)
    for step in steps.polynomials:
        slope *= step[0]
    assert float(slope) == pytest.approx(most, rel=2e-3)
    small = [mpf(str(steps.least)) * mpf(k) / 200 for k in range(1, 200)]
    assert all(0 < after_all(steps, x) < 1.0025 for x in small)
