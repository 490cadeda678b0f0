from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steepest.norms import (
    L1,
    L2,
    Ellipsoid,
    Flattened,
    LInf,
    Lp,
    MaxColumn,
    MaxRow,
    Nuclear,
    Scaled,
    Schatten,
    Spectral,
    Split,
    constrained_step,
    penalized_step,
)

EXACT = Spectral(exact=True)
NORMS = [
    L1(),
    L2(),
    LInf(),
    Lp(3),
    Ellipsoid(torch.tensor([0.5, 2.0, 4.0])),
    EXACT,
    Nuclear(),
    Schatten(3),
    MaxRow(),
    MaxColumn(),
    Scaled(LInf(), by=0.25),
    Split(EXACT, 2),
    Flattened(EXACT),
]
EVERY_NORM = pytest.mark.parametrize("norm", NORMS, ids=str)


def gradient(seed: int = 0) -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@EVERY_NORM
@given(radius=st.floats(1e-6, 1e6), seed=st.integers(0, 10**6))
def test_the_constrained_step_is_minus_radius_times_the_duality_map(norm, radius, seed):
    g = gradient(seed)
    u = constrained_step(norm, g, radius)
    torch.testing.assert_close(u, -radius * norm.duality_map(g))
    assert float(norm(u)) == pytest.approx(radius, rel=1e-12)
    assert float((g * u).sum()) == pytest.approx(-radius * float(norm.dual_norm(g)), rel=1e-12)


@EVERY_NORM
def test_no_point_of_the_ball_is_lower_than_the_constrained_step(norm):
    g, generator = gradient(), torch.Generator().manual_seed(1)
    best = float((g * constrained_step(norm, g, 0.3)).sum())
    for _ in range(300):
        u = torch.randn(g.shape, generator=generator, dtype=torch.float64)
        assert float((g * u).sum() * 0.3 / norm(u)) >= best


@given(alpha=st.floats(0, 1e3), seed=st.integers(0, 10**6))
def test_in_the_l2_norm_the_penalized_step_is_gradient_descent_with_half_of_alpha(alpha, seed):
    g = gradient(seed)
    torch.testing.assert_close(penalized_step(L2(), g, alpha), -alpha / 2 * g, rtol=1e-12, atol=0)


@EVERY_NORM
def test_a_step_of_length_zero_is_allowed_and_zero(norm):
    for u in (penalized_step(norm, gradient(), 0), constrained_step(norm, gradient(), 0)):
        assert not u.any()


@pytest.mark.parametrize("size", [1e-30, 1e-22, 1e22, 1e30])
def test_float32_gradients_of_any_finite_size_give_a_finite_unit_direction(size):
    # Squares of these leave float32's range, 1e-45 to 3e38.
    g = torch.tensor([3.0, -4.0]) * size
    torch.testing.assert_close(L2().duality_map(g), torch.tensor([0.6, -0.8]))
    torch.testing.assert_close(penalized_step(L2(), g, alpha=0.2), -0.1 * g)
