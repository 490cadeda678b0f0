"""The numbers and code blocks of docs/implicit_bias.md, and its statements that no other test checks."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from steepest.implicit_bias import (
    Entropy,
    EpochAdam,
    GradientDescent,
    MirrorDescent,
    NormSteepest,
    Preconditioned,
    SignDescent,
    certify,
    predict,
    simulate,
)
from steepest.norms import L1, LInf, Lp

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "implicit_bias.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def values(x: torch.Tensor, *entries: float, within: float) -> None:
    assert x.tolist() == pytest.approx(list(entries), abs=within)


def test_the_code_blocks_of_the_page_run_and_print_what_they_say():
    names: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in BLOCKS:
            exec(block, names)
    shown = printed.getvalue()
    assert "ends at [0.990001, 0.0990001, 0.00990001]. " in shown
    assert "tensor([0.9009, 0.9009, 0.9009], dtype=torch.float64)" in shown
    assert "fails: 1.3 of the way off" in shown
    assert "10 of 10 classes" in shown


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"`(test_\w+)\.(test_\w+)`", PAGE)
    assert len(named) > 40
    for module, function in named:
        path = ROOT / "tests" / "implicit_bias" / f"{module}.py"
        assert re.search(rf"^def {function}\(", path.read_text(encoding="utf-8"), re.MULTILINE), (module, function)


def test_columns_of_zeros_move_only_with_a_preconditioner_that_couples_them():
    values(predict(Preconditioned([2.0, 2.0]), [[1.0, 0.0]], [1.0]).point, 1, 0, within=1e-12)
    values(predict(Preconditioned([[2.0, 1.0], [1.0, 2.0]]), [[1.0, 0.0]], [1.0]).point, 1, 0.5, within=1e-12)


def test_primal_momentum_leaves_the_projection_of_the_page():
    A, b = [[1.0, 2.0]], [6.0]
    values(predict(MirrorDescent(Entropy()), A, b).point, 1.5, 2.25, within=1e-12)
    dual = simulate(MirrorDescent(Entropy(), momentum=0.9, momentum_on="dual"), A, b, 0.02, 6000)
    values(dual.point[0], 1.5, 2.25, within=1e-10)
    primal = simulate(MirrorDescent(Entropy(), momentum=0.9), A, b, [0.002, 0.02], 6000)
    assert bool(primal.converged.all())
    values(primal.point[0], 1.594, 2.203, within=5e-4)
    values(primal.point[1], 2.312, 1.844, within=5e-4)
    assert not predict(MirrorDescent(Entropy(), momentum=0.9), A, b).determined


def test_the_certificate_reports_what_the_margin_lacks():
    found = certify(GradientDescent(), [[2.0, 0.0], [0.0, 1.0]], [1, 1], [1.0, 1.0], loss="logistic")
    # The margin of [1, 1] is 1 / sqrt 2, the largest one 2 / sqrt 5.
    assert found.residual == pytest.approx(1 - 0.5**0.5 / (2 / 5**0.5), abs=1e-9)
    assert not found


def test_single_rows_converge_where_only_unequal_weights_show_it():
    A, b = np.array([[1, -2, -3, 1, -1], [1, 0, 0, -3, 0], [1, -1, -2, -1, 0.0]]), [1.0, -1.0, 2.0]
    M = A @ np.sign(A).T

    def least(weights: object) -> float:
        WM = np.asarray(weights, dtype=float)[:, None] * M
        return float(np.linalg.eigvalsh(WM + WM.T)[0])

    assert least([1, 1, 1]) < 0
    assert least(1 / np.abs(A).sum(axis=1)) < 0
    assert least([5, 3, 6]) > 1
    prediction = predict(SignDescent(batch_size=1), A, b)
    assert prediction.determined
    run = simulate(SignDescent(batch_size=1), A, b, lambda t: 0.5 * 0.998**t, 8000, seeds=3)
    for end in run.point:
        assert float((end - prediction.point).norm()) < 1e-5


def test_rows_drawn_unequally_lower_the_residuals_weighted_by_w_p_and_not_by_w_over_p():
    # M + M' > 0, so that W = 1 will do. The rates of change of sum_i v_i |r_i| along r' = -M P s are -v' S M P s.
    A, p = np.array([[1.0, 0.5, 0.0], [-0.2, 1.0, 1.0]]), np.array([0.02, 0.98])
    M = A @ np.sign(A).T
    assert float(np.linalg.eigvalsh(M + M.T)[0]) > 0

    def rates(weights: np.ndarray) -> list[float]:
        return [float(-(weights * s) @ M @ (p * s)) for s in map(np.array, ([1, 1], [1, -1], [-1, 1], [-1, -1]))]

    assert max(rates(p)) < 0
    assert max(rates(1 / p)) > 0
    # A run of rows that are drawn so still ends where single rows do.
    rng, theta, b = np.random.default_rng(0), np.zeros(3), np.array([1.0, -2.0])
    for t in range(8000):
        i = int(rng.random() < p[1])
        theta -= 0.1 * 0.9985**t * np.sign(A[i] @ theta - b[i]) * np.sign(A[i])
    assert float(np.abs(theta - predict(SignDescent(batch_size=1), A, b).point.numpy()).max()) < 1e-5


def test_signs_of_two_equations_converge_as_far_apart_as_the_page_says():
    A, b = [[1.0, 0.3, -0.5, 0.2, 0.7], [-0.4, 1.0, 0.6, -0.8, 0.1]], [1.0, -0.5]
    run = simulate(SignDescent(), A, b, [lambda t: 0.5 * 0.98**t, lambda t: 0.05 * 0.98**t], 8000)
    assert bool(run.converged.all())
    values(run.point.abs().amax(dim=1), 0.87, 0.42, within=5e-3)
    box = np.block([[np.eye(5), -np.ones((5, 1))], [-np.eye(5), -np.ones((5, 1))]])
    best = linprog(np.r_[np.zeros(5), 1], box, np.zeros(10), np.c_[A, np.zeros(2)], b, bounds=[(None, None)] * 6)
    assert best.fun == pytest.approx(0.395, abs=5e-4)


@pytest.mark.parametrize(
    "rule",
    [
        SignDescent(),
        EpochAdam(),
        NormSteepest(L1(), "constrained"),
        NormSteepest(LInf()),
        NormSteepest(Lp(3), "constrained"),
    ],
    ids=repr,
)
def test_full_batches_find_the_only_solution_in_any_norm(rule):
    A, b = [[1.0, 2.0], [3.0, 1.0]], [1.0, 2.0]
    prediction = predict(rule, A, b)
    assert prediction.determined
    values(prediction.point, 0.6, 0.2, within=1e-12)
    for first in (0.3, 0.05):
        end = simulate(rule, A, b, lambda t, first=first: first * 0.99**t, 1000).point[0]
        values(end, 0.6, 0.2, within=1e-4)
    assert not predict(rule, [*A, [1.0, 0.0]], [*b, 7.0]).determined, "contradicting equations"


def test_groups_of_sgd_with_different_rates_are_a_preconditioner():
    first, second = (torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (1, 2))
    groups = [{"params": [first], "lr": 0.01}, {"params": [second], "lr": 0.04}]
    optimizer, A, b = torch.optim.SGD(groups, momentum=0.5), [[1.0, 0.1, 0.01], [0.0, 1.0, 2.0]], [1.0, 1.0]
    prediction = predict(optimizer, A, b)
    assert prediction.determined
    torch.testing.assert_close(prediction.point, predict(Preconditioned([1.0, 4.0, 4.0]), A, b).point)
    torch.testing.assert_close(simulate(optimizer, A, b, 0.04, 1500).point[0], prediction.point, rtol=0, atol=1e-9)
    assert not torch.allclose(prediction.point, predict(torch.optim.SGD, A, b).point, atol=1e-3)


def test_a_run_in_single_precision_from_zeros_is_certified_to_1e_5():
    generator = torch.Generator().manual_seed(0)
    A, b = torch.randn(20, 64, generator=generator), torch.randn(20, generator=generator)
    theta = torch.nn.Parameter(torch.zeros(64))
    optimizer = torch.optim.SGD([theta], lr=0.005, momentum=0.9)
    for _ in range(2000):
        optimizer.zero_grad()
        ((A @ theta - b).square().sum() / 2).backward()
        optimizer.step()
    assert certify(torch.optim.SGD, A, b, theta, tolerance=1e-5)
    aside = torch.linalg.svd(A).Vh[-1] * 1e-3
    assert not certify(torch.optim.SGD, A, b, theta + aside, tolerance=1e-5)


@pytest.mark.slow
def test_a_small_eps_drifts_to_another_point_where_the_loss_is_half_the_square():
    end = simulate(EpochAdam(eps=1e-8), [[1.0, 0.1, 0.01]], [1.0], 0.01, 400_000).point[0]
    values(end, 0.899, 0.885, 0.751, within=6e-4)
