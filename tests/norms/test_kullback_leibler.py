"""The divergence on the simplex: exponentiated gradient and its certificate."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.norms.points import gaussian

from steepest.errors import InvalidArgument
from steepest.norms import KullbackLeibler, duality_gap, objective, penalized_step

SHAPES = [(1,), (2,), (5,), (3, 4)]
ALPHAS = st.floats(0.05, 5)
SEEDS = st.integers(0, 10**6)
FEW = settings(max_examples=10)


def simplex(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.softmax(gaussian((math.prod(shape),), seed), dim=0).view(shape)


def divergence(q: torch.Tensor, p: torch.Tensor) -> float:
    """sum q log(q/p), with 0 log 0 = 0, in plain Python."""
    pairs = zip(q.flatten().tolist(), p.flatten().tolist(), strict=True)
    return math.fsum(a * math.log(a / b) for a, b in pairs if a > 0)


def by_formula(p: torch.Tensor, g: torch.Tensor, q: torch.Tensor, alpha: float) -> float:
    return float((g * (q - p)).sum()) + divergence(q, p) / alpha


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@FEW
@given(seed=SEEDS, alpha=ALPHAS)
def test_the_step_leads_to_the_point_times_exp_of_minus_alpha_g_normalised(shape, seed, alpha):
    p, g = simplex(shape, seed), gaussian(shape, seed + 1)
    q = p + penalized_step(KullbackLeibler(p), g, alpha)
    weights = p * torch.exp(-alpha * g)
    torch.testing.assert_close(q, weights / weights.sum(), rtol=1e-12, atol=1e-15)
    assert float(q.sum()) == pytest.approx(1, rel=1e-14)
    assert bool((q >= 0).all())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@FEW
@given(seed=SEEDS, alpha=ALPHAS)
def test_the_minimum_is_the_known_one_and_no_point_of_the_simplex_is_lower(shape, seed, alpha):
    p, g = simplex(shape, seed), gaussian(shape, seed + 1)
    distance = KullbackLeibler(p)
    step = penalized_step(distance, g, alpha)
    best = by_formula(p, g, p + step, alpha)
    minimum = -float((g * p).sum()) - math.log(float((p * torch.exp(-alpha * g)).sum())) / alpha
    assert best == pytest.approx(minimum, rel=1e-11, abs=1e-13)
    assert float(objective(distance, g, step, alpha)) == pytest.approx(minimum, rel=1e-11, abs=1e-13)
    for k in range(5):
        other = simplex(shape, seed + 100 + k)
        for share in (1.0, 0.1, 1e-3, 1e-5):
            mixed = (1 - share) * (p + step) + share * other
            assert by_formula(p, g, mixed, alpha) >= best - 1e-13


@FEW
@given(seed=SEEDS, alpha=ALPHAS)
def test_the_gap_is_what_a_step_misses_of_the_minimum_over_its_size(seed, alpha):
    p, g = simplex((5,), seed), gaussian((5,), seed + 1)
    distance = KullbackLeibler(p)
    step = penalized_step(distance, g, alpha)
    best = by_formula(p, g, p + step, alpha)
    assert 0 <= float(duality_gap(distance, g, step, alpha)) < 1e-10
    assert float(duality_gap(distance, g, 0 * g, alpha)) == pytest.approx(1, rel=1e-12)
    other = simplex((5,), seed + 2)
    for share in (1.0, 0.3, 1e-2):
        wrong = step + share * (other - p - step)
        missed = (by_formula(p, g, p + wrong, alpha) - best) / abs(best)
        gap = float(duality_gap(distance, g, wrong, alpha))
        assert gap == pytest.approx(missed, rel=1e-9, abs=1e-12 / abs(best))
        assert gap > 0


@pytest.mark.parametrize("alpha", [1e-3, 1e-5, 1e-7, 1e-9])
def test_the_gap_is_as_true_for_short_steps_as_for_long_ones(alpha):
    # For small alpha the step is -alpha p (g - <g, p>), and the gap of s times the step (s - 1)^2, both up to O(alpha).
    p, g = simplex((5,), 0), gaussian((5,), 1)
    distance = KullbackLeibler(p)
    step = penalized_step(distance, g, alpha)
    torch.testing.assert_close(step / alpha, -p * (g - (g * p).sum()), rtol=0, atol=10 * alpha + 1e-6)
    for s in (0.0, 0.5, 1.0, 2.0, 3.0):
        assert float(duality_gap(distance, g, s * step, alpha)) == pytest.approx((s - 1) ** 2, abs=1e-2)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.7])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_a_constant_gradient_has_no_step_and_certifies_it(size, value):
    for p in (torch.full((size,), 1 / size, dtype=torch.float64), simplex((size,), 0)):
        distance, g = KullbackLeibler(p), torch.full((size,), value, dtype=torch.float64)
        step = penalized_step(distance, g, alpha=0.3)
        torch.testing.assert_close(step, torch.zeros_like(step), rtol=0, atol=1e-15)
        assert float(duality_gap(distance, g, torch.zeros_like(g), alpha=0.3)) == 0
        assert float(duality_gap(distance, g, step, alpha=0.3)) == 0


def test_entries_of_the_point_that_are_zero_stay_zero():
    p = torch.tensor([0.0, 0.25, 0.0, 0.75], dtype=torch.float64)
    g = torch.tensor([-100.0, 1.0, 5.0, -1.0], dtype=torch.float64)
    distance = KullbackLeibler(p)
    step = penalized_step(distance, g, alpha=0.5)
    assert step[0] == step[2] == 0
    assert float(duality_gap(distance, g, step, alpha=0.5)) < 1e-12
    moved = step + torch.tensor([0.1, -0.1, 0.0, 0.0], dtype=torch.float64)
    assert float(distance.distance(moved)) == math.inf
    assert float(duality_gap(distance, g, moved, alpha=0.5)) == math.inf


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_steps_off_the_simplex_are_infinitely_far(dtype):
    p, g = simplex((4,), 0).to(dtype), gaussian((4,), 1).to(dtype)
    distance = KullbackLeibler(p)
    for off in ([0.1, 0, 0, 0], [-2.0, 2.0, 0, 0], [math.nan, 0, 0, 0], [0.01, -0.005, 0, 0]):
        u = torch.tensor(off, dtype=dtype)
        assert float(distance.distance(u)) == math.inf
        assert not float(objective(distance, g, u, alpha=0.5)) < math.inf
        assert float(duality_gap(distance, g, u, alpha=0.5)) == math.inf


@FEW
@given(seed=SEEDS, alpha=ALPHAS)
def test_in_float32_the_step_is_that_in_float64_and_its_gap_rounding(seed, alpha):
    p, g = simplex((6,), seed).float(), gaussian((6,), seed + 1).float()
    step = penalized_step(KullbackLeibler(p), g, alpha)
    assert step.dtype == torch.float32
    exact = penalized_step(KullbackLeibler(p.double() / p.double().sum()), g.double(), alpha)
    torch.testing.assert_close(step.double(), exact, rtol=0, atol=1e-6)
    assert 0 <= float(duality_gap(KullbackLeibler(p), g, step, alpha)) < 1e-8
    assert float(KullbackLeibler(p).distance(step)) == pytest.approx(divergence(p + step, p), abs=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_gradients_of_any_size_leave_the_point_on_the_simplex(size):
    p, g = simplex((4,), 0), gaussian((4,), 1) * size
    q = p + penalized_step(KullbackLeibler(p), g, alpha=1.0)
    assert float(q.sum()) == pytest.approx(1, rel=1e-14)
    if size > 1:
        torch.testing.assert_close(q, (torch.arange(4) == g.argmin()).double(), rtol=0, atol=1e-15)
    else:
        torch.testing.assert_close(q, p, rtol=0, atol=1e-15)


def test_the_point_is_copied_and_compared_entry_by_entry():
    p = simplex((4,), 0)
    distance, twin = KullbackLeibler(p), KullbackLeibler(p.clone())
    assert distance == twin
    assert hash(distance) == hash(twin)
    assert pickle.loads(pickle.dumps(distance)) == distance
    assert distance != KullbackLeibler(p.flip(0))
    assert distance != KullbackLeibler(p.float())
    assert distance != KullbackLeibler(p.view(2, 2))
    p.fill_(0.25)
    assert distance == twin
    assert distance.exactly() == distance
    with pytest.raises(AttributeError):
        distance.point = p


@pytest.mark.parametrize(
    "bad",
    [[0.5, 0.6], [0.5, 0.4], [1.5, -0.5], [math.nan, 1.0], [math.inf, 0.0], [0.0, 0.0], []],
    ids=str,
)
def test_a_point_off_the_simplex_is_refused(bad):
    with pytest.raises(InvalidArgument, match=r"must lie on the simplex.*\(got 'a sum of .*softmax"):
        KullbackLeibler(torch.tensor(bad, dtype=torch.float64))


def test_a_gradient_of_another_shape_is_refused():
    distance = KullbackLeibler(torch.tensor([0.5, 0.5]))
    for shape in [(3,), (2, 1), (1,), ()]:
        other = torch.zeros(shape)
        for call in (
            lambda g=other: penalized_step(distance, g, alpha=0.1),
            lambda g=other: duality_gap(distance, g, g, alpha=0.1),
            lambda g=other: objective(distance, g, g, alpha=0.1),
        ):
            with pytest.raises(InvalidArgument, match=r"must have the point's shape, \(2,\)"):
                call()
