"""Powers of a norm: the step against a search, the gap against the plain formula."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.norms.points import Point, added, assert_close, generic, inner, largest, times

from steepest.norms import (
    L1,
    L2,
    Blockwise,
    LInf,
    Lp,
    MaxRow,
    Nuclear,
    Power,
    Scaled,
    Spectral,
    duality_gap,
    objective,
    penalized_step,
)

NETWORK = Blockwise({"weight": Spectral(exact=True), "bias": L2()}, combine="l2")
NORMS = {
    "L1": L1(),
    "L2": L2(),
    "LInf": LInf(),
    "Lp(3)": Lp(3),
    "Spectral": Spectral(exact=True),
    "Nuclear": Nuclear(),
    "Scaled MaxRow": Scaled(MaxRow(), by=0.5),
    "Blockwise": NETWORK,
}
EVERY_NORM = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
EVERY_POWER = pytest.mark.parametrize("p", [1.5, 2, 3, 10])
ALPHAS = st.floats(0.05, 5)
FEW = settings(max_examples=3)


def gradient(norm, seed: int) -> Point:
    return generic({"weight": (4, 3), "bias": (2,)} if isinstance(norm, Blockwise) else (4, 3), seed)


def by_formula(norm, p: float, g: Point, u: Point, alpha: float) -> float:
    """<g, u> + ||u||^p / (p alpha)."""
    return inner(g, u) + float(norm(u)) ** p / (p * alpha)


@EVERY_POWER
@EVERY_NORM
@FEW
@given(seed=st.integers(0, 10**6), alpha=ALPHAS)
def test_the_step_has_the_known_length_direction_and_minimum(norm, p, seed, alpha):
    g = gradient(norm, seed)
    step = penalized_step(Power(norm, p), g, alpha)
    dual, q = float(norm.dual_norm(g)), p / (p - 1)
    length = (alpha * dual) ** (1 / (p - 1))
    assert_close(step, times(norm.duality_map(g), -length), 1e-12 * largest(step))
    minimum = -dual * length / q
    assert by_formula(norm, p, g, step, alpha) == pytest.approx(minimum, rel=1e-11)
    assert float(objective(Power(norm, p), g, step, alpha)) == pytest.approx(minimum, rel=1e-11)


@EVERY_POWER
@EVERY_NORM
def test_no_length_along_the_direction_and_no_random_competitor_is_lower(norm, p):
    g, alpha = gradient(norm, 0), 0.7
    step = penalized_step(Power(norm, p), g, alpha)
    best = by_formula(norm, p, g, step, alpha)
    for k in range(-200, 201, 13):
        stretched = times(step, 10.0 ** (k / 50) if k % 2 else 1 + k / 2000)
        assert by_formula(norm, p, g, stretched, alpha) >= best - 1e-12 * abs(best)
    for k in range(24):
        noise = times(gradient(norm, 1000 + k), largest(step))
        assert by_formula(norm, p, g, noise, alpha) >= best
        near = added(step, times(noise, 10.0 ** (-k % 8)))
        assert by_formula(norm, p, g, near, alpha) >= best - 1e-12 * abs(best)


@EVERY_POWER
@EVERY_NORM
@FEW
@given(seed=st.integers(0, 10**6), alpha=ALPHAS, factor=st.floats(0.01, 2))
def test_the_gap_is_what_a_step_misses_of_the_minimum_over_its_size(norm, p, seed, alpha, factor):
    power, g = Power(norm, p), gradient(norm, seed)
    step = penalized_step(power, g, alpha)
    best = by_formula(norm, p, g, step, alpha)
    assert 0 <= float(duality_gap(power, g, step, alpha)) < 1e-12
    assert float(duality_gap(power, g, times(step, 0), alpha)) == pytest.approx(1, rel=1e-12)
    noise = gradient(norm, seed + 1)
    noise = times(noise, factor * largest(step) / largest(noise))
    for wrong in (added(step, noise), noise, times(step, 1 + factor), times(step, -1)):
        gap = float(duality_gap(power, g, wrong, alpha))
        missed = (by_formula(norm, p, g, wrong, alpha) - best) / abs(best)
        assert gap == pytest.approx(missed, rel=1e-9, abs=1e-9)
        assert gap > 0
    for near in (added(step, times(noise, 1e-3 / factor)), times(step, 1.001), times(step, 0.999)):
        assert float(duality_gap(power, g, near, alpha)) > 1e-12


@EVERY_POWER
@EVERY_NORM
def test_at_zero_the_step_is_zero_with_the_gap_zero_and_any_other_infinitely_far(norm, p):
    power, other = Power(norm, p), gradient(norm, 0)
    zero = times(other, 0)
    step = penalized_step(power, zero, alpha=0.3)
    assert largest(step) == 0
    assert float(duality_gap(power, zero, step, alpha=0.3)) == 0
    assert float(duality_gap(power, zero, other, alpha=0.3)) == math.inf


@EVERY_NORM
@FEW
@given(seed=st.integers(0, 10**6), alpha=ALPHAS)
def test_the_second_power_is_the_penalty_with_twice_alpha(norm, seed, alpha):
    g = gradient(norm, seed)
    expected = penalized_step(norm, g, 2 * alpha)
    assert_close(penalized_step(Power(norm, 2), g, alpha), expected, 1e-12 * largest(expected))
    u = gradient(norm, seed + 1)
    gap, same = duality_gap(Power(norm, 2), g, u, alpha), duality_gap(norm, g, u, 2 * alpha)
    torch.testing.assert_close(gap, same, rtol=1e-12, atol=1e-12)


def test_powers_compare_by_value_and_find_their_exact_norm():
    power = Power(Scaled(Spectral(), by=2.0), 3)
    assert power == Power(Scaled(Spectral(), by=2.0), 3) != Power(Scaled(Spectral(), by=2.0), 4)
    assert hash(power) == hash(pickle.loads(pickle.dumps(power)))
    assert pickle.loads(pickle.dumps(power)) == power
    assert power.exactly() == Power(Scaled(Spectral(exact=True), by=2.0), 3)
    with pytest.raises(AttributeError):
        power.p = 2


def test_the_gap_of_an_iterative_norm_uses_the_exact_one():
    g, step = gradient(L2(), 0), gradient(L2(), 1)
    iterative, exact = (duality_gap(Power(Spectral(exact=e), 3), g, step, alpha=0.3) for e in (False, True))
    assert torch.equal(iterative, exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@EVERY_POWER
def test_the_step_keeps_shape_and_dtype(p, dtype):
    g = gradient(L2(), 0).to(dtype)
    step = penalized_step(Power(Spectral(exact=True), p), g, alpha=0.3)
    assert (step.shape, step.dtype) == (g.shape, dtype)
    assert float(duality_gap(Power(Spectral(exact=True), p), g, step, alpha=0.3)) < 32 * torch.finfo(dtype).eps
