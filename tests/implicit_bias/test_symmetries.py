"""What leaves a limit as it is: other units, orders, rotations of the equations, and starts on the way."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.implicit_bias.measures import Array, gap

from steepest.implicit_bias import (
    EpochAdam,
    GradientDescent,
    NormSteepest,
    Preconditioned,
    RescaledFeatures,
    SignDescent,
    predict,
)
from steepest.norms import L1, Ellipsoid, Lp


def small(seed: int, m: int = 3, n: int = 8) -> tuple[np.random.Generator, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    return rng, rng.standard_normal((m, n)), rng.standard_normal(m), rng.standard_normal(n)


def linear_rules(diagonal: Array) -> list[object]:
    return [
        GradientDescent(),
        GradientDescent(momentum=0.9, nesterov=True, batch_size=1),
        RescaledFeatures(),
        Preconditioned(diagonal),
        NormSteepest(Ellipsoid(torch.from_numpy(diagonal))),
        torch.optim.SGD,
    ]


def close(x: torch.Tensor, y: object) -> bool:
    return gap(x, y) <= 1e-9


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_a_permutation_of_the_coordinates_permutes_the_prediction(seed):
    rng, A, b, start = small(seed)
    order, diagonal = rng.permutation(8), np.exp(rng.standard_normal(8))
    pairs = list(zip(linear_rules(diagonal), linear_rules(diagonal[order]), strict=True))
    for rule, permuted in [*pairs, (SignDescent(batch_size=1),) * 2]:
        before, after = predict(rule, A, b, start), predict(permuted, A[:, order], b, start[order])
        assert before.determined == after.determined
        if before.determined:
            assert close(after.point, before.point[order])
    for rule in (SignDescent(), EpochAdam(), NormSteepest(L1()), NormSteepest(Lp(3))):
        before = predict(rule, A[:1], b[:1], start)
        assert close(predict(rule, A[:1, order], b[:1], start[order]).point, before.point[order])


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-6, 6), sign=st.sampled_from([-1, 1]))
def test_multiplying_all_equations_by_a_factor_leaves_the_prediction(seed, exponent, sign):
    rng, A, b, start = small(seed)
    factor = sign * 10**exponent
    for rule in [*linear_rules(np.exp(rng.standard_normal(8))), SignDescent(batch_size=1)]:
        before, after = predict(rule, A, b, start), predict(rule, factor * A, factor * b, start)
        assert before.determined == after.determined
        if before.determined:
            assert close(after.point, before.point)
    for rule in (SignDescent(), EpochAdam(), NormSteepest(L1()), NormSteepest(Lp(3))):
        before = predict(rule, A[:1], b[:1], start)
        assert close(predict(rule, factor * A[:1], factor * b[:1], start).point, before.point)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_mixing_the_equations_by_a_rotation_leaves_the_prediction_of_the_linear_rules(seed):
    rng, A, b, start = small(seed)
    Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    for rule in linear_rules(np.exp(rng.standard_normal(8))):
        before, after = predict(rule, A, b, start), predict(rule, Q @ A, Q @ b, start)
        assert before.determined
        assert after.determined
        assert close(after.point, before.point)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_moving_the_start_and_the_targets_moves_the_prediction_of_the_linear_rules(seed):
    rng, A, b, start = small(seed)
    v = rng.standard_normal(8)
    for rule in linear_rules(np.exp(rng.standard_normal(8))):
        before, after = predict(rule, A, b, start), predict(rule, A, b + A @ v, start + v)
        assert before.determined
        assert after.determined
        assert close(after.point, before.point.numpy() + v)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), t=st.floats(-2, 2))
def test_a_start_on_the_way_of_a_linear_rule_has_the_same_prediction(seed, t):
    rng, A, b, start = small(seed)
    diagonal = np.exp(rng.standard_normal(8))
    between = start + t * diagonal * (A.T @ rng.standard_normal(3))
    rule = Preconditioned(diagonal)
    assert close(predict(rule, A, b, between).point, predict(rule, A, b, start).point)
