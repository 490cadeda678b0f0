"""The contract of every rule: what it claims it certifies, where it is run it ends, and units do not matter."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

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
    predict_batch,
    simulate,
)
from steepest.norms import L1, L2, Ellipsoid, LInf, Lp, Schatten, Spectral

SPD = [[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.5]]
RULES = {
    "gradient descent": GradientDescent(),
    "heavy ball": GradientDescent(momentum=0.9),
    "nesterov": GradientDescent(momentum=0.9, nesterov=True),
    "sgd": GradientDescent(batch_size=1),
    "preconditioned": Preconditioned([1.0, 10.0, 100.0]),
    "full preconditioner": Preconditioned(SPD, momentum=0.5),
    "rescaled": RescaledFeatures(),
    "entropy": MirrorDescent(Entropy()),
    "p = 3": MirrorDescent(PNorm(3)),
    "p = 1.5, dual momentum": MirrorDescent(PNorm(1.5), momentum=0.5, momentum_on="dual"),
    "hypentropy": MirrorDescent(Hypentropy(0.1), batch_size=1),
    "sign": SignDescent(),
    "sign of rows": SignDescent(batch_size=1),
    "epoch adam": EpochAdam(),
    "l1": NormSteepest(L1()),
    "lp": NormSteepest(Lp(3)),
    "linf": NormSteepest(LInf(), mode="constrained"),
    "ellipsoid": NormSteepest(Ellipsoid(torch.tensor([1.0, 2.0, 3.0]))),
    "l2, constrained": NormSteepest(L2(), mode="constrained"),
    "torch sgd": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.5),
    "torch lbfgs": functools.partial(torch.optim.LBFGS, tolerance_grad=1e-13, tolerance_change=1e-15),
}
ONE = ([[1.0, 0.1, 0.01]], [1.0])
NAMES = list(RULES)


def vanishing(first):
    return lambda t: first * 0.98**t


@pytest.mark.parametrize("name", NAMES)
def test_on_one_equation_every_rule_converges_and_its_point_is_certified(name):
    prediction = predict(RULES[name], *ONE)
    assert prediction.determined
    assert prediction.certificate.passed
    assert prediction.certificate
    assert prediction.direction is None
    assert prediction.point.dtype == torch.float64
    assert (prediction.point @ torch.tensor(ONE[0][0], dtype=torch.float64)).item() == pytest.approx(1, abs=1e-12)
    assert len(prediction.reason) > 40
    assert str(prediction).startswith("ends at [")


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_the_rule_ends_where_it_is_predicted_to_and_is_certified(name):
    rule = RULES[name]
    prediction = predict(rule, *ONE)
    own = prediction.rule
    first = own.scale(prediction.problem)
    schedule = vanishing(0.9 * first) if own.needs_vanishing_steps else 0.5 * first
    # The p-norm's dual is steep near 0 and needs small steps.
    schedule = {"p = 3": 0.02, "p = 1.5, dual momentum": 0.1}.get(name, schedule)
    end = simulate(rule, *ONE, schedule, 200 if name == "torch lbfgs" else 1500).point[0]
    assert (end - prediction.point).norm() <= 1e-7 * prediction.point.norm()
    assert certify(rule, *ONE, end).passed


@pytest.mark.parametrize("name", NAMES)
def test_another_solution_is_not_certified(name):
    point = predict(RULES[name], *ONE).point
    along_the_solutions = torch.tensor([0.1, -1.0, 0.0], dtype=torch.float64)
    assert not certify(RULES[name], *ONE, point + 1e-3 * along_the_solutions).passed


@pytest.mark.parametrize("name", NAMES)
def test_a_point_that_does_not_solve_is_not_certified(name):
    certificate = certify(RULES[name], *ONE, 0.99 * predict(RULES[name], *ONE).point)
    assert not certificate.passed
    assert certificate.residual == pytest.approx(0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_is_where_a_run_stays(name):
    start = predict(RULES[name], *ONE).point
    prediction = predict(RULES[name], *ONE, theta0=start)
    assert prediction.determined
    assert (prediction.point - start).norm() <= 1e-12
    assert simulate(RULES[name], *ONE, 1e-3, 3, theta0=start).point[0].sub(start).norm() <= 0.01


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("entropy", "hypentropy")])
def test_equations_in_other_units_have_the_same_limit(name):
    point = predict(RULES[name], *ONE).point
    scaled = predict(RULES[name], [[1e6 * a for a in ONE[0][0]]], [1e6])
    assert (scaled.point - point).norm() <= 1e-10 * point.norm()
    larger = predict(RULES[name], ONE[0], [1e5])
    assert (larger.point / 1e5 - point).norm() <= 1e-10 * point.norm()


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("preconditioned", "full preconditioner", "ellipsoid")]
)
def test_a_column_of_zeros_stays_where_it_starts_and_is_named(name):
    rule = RULES[name]
    start = [1.0, 1.0, 0.7, 1.0] if name == "entropy" else [0.0, 0.0, 0.7, 0.0]
    prediction = predict(rule, [[1.0, 0.1, 0.0, 0.01]], [1.5], theta0=start)
    assert prediction.determined
    assert prediction.point[2].item() == pytest.approx(0.7, abs=1e-12)
    assert "Columns of zeros, 2:" in prediction.reason


def test_many_problems_are_predicted_as_each_alone():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(6, 3, 5, generator=generator, dtype=torch.float64)
    b = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    theta0 = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    for prediction, *problem in zip(predict_batch(GradientDescent(), A, b, theta0), A, b, theta0, strict=True):
        assert torch.equal(prediction.point, predict(GradientDescent(), *problem).point)
    ragged = predict_batch(SignDescent(), [[[1.0, 2.0]], [[1.0]]], [[1.0], [2.0]])
    assert [len(prediction.point) for prediction in ragged] == [2, 1]


@pytest.mark.parametrize("norm", [Spectral(exact=True), Schatten(3)], ids=["spectral", "schatten"])
def test_a_matrix_norm_takes_the_shape_of_theta(norm):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(6, generator=generator, dtype=torch.float64)
    prediction = predict(NormSteepest(norm, shape=(2, 3)), a[None], [2.0])
    assert prediction.determined
    due = 2 * norm.duality_map(a.reshape(2, 3)) / norm.dual_norm(a.reshape(2, 3))
    assert (prediction.point.reshape(2, 3) - due).norm() <= 1e-9


CONTAINERS = ["list", "numpy", "float32", "int", "tensor with a gradient", "strided", "sparse", "list of tensors"]


@pytest.mark.parametrize("kind", [*CONTAINERS, "other byte order", "long double", "half"])
def test_numbers_come_in_any_container(kind):
    A = torch.tensor([[2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    given = {
        "list": A.tolist(),
        "numpy": A.numpy(),
        "float32": A.float(),
        "int": A.int(),
        "tensor with a gradient": A.clone().requires_grad_(),
        "strided": A.mT.contiguous().mT,
        "other byte order": A.numpy().astype(A.numpy().dtype.newbyteorder()),
        "long double": A.numpy().astype(np.longdouble),
        "half": A.half(),
        "sparse": A.to_sparse(),
        "list of tensors": list(A),
    }[kind]
    prediction = predict(GradientDescent(), given, [3, 1])
    assert prediction.point.tolist() == pytest.approx([1, 1])
    assert not prediction.point.requires_grad


def test_float32_equations_that_hold_to_rounding_are_taken_as_exact():
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(3, 6, generator=generator)
    A = torch.cat([A, A[:1] + A[1:2]])
    b = A @ torch.randn(6, generator=generator)
    prediction = predict(GradientDescent(), A, b)
    assert prediction.determined
    assert "contradict" not in prediction.reason
    assert (A.double() @ prediction.point - b).norm() < 1e-5
