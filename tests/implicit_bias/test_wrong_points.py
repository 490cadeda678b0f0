"""Points and directions that a determined rule does not end at: their certificates fail."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steepest.implicit_bias import (
    Entropy,
    EpochAdam,
    GradientDescent,
    Hypentropy,
    MirrorDescent,
    NormSteepest,
    PNorm,
    Preconditioned,
    RescaledFeatures,
    SignDescent,
    certify,
    predict,
    simulate,
)
from steepest.norms import L1, L2, LInf, Lp

SEVERAL = {
    "gradient descent": GradientDescent(),
    "heavy ball": GradientDescent(momentum=0.9),
    "rows": GradientDescent(batch_size=1),
    "preconditioned": Preconditioned([1.0, 3.0, 10.0, 30.0, 100.0]),
    "rescaled": RescaledFeatures(),
    "entropy": MirrorDescent(Entropy()),
    "p = 1.5": MirrorDescent(PNorm(1.5)),
    "p = 3": MirrorDescent(PNorm(3)),
    "hypentropy": MirrorDescent(Hypentropy(0.1)),
    "torch SGD": functools.partial(torch.optim.SGD, momentum=0.9),
    "torch LBFGS": torch.optim.LBFGS,
}
ONE = {
    "signs": SignDescent(),
    "signs of rows": SignDescent(batch_size=1),
    "epochs": EpochAdam(),
    "L1": NormSteepest(L1()),
    "Lp": NormSteepest(Lp(3)),
    "LInf": NormSteepest(LInf(), mode="constrained"),
}
MARGINS = {
    "gradient descent": GradientDescent(),
    "preconditioned": Preconditioned([1.0, 3.0, 10.0, 30.0, 100.0]),
    "p = 1.5": MirrorDescent(PNorm(1.5)),
    "p = 3": MirrorDescent(PNorm(3)),
    "L1": NormSteepest(L1()),
    "Lp": NormSteepest(Lp(3)),
    "signs": SignDescent(),
    "epochs": EpochAdam(),
    "torch SGD": torch.optim.SGD,
}
SEEDS = st.integers(0, 10**6)
SOLVERS = pytest.mark.parametrize("name", [*SEVERAL, *ONE])


def problem(name: str, seed: int) -> tuple[object, Tensor, Tensor, Tensor]:
    """A rule, A, b and a start, with one equation for the rules that need that, and the prediction determined."""
    g = torch.Generator().manual_seed(seed)
    A = torch.rand(1 if name in ONE else 2, 5, generator=g, dtype=torch.float64) + 0.1
    x, theta0 = (torch.rand(5, generator=g, dtype=torch.float64) + 0.2 for _ in range(2))
    return (ONE | SEVERAL)[name], A, A @ x, theta0


@SOLVERS
@settings(max_examples=4)
@given(seed=SEEDS, exponent=st.integers(-4, 0))
def test_a_point_that_solves_the_equations_but_lies_elsewhere_is_not_certified(name, seed, exponent):
    rule, A, b, theta0 = problem(name, seed)
    prediction = predict(rule, A, b, theta0)
    assert prediction.determined
    assert certify(rule, A, b, prediction.point, theta0).passed
    free = torch.linalg.svd(A, full_matrices=True).Vh[-1]
    # Even a small step along the solutions; ten times the tolerance at the least.
    away = prediction.point + 10.0**exponent * float((prediction.point - theta0).norm()) * free
    assert not certify(rule, A, b, away, theta0).passed


@SOLVERS
@settings(max_examples=4)
@given(seed=SEEDS, share=st.floats(0, 0.9999))
def test_a_point_on_the_way_that_does_not_solve_is_not_certified(name, seed, share):
    rule, A, b, theta0 = problem(name, seed)
    point = predict(rule, A, b, theta0).point
    assert not certify(rule, A, b, theta0 + share * (point - theta0), theta0).passed


@SOLVERS
@settings(max_examples=4)
@given(seed=SEEDS, size=st.sampled_from([1e3, 1e6, 1e9]))
def test_from_a_huge_start_neither_the_start_nor_another_solution_is_certified(name, seed, size):
    rule, A, b, theta0 = problem(name, seed)
    start, prediction = theta0 * size, predict(rule, A, b, theta0 * size)
    assert not certify(rule, A, b, start, start).passed
    free = torch.linalg.svd(A, full_matrices=True).Vh[-1]
    if prediction.determined:
        assert not certify(rule, A, b, prediction.point + 1e-3 * size * free, start).passed


def test_a_start_that_is_huge_where_nothing_moves_is_not_certified():
    start = [0.0, 1e13]
    assert not certify(GradientDescent(), [[1.0, 0.0]], [1.0], start, start).passed


@pytest.mark.parametrize("name", SEVERAL)
@settings(max_examples=4)
@given(seed=SEEDS, exponent=st.integers(-7, 0))
def test_rows_of_very_different_scale_all_have_to_be_solved(name, seed, exponent):
    rule, A, b, theta0 = problem(name, seed)
    units = torch.tensor([1.0, 10.0**exponent], dtype=torch.float64)
    A, b = units[:, None] * A, units * b
    first = theta0 + torch.linalg.pinv(A[:1]) @ (b[:1] - A[:1] @ theta0)
    assert not certify(rule, A, b, first, theta0).passed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-6, 1e-8, 1e-12, 1e-20])
@pytest.mark.parametrize("rule", [GradientDescent(), GradientDescent(batch_size=1), RescaledFeatures()], ids=repr)
def test_an_exact_row_that_is_tiny_beside_another_is_not_taken_for_rounding(rule, size, dtype):
    A = torch.tensor([[1.0, 1.0], [size, -size]], dtype=dtype)
    prediction = predict(rule, A, A.double() @ torch.tensor([2.0, 1.0], dtype=torch.float64))
    if prediction.determined:
        torch.testing.assert_close(prediction.point, torch.tensor([2.0, 1.0], dtype=torch.float64))


def test_a_tiny_preconditioner_does_not_make_equations_contradict_each_other():
    prediction = predict(Preconditioned([1e-40, 1.0]), [[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
    if prediction.determined:
        torch.testing.assert_close(prediction.point, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e200])
@pytest.mark.parametrize("name", ["gradient descent", "rows", "torch SGD", "p = 3", "signs", "L1"])
def test_wrong_points_of_very_small_and_very_large_targets_are_not_certified(name, scale):
    rule = (ONE | SEVERAL)[name]
    for wrong in ([0.0, 0.0, 0.0], [scale / 3, scale / 3, 0.0], [0.0, 0.0, scale]):
        assert not certify(rule, [[3.0, 2.0, 1.0]], [scale], wrong).passed


@pytest.mark.parametrize(
    ("dtype", "more"),
    [(torch.bfloat16, 0.2), (torch.float16, 0.02), (torch.float32, 2e-6)],
    ids=["bfloat16", "float16", "float32"],
)
@pytest.mark.parametrize("b", [1.0, 1e-200])
def test_equations_that_contradict_each_other_within_coarse_numbers_still_do(dtype, more, b):
    # The same row twice, exactly, and two targets: rows one at a time pull theta back and forth for ever.
    A = torch.tensor([[1.0, 0.5], [1.0, 0.5]], dtype=dtype)
    targets = torch.tensor([b, b * (1 + more)], dtype=torch.float64)
    run = simulate(GradientDescent(batch_size=1), A, targets, 0.5, 2000, seeds=8)
    apart = float(run.point[:, 0].max() - run.point[:, 0].min()) / b
    prediction = predict(GradientDescent(batch_size=1), A, targets)
    assert apart > 0.2 * more
    assert not prediction.determined


def test_live_momentum_carries_theta_on_where_labels_have_a_finite_minimiser_too():
    theta = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = torch.optim.SGD([theta], lr=0.1, momentum=0.9)
    theta.grad = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    optimizer.step()
    A, b = [[1.0, 0.0, 0.0], [-1.0, 0.3, 0.0], [0.5, -1.0, 0.0], [-0.2, 1.0, 0.0]], [1.0] * 4
    end = simulate(optimizer, A, b, 0.1, 4000, loss="logistic").point[0]
    prediction = predict(optimizer, A, b, loss="logistic")
    assert float(end[2]) == pytest.approx(-1)
    if prediction.determined:
        torch.testing.assert_close(prediction.point, end, rtol=1e-8, atol=1e-8)
        assert certify(optimizer, A, b, end, theta.detach(), loss="logistic").passed


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
@pytest.mark.parametrize("name", MARGINS)
@settings(max_examples=3)
@given(seed=SEEDS, turn=st.sampled_from([1e-3, 1e-2, 0.3]))
def test_directions_of_smaller_margin_are_not_certified(name, loss, seed, turn):
    g = torch.Generator().manual_seed(seed)
    A, w, other = (torch.randn(size, 5, generator=g, dtype=torch.float64) for size in (7, 1, 1))
    b = torch.where(A @ w[0] > 0, 1.0, -1.0).double()
    rule = MARGINS[name]
    prediction = predict(rule, A, b, loss=loss)
    if not prediction.determined:
        return
    best = prediction.direction
    assert certify(rule, A, b, 1e3 * best, loss=loss).passed
    assert not certify(rule, A, b, -best, loss=loss).passed
    assert not certify(rule, A, b, torch.zeros(5), loss=loss).passed
    turned = best + turn * torch.nn.functional.normalize(other[0] - (other[0] @ best) * best, dim=0)
    assert not certify(rule, A, b, turned, loss=loss).passed
    assert not certify(rule, A, b, w[0] + turn * best, loss=loss).passed


def test_the_margin_of_one_norm_is_not_certified_for_another():
    A, b = [[2.0, 0.5, 0.1], [0.3, 1.0, -0.4], [1.0, -0.2, 0.8]], [1.0, 1.0, 1.0]
    rules = [NormSteepest(norm) for norm in (L2(), LInf(), Lp(1.5), Lp(3))]
    directions = [predict(rule, A, b, loss="exponential").direction for rule in rules]
    for i, rule in enumerate(rules):
        for j, direction in enumerate(directions):
            assert certify(rule, A, b, direction, loss="exponential").passed is (i == j)


def test_the_mean_of_label_times_sign_is_no_margin_and_a_margin_is_not_it():
    A, b = [[2.0, 0.5], [0.3, -1.0], [1.0, 3.0]], [1.0, 1.0, 1.0]
    rows, whole = SignDescent(batch_size=1), GradientDescent()
    mean, margin = (predict(rule, A, b, loss="logistic").direction for rule in (rows, whole))
    assert certify(rows, A, b, mean, loss="logistic").passed
    assert not certify(rows, A, b, margin, loss="logistic").passed
    assert not certify(whole, A, b, mean, loss="logistic").passed
