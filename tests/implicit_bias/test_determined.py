"""Problems of which the limit is determined, and should be said to be."""

from __future__ import annotations

import numpy as np
import pytest
from tests.implicit_bias.measures import Array

from steepest.implicit_bias import (
    GradientDescent,
    Preconditioned,
    RescaledFeatures,
    predict,
)


def rank_deficient(rng: np.random.Generator, m: int, n: int) -> tuple[Array, Array]:
    rank = int(rng.integers(1, m))
    A = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
    return A, A @ rng.standard_normal(n)


def redundant(rng: np.random.Generator, m: int, n: int) -> tuple[Array, Array]:
    A, b = rng.standard_normal((m, n)), rng.standard_normal(m)
    weights = rng.standard_normal((2, m))
    return np.vstack([A, weights @ A]), np.r_[b, weights @ b]


def zero_columns(rng: np.random.Generator, m: int, n: int) -> tuple[Array, Array]:
    A = rng.standard_normal((m, n))
    A[:, rng.permutation(n)[: min(3, n - m)]] = 0
    return A, rng.standard_normal(m)


def single_precision(rng: np.random.Generator, m: int, n: int) -> tuple[Array, Array]:
    return rng.standard_normal((m, n)).astype(np.float32), rng.standard_normal(m).astype(np.float32)


def redundant_in_single_precision(rng: np.random.Generator, m: int, n: int) -> tuple[Array, Array]:
    A, b = redundant(rng, m, n)
    return A.astype(np.float32), b.astype(np.float32)


def badly_scaled_rows(rng: np.random.Generator, m: int, n: int) -> tuple[Array, Array]:
    scale = 10 ** rng.uniform(-3, 3, m)
    return rng.standard_normal((m, n)) * scale[:, None], rng.standard_normal(m) * scale


def more_equations_than_unknowns(rng: np.random.Generator, m: int, n: int) -> tuple[Array, Array]:
    A = rng.standard_normal((n, m))
    return A, A @ rng.standard_normal(m)


FAMILIES = [
    rank_deficient,
    redundant,
    zero_columns,
    single_precision,
    redundant_in_single_precision,
    badly_scaled_rows,
    more_equations_than_unknowns,
]


def declared_undetermined(count: int) -> dict[str, float]:
    """By family: which part of the cases, all of them determined, is said not to be."""
    shares = {}
    for family in FAMILIES:
        missed = 0
        for seed in range(count):
            rng = np.random.default_rng(40_000 + seed)
            n = int(rng.integers(4, 51))
            m = int(rng.integers(2, n))
            A, b = family(rng, m, n)
            diagonal = np.exp(rng.standard_normal(A.shape[1]))
            rule = [
                GradientDescent(momentum=0.9),
                GradientDescent(batch_size=1),
                RescaledFeatures(),
                Preconditioned(diagonal),
            ]
            missed += not predict(rule[seed % 4], A, b).determined
        shares[family.__name__] = missed / count
    return shares


def test_of_some_determined_cases_five_in_a_hundred_at_most_are_declared_undetermined():
    shares = declared_undetermined(20)
    assert sum(shares.values()) / len(shares) <= 0.05, shares


@pytest.mark.slow
def test_of_determined_cases_five_in_a_hundred_at_most_are_declared_undetermined():
    shares = declared_undetermined(200)
    assert sum(shares.values()) / len(shares) <= 0.05, shares
