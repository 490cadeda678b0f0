"""Potentials of one's own, borders of their domains, and powers that underflow."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from mpmath import lu_solve, matrix, mp, norm
from tests.implicit_bias.measures import digits
from torch import Tensor

from steepest.implicit_bias import (
    Entropy,
    MirrorDescent,
    PNorm,
    Potential,
    certify,
    predict,
    simulate,
)

ONE = [[1.0, 0.5, 0.2]]


eighty_digits = digits(80)


@dataclass(frozen=True)
class Box(Potential):
    """The entropies of 1 + x and 1 - x, on (-1, 1)."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.special.xlogy(1 + x, 1 + x) + torch.special.xlogy(1 - x, 1 - x)

    def gradient(self, x: Tensor) -> Tensor:
        return 2 * torch.atanh(x)

    def inverse_gradient(self, z: Tensor) -> Tensor:
        return torch.tanh(z / 2)

    def curvature(self, x: Tensor) -> Tensor:
        return 2 / (1 - x * x)

    def contains(self, x: Tensor) -> bool:
        return bool((x.abs() < 1).all())


@pytest.mark.parametrize(("A", "b"), [([[1.0, -2.0, 0.5]], [1.0]), ([[1.0, 0.0], [0.0, 1.0]], [-0.5, 0.5])])
def test_a_potential_whose_domain_has_both_signs_ends_at_the_projection(A, b):
    prediction = predict(MirrorDescent(Box()), A, b)
    assert prediction.determined
    torch.testing.assert_close(simulate(MirrorDescent(Box()), A, b, 0.1, 2000).point[0], prediction.point)


def test_equations_without_a_solution_in_the_domain_are_not_said_to_have_a_limit():
    prediction = predict(MirrorDescent(Box()), ONE, [10.0])
    assert not prediction.determined
    assert "A limit is known" not in prediction.reason


@pytest.mark.parametrize("theta0", [[1.0, 1e12], [1e150, 1.0], [1e308, 1.0]])
def test_a_far_start_does_not_take_away_positive_solutions(theta0):
    prediction = predict(MirrorDescent(Entropy()), [[1.0, 2.0]], [3.0], theta0)
    assert prediction.determined or "No solution lies inside" not in prediction.reason


@pytest.mark.parametrize("p", [50, 300, 800, 1000])
@pytest.mark.parametrize("b", [[0.4, -1.0], [1.0, 1.0], [1.0, 0.3]])
def test_powers_that_underflow_prove_nothing(p, b):
    A, rule = [[1.0, 0.5, -0.3, 0.2], [0.2, 1.0, 0.6, -0.7]], MirrorDescent(PNorm(p))
    prediction = predict(rule, A, b)
    if prediction.determined:
        z, M = matrix([mp.sign(x) * abs(mp.mpf(x)) ** (p - 1) for x in prediction.point.tolist()]), matrix(A)
        assert norm(z - M.T * lu_solve(M * M.T, M * z)) <= 1e-6 * norm(z)
    else:
        near = predict(MirrorDescent(PNorm(100)), A, b).point
        assert not certify(rule, A, b, near, tolerance=0.1).passed
