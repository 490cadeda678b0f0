"""Runs of minibatches, of normalised steps and of signs end, or go, where they are predicted to."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from steepest.implicit_bias import (
    Entropy,
    GradientDescent,
    MirrorDescent,
    PNorm,
    Preconditioned,
    SignDescent,
    predict,
    simulate,
)

F64 = torch.float64
INSEPARABLE = [[1.0, 0.5], [-1.0, 0.3], [0.2, -1.0], [-0.1, 0.8]]

FULL = torch.tensor([[2.0, 0.5, 0.0, 0.3], [0.5, 1.0, 0.2, 0.0], [0.0, 0.2, 3.0, 0.4], [0.3, 0.0, 0.4, 0.5]])


@pytest.mark.parametrize(
    ("rule", "near"),
    [
        (GradientDescent(momentum=0.9), 5e-3),
        (GradientDescent(batch_size=2), 0.08),
        pytest.param(Preconditioned(FULL), 0.05, marks=pytest.mark.slow),
        (MirrorDescent(PNorm(1.5)), 0.02),
        pytest.param(MirrorDescent(PNorm(3)), 0.15, marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_steps_divided_by_the_loss_take_separable_data_towards_the_predicted_direction(rule, near):
    g = torch.Generator().manual_seed(1)
    A, w = torch.randn(6, 4, generator=g, dtype=F64), torch.randn(4, generator=g, dtype=F64)
    Z = (A * (A @ w).sign()[:, None]) + 0.3 * w / w.norm()
    prediction = predict(rule, Z, [1.0] * 6, loss="logistic")
    step, theta, distances = rule.step(prediction.problem, 1), torch.zeros(1, 4, dtype=F64), []
    rows = 6 if rule.batch_size is None else rule.batch_size

    def gradient(x: Tensor, batch: Tensor) -> Tensor:
        margins = x @ Z.mT
        return -torch.exp(margins.min() - margins[:, batch]) @ Z[batch] / torch.exp(margins.min() - margins).sum()

    for t in range(5000):
        order = torch.randperm(6, generator=g) if t % (6 // rows) == 0 else order.roll(-rows)
        batch = order[:rows]
        theta = step(theta, lambda x, batch=batch: gradient(x, batch), torch.full((1, 1), 0.05, dtype=F64), t)
        distances.append(float((theta[0] / theta.norm() - prediction.direction).norm()))
    assert distances[-1] < near
    assert distances[-1] < 0.7 * distances[len(distances) // 4]


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(GradientDescent(batch_size=1), marks=pytest.mark.slow),
        pytest.param(GradientDescent(batch_size=2, momentum=0.5, nesterov=True), marks=pytest.mark.slow),
        pytest.param(MirrorDescent(Entropy(), momentum=0.5, momentum_on="dual", batch_size=1), marks=pytest.mark.slow),
        MirrorDescent(PNorm(3), momentum=0.5, momentum_on="dual", batch_size=2),
    ],
    ids=repr,
)
def test_minibatches_of_dependent_equations_that_agree_end_at_the_projection(rule):
    g = torch.Generator().manual_seed(0)
    A, x, theta0 = (torch.rand(size, generator=g, dtype=F64) + 0.1 for size in ((2, 5), (5,), (5,)))
    A = torch.cat([A, A[:1] + 2 * A[1:]])
    prediction = predict(rule, A, A @ x, theta0)
    assert prediction.determined
    ends = simulate(rule, A, A @ x, 0.04, 15_000, theta0=theta0, seeds=2).point
    torch.testing.assert_close(ends, prediction.point.expand_as(ends), rtol=1e-8, atol=1e-8)


def test_signs_of_single_rows_go_to_the_mean_for_unequal_labels_and_inseparable_data_too():
    A, b = torch.tensor([*INSEPARABLE, [1.0, 0.5], [2.0, -0.4]], dtype=F64), [1.0, 1.0, 1.0, 1.0, -1.0, -1.0]
    prediction = predict(SignDescent(batch_size=1), A, b, loss="logistic")
    run = simulate(SignDescent(batch_size=1), A, b, lambda t: (t + 1) ** -0.5, 6000, loss="logistic", seeds=2)
    assert float((run.direction - prediction.direction).norm(dim=1).max()) < 0.05
