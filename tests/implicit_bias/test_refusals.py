"""Bad input: a clear error, or a prediction that says what holds instead."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch

from steepest.errors import InvalidArgument, SteepestError
from steepest.implicit_bias import (
    Entropy,
    EpochAdam,
    GradientDescent,
    Hypentropy,
    MirrorDescent,
    NormSteepest,
    PNorm,
    Preconditioned,
    SignDescent,
    certify,
    effective_preconditioner,
    predict,
    predict_batch,
    sensitivity,
    simulate,
    survey,
    two_cycle,
)
from steepest.norms import L1, Blockwise, Spectral

A, B = [[1.0, 0.1, 0.01]], [1.0]


def live(make, dtype=torch.float64):
    """An optimizer of three numbers."""
    return make([torch.nn.Parameter(torch.zeros(3, dtype=dtype))])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: predict(GradientDescent(), [1.0, 2.0], [1.0]), "A must be a matrix"),
        (lambda: predict(GradientDescent(), np.zeros((0, 3)), []), "A must be a matrix"),
        (lambda: predict(GradientDescent(), np.zeros((2, 2, 2)), [1.0]), "predict_batch"),
        (lambda: predict(GradientDescent(), A, [1.0, 2.0]), "b must be a vector of 1"),
        (lambda: predict(GradientDescent(), A, B, theta0=[0.0]), "theta0 must be a vector of 3"),
        (lambda: predict(GradientDescent(), [[math.nan, 1.0]], B), "A must be finite"),
        (lambda: predict(GradientDescent(), A, [math.inf]), "b must be finite"),
        (lambda: predict(GradientDescent(), [["a"]], B), "A must hold numbers"),
        (lambda: predict(GradientDescent(), torch.tensor([[1j]]), B), "A must be real"),
        (lambda: predict(GradientDescent(), np.array([[1j]]), B), "A must be real"),
        (lambda: predict(GradientDescent(), [[None]], B), "A must hold numbers"),
        (lambda: predict(GradientDescent(), [["1", "2", "3"]], B), "got 'text'"),
        (lambda: predict(GradientDescent(), [[True, False]], B), "got 'True and False'"),
        (lambda: predict(GradientDescent(), torch.ones(1, 3, dtype=torch.bool), B), "got 'True and False'"),
        (lambda: predict(GradientDescent(), np.array([["2020-01-01"]], dtype="datetime64[D]"), B), "got 'dates'"),
        (lambda: GradientDescent(nesterov="no"), "nesterov must be True or False"),
        (lambda: survey(A, B, steps=2.5), "steps must be a whole number >= 0"),
        (lambda: survey(A, B, steps=math.nan), "steps must be a whole number >= 0"),
        (lambda: survey(A, B, scales=[1.0]), "scales must be a vector of 3"),
        (lambda: predict(GradientDescent(), A, B, loss=None), "loss"),
        (lambda: predict_batch(GradientDescent(), None, [B]), "A must be a stack or a list"),
        (lambda: predict_batch(GradientDescent(), [A], torch.tensor(1.0)), "b must be a stack or a list"),
        (lambda: predict(GradientDescent(), A, [0.0], loss="logistic"), "labels of the logistic loss must be -1 or 1"),
        (lambda: predict(GradientDescent(), A, B, loss="squares"), "Did you mean squared"),
        (lambda: predict(GradientDescent, A, B), "Call it"),
        (lambda: predict("adam", A, B), "rule must be one of steepest.implicit_bias"),
        (lambda: predict(torch.nn.Linear, A, B), "rule must be one of steepest.implicit_bias"),
        (lambda: predict(lambda p: torch.optim.SGD(p, lr=0.1), A, B), "functools.partial"),
        (lambda: predict(torch.optim.SGD([torch.zeros(2, requires_grad=True)]), A, B), "hold 3 numbers"),
        (lambda: predict(functools.partial(torch.optim.SGD, lr=-1.0), A, B), "Invalid learning rate"),
        (lambda: predict(MirrorDescent(Entropy()), A, B, theta0=[0.0, 1.0, 1.0]), "Start above 0"),
        (lambda: predict(MirrorDescent(Entropy()), A, B, theta0=[-1.0, 1.0, 1.0]), "is differentiable"),
        (lambda: predict(Preconditioned([1.0, 2.0]), A, B), "diagonal must be a vector of 3"),
        (lambda: predict(Preconditioned(torch.eye(2)), A, B), "D must be 3 x 3"),
        (lambda: predict(NormSteepest(Spectral(), shape=(2, 2)), A, B), "shape must have 3 entries"),
        (lambda: Preconditioned([1.0, -2.0]), "must be >= 0"),
        (lambda: Preconditioned([[1.0, 2.0], [2.0, 1.0]]), "positive definite"),
        (lambda: Preconditioned([[1.0, 2.0, 3.0]]), "positive definite"),
        (lambda: Preconditioned([math.nan]), "diagonal must be finite"),
        (lambda: Preconditioned("d"), "diagonal must hold numbers"),
        (lambda: Preconditioned(3.0), "vector or a square matrix"),
        (lambda: GradientDescent(momentum=1.0), r"momentum must be a number in \[0, 1\)"),
        (lambda: GradientDescent(momentum=math.nan), "momentum must be a number in"),
        (lambda: GradientDescent(batch_size=0), "batch_size must be a whole number"),
        (lambda: SignDescent(batch_size=1.5), "batch_size must be a whole number"),
        (lambda: SignDescent(batch_size=True), "batch_size must be a whole number"),
        (lambda: EpochAdam(schedule=0.01), "schedule must be a function"),
        (lambda: EpochAdam(eps=-1.0), "eps must be a number"),
        (lambda: MirrorDescent("entropy"), "potential must be a Potential"),
        (lambda: MirrorDescent(Entropy), "potential must be a Potential"),
        (lambda: MirrorDescent(Entropy(), momentum_on="both"), "momentum_on must be one of primal, dual"),
        (lambda: PNorm(1.0), r"p must be a number in \(1, inf\)"),
        (lambda: PNorm(math.inf), r"p must be a number in \(1, inf\)"),
        (lambda: Hypentropy(0.0), "beta must be"),
        (lambda: NormSteepest("l2"), "steepest.norms.Norm"),
        (lambda: NormSteepest(Spectral(), mode="clipped"), "mode must be one of"),
        (lambda: simulate(GradientDescent(), A, B, -0.1, 5), "finite steps >= 0"),
        (lambda: simulate(GradientDescent(), A, B, lambda _t: math.nan, 5), r"schedule\(0\) = nan"),
        (lambda: simulate(GradientDescent(), A, B, [], 5), "schedule must be a function"),
        (lambda: simulate(GradientDescent(), A, B, "fast", 5), "schedule must be a function"),
        (lambda: simulate(GradientDescent(), A, B, None, 5), "schedule must be a function"),
        (lambda: simulate(GradientDescent(), A, B, 0.1, 5, seeds="a"), "seeds must be a count"),
        (lambda: simulate(GradientDescent(), A, B, 0.1, 5, seeds=[1.5]), "seeds must be a count"),
        (lambda: simulate(GradientDescent(), A, B, 0.1, 5, seeds=[-1]), "seeds must be a count"),
        (lambda: predict(GradientDescent(), A, B).spread(steps=0), "steps must be a whole number"),
        (lambda: predict(GradientDescent(), A, B).spread(seeds=0), "seeds must be a count"),
        (lambda: predict(GradientDescent(), A, B).spread(schedules=[]), "schedule must be a function"),
        (lambda: GradientDescent(momentum="0.9"), "momentum must be a number in"),
        (lambda: EpochAdam(eps="a"), "eps must be a number"),
        (lambda: PNorm("3"), r"p must be a number in \(1, inf\)"),
        (lambda: Hypentropy("a"), "beta must be"),
        (lambda: two_cycle([[1, 2], [3, 4]], 0.01), "coefficients of one equation"),
        (lambda: two_cycle([1, 2], 0.01, b=[1, 2]), "b must be a vector of 1"),
        (lambda: predict_batch(GradientDescent(), 3, 4), "a stack or a list"),
        (lambda: predict_batch([GradientDescent()], [A, A], [B, B]), "as many rules"),
        (lambda: certify(torch.optim.SGD([torch.zeros(3, requires_grad=True)]), A, B, [0.0] * 3), "Pass theta0"),
        (lambda: simulate(GradientDescent(), A, B, 0.1, 0), "steps must be a whole number"),
        (lambda: simulate(GradientDescent(), A, B, 0.1, 2.5), "steps must be a whole number"),
        (lambda: certify(GradientDescent(), A, B, [1.0]), "theta must be a vector of 3"),
        (lambda: certify(GradientDescent(), A, B, [0.0] * 3, tolerance=0.0), r"tolerance must be a number in \(0, 1\)"),
        (lambda: predict_batch(GradientDescent(), [A, A], [B]), "as many b"),
        (lambda: sensitivity(torch.ones(2), [1.0]), "scales must be a vector of 2"),
        (lambda: sensitivity(torch.ones(2), [1.0, -1.0]), "scales must be >= 0"),
        (lambda: predict(torch.optim.Adam, A, B).sensitivity(), "a point or a direction"),
        (lambda: two_cycle([0.0, 0.0], 0.1), "not 0"),
        (lambda: two_cycle([1.0], 0.0), "above 0"),
        (lambda: two_cycle([1.0], math.inf), "lr must be finite"),
        (lambda: two_cycle([1.0], "fast"), "lr must hold numbers"),
        (lambda: two_cycle([1.0], 1e-320), "at most 1e12"),
        (lambda: two_cycle([1.0, 0.1], 1e-14), "at most 1e12"),
        (lambda: simulate(GradientDescent(), A, B, lambda _t: None, 5), "must return a number"),
        (lambda: simulate(GradientDescent(), A, B, [0.1].__getitem__, 5), "none at 1"),
        (lambda: predict(EpochAdam(schedule=lambda _t: "x"), A, B), "must return a number"),
        (
            lambda: certify(GradientDescent(), A, B, [0.0] * 3, tolerance=math.inf),
            r"tolerance must be a number in \(0, 1\)",
        ),
        (lambda: certify(GradientDescent(), A, B, [0.0] * 3, tolerance="a"), r"tolerance must be a number in \(0, 1\)"),
        (lambda: NormSteepest(Blockwise({"w": L1()})), "of one tensor"),
        (lambda: NormSteepest(Spectral(), shape=4), "tuple of sizes"),
        (lambda: NormSteepest(Spectral(), shape=(-1, -3)), "tuple of sizes"),
        (lambda: simulate(GradientDescent(), A, B, "0.1", 5), "schedule must be"),
        (lambda: simulate(GradientDescent(batch_size=1), A * 2, B * 2, 0.1, 5, seeds=[2**70]), "seeds must be"),
        (lambda: effective_preconditioner(live(torch.optim.SGD), 5), "parameters must be"),
        (lambda: predict(live(torch.optim.SGD, torch.complex64), A, B), "real numbers"),
        (lambda: predict(functools.partial(torch.optim.LBFGS, history_size=0), A, B).spread(steps=5), "at least one"),
        (lambda: predict(live(torch.optim.Adam), [[1.0, 2.0]], B, [0.0, 0.0]).spread(steps=5), "hold 2 numbers"),
        (lambda: predict(GradientDescent(), [[10**400, 1]], B), "A must hold numbers"),
        (lambda: predict(GradientDescent(), torch.empty(1, 3, device="meta"), B), "meta tensor"),
    ],
)
def test_what_is_wrong_is_said(call, says):
    with pytest.raises(InvalidArgument, match=says) as caught:
        call()
    assert isinstance(caught.value, SteepestError)


def test_an_optimizer_that_needs_more_than_parameters_says_what_to_do():
    class Needy(torch.optim.SGD):
        def __init__(self, params, horizon):
            super().__init__(params, lr=1 / horizon)

    with pytest.raises(InvalidArgument, match=r"functools\.partial"):
        predict(Needy, A, B)
    prediction = predict(functools.partial(Needy, horizon=5), A, B)
    assert not prediction.determined, "a subclass may step as it likes"


def test_contradicting_equations_have_a_least_squares_limit_for_gradient_descent_and_none_for_signs():
    rows, target = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, 1.0, 3.0]
    prediction = predict(GradientDescent(), rows, target)
    assert prediction.point.tolist() == pytest.approx([0.5, 3.0])
    assert "contradict each other" in prediction.reason
    for rule in (SignDescent(), SignDescent(batch_size=1), EpochAdam()):
        assert not predict(rule, rows, target).determined


def test_data_that_cannot_be_separated_have_a_finite_minimiser_and_no_margin():
    prediction = predict(
        GradientDescent(), [[1.0, 0.5], [1.0, 0.5], [0.0, 1.0], [0.0, 1.0]], [1, -1, 1, -1], loss="logistic"
    )
    assert prediction.direction is None
    assert prediction.point.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert "not separable" in prediction.reason


def test_a_rank_deficient_matrix_is_fine_where_the_equations_agree():
    prediction = predict(GradientDescent(), [[1.0, 1.0], [2.0, 2.0]], [1.0, 2.0])
    assert prediction.determined
    assert prediction.point.tolist() == pytest.approx([0.5, 0.5])


def test_a_largest_margin_that_several_directions_attain_is_no_direction():
    prediction = predict(SignDescent(), [[1.0, 0.0], [2.0, 0.0]], [1, 1], loss="exponential")
    assert not prediction.determined
    assert prediction.direction is None
    assert "several directions attain it" in prediction.reason
