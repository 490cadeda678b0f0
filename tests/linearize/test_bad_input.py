"""What cannot be linearised is refused, with the reason."""

from __future__ import annotations

import re

import pytest
import torch
from tests.linearize.architectures import Written, dense
from torch import nn

from steepest.errors import InvalidArgument, SteepestError, UnknownName
from steepest.linearize import Linearization, LinearizationMismatch
from steepest.linearize import _factorize as factorization
from steepest.linearize._factors import Outer

X = torch.linspace(-1, 1, 12).view(4, 3)


def frozen():
    return nn.Linear(3, 2).requires_grad_(False)


REFUSED = {
    "no trainable parameter": (frozen, X, "parameters that require gradients"),
    "no module": (lambda: torch.sin, X, "torch.nn.Module"),
    "wrong shape": (lambda: nn.Linear(4, 2), X, "must take x, examples of shapes (3,)"),
    "wrong dtype": (lambda: nn.Linear(3, 2), X.double(), "must take x"),
    "no examples": (lambda: nn.Linear(3, 2), X[:0], "At least one example"),
    "no tensor": (lambda: nn.Linear(3, 2), [1.0, 2.0], "tensor whose first dimension counts the examples"),
    "NaN": (lambda: nn.Linear(3, 2), X * float("nan"), "outputs are finite"),
    "dropout": (lambda: nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), X, "dropout is on"),
    "attention's dropout": (
        lambda: Written(lambda s, x: s.m(x, x, x)[0], m=nn.MultiheadAttention(3, 1, dropout=0.1)), X[:, None], "dropout"
    ),
    "batch statistics": (lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), X, "BatchNorm in training mode"),
    "classes": (lambda: Written(lambda s, x: s.l(x).argmax(1), l=nn.Linear(3, 2)), X, "differentiable"),
    "detached": (lambda: Written(lambda s, x: s.l(x).detach(), l=nn.Linear(3, 2)), X, "without a gradient"),
    "one number": (lambda: Written(lambda s, x: s.l(x).sum(), l=nn.Linear(3, 2)), X, "counts the 4 examples"),
    "text": (lambda: Written(lambda *_: "yes", l=nn.Linear(3, 2)), X, "a model returns a tensor"),
    "noise": (lambda: Written(lambda s, x: s.l(x) + torch.randn(4, 2), l=nn.Linear(3, 2)), X, "same outputs whenever"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_the_reason(name):
    make, x, reason = REFUSED[name]
    with torch.random.fork_rng(), pytest.raises(SteepestError, match=re.escape(reason)):
        Linearization(make(), x)


def test_a_seed_fixes_one_draw_of_the_dropout(rng_untouched):
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.PReLU(), nn.Linear(8, 2)).double()
    x = X.double()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = dense(model, (x,))
    with rng_untouched():
        lin = Linearization(model, x, seed=7)
        assert torch.allclose(lin.features(), expected)
        assert torch.allclose(lin.features(x.clone()), expected)
        assert torch.allclose(lin.kernel(), expected @ expected.T)


@pytest.mark.parametrize("outputs", [2, -1, [0, 5], []])
def test_outputs_that_do_not_exist_are_refused(outputs):
    with pytest.raises(InvalidArgument, match="numbers from 0 to 1"):
        Linearization(nn.Linear(3, 2), X, outputs)


def test_outputs_are_chosen_by_number_or_by_a_function():
    model = nn.Linear(3, 2)
    whole = dense(model, (X,)).view(4, 2, -1)
    assert torch.allclose(Linearization(model, X, 1).features(), whole[:, 1])
    assert torch.allclose(Linearization(model, X, [1, 0]).features(), whole.flip(1).flatten(0, 1))
    assert torch.allclose(Linearization(model, X, lambda out: out.sum(1)).features(), whole.sum(1))


def test_a_parameter_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean weight"):
        Linearization(nn.Linear(3, 2), X).features(parameters="wieght")


@pytest.mark.parametrize("max_bytes", [0, -1])
def test_a_budget_is_positive(max_bytes):
    with pytest.raises(InvalidArgument, match="max_bytes is positive"):
        Linearization(nn.Linear(3, 2), X, max_bytes=max_bytes)


def test_a_matrix_over_the_budget_is_refused_with_what_would_do():
    lin = Linearization(nn.Linear(3, 2), X, max_bytes=200)
    with pytest.raises(InvalidArgument, match="max_bytes=256"):
        lin.features()
    with pytest.raises(InvalidArgument, match="max_bytes=256"):
        lin.kernel()
    assert Linearization(nn.Linear(3, 2), X, max_bytes=256).features().shape == (8, 8)


def test_a_wrong_rule_is_found_by_the_probe(monkeypatch):
    true = Outer.rmatvec

    def wrong(self, u, out, add):
        true(self, 1.01 * u, out, add)

    monkeypatch.setattr(Outer, "rmatvec", wrong)
    with pytest.raises(LinearizationMismatch, match=r"(weight|bias) \(linear\) must agree with plain autograd"):
        Linearization(nn.Linear(3, 2), X)
    Linearization(nn.Linear(3, 2), X, check=False)


def test_a_rule_that_takes_the_wrong_input_is_found_by_the_probe(monkeypatch):
    from steepest.linearize._rules import _linear

    true = _linear.positions_last
    monkeypatch.setattr(_linear, "positions_last", lambda x, layout, n: true(x.flip(0), layout, n))
    assert factorization.RULES
    with pytest.raises(LinearizationMismatch):
        Linearization(nn.Linear(3, 2), X)


@pytest.mark.parametrize(
    "options",
    [{"t": []}, {"t": [-1.0]}, {"t": [0.5], "lr": 0.1}, {"t": [1], "lr": 0.0}, {"t": [1], "lr": float("inf")},
     {"t": ["a"]}, {"t": None}, {"t": [1], "y": None}, {"t": [1], "k": 2.0},
     {"t": [1], "reduction": "none"}, {"t": [1], "y": torch.zeros(3)}, {"t": [1], "y": torch.full((4, 2), torch.nan)}],
)  # fmt: skip
def test_trajectories_outside_of_their_range_are_refused(options):
    lin = Linearization(nn.Linear(3, 2), X)
    with pytest.raises(InvalidArgument):
        lin.trajectory(**{"y": torch.zeros(4, 2), **options})


def test_vectors_of_the_wrong_length_are_refused():
    lin = Linearization(nn.Linear(3, 2), X)
    with pytest.raises(InvalidArgument, match="length P = 8"):
        lin.matvec(torch.zeros(7))
    with pytest.raises(InvalidArgument, match="length N = 8"):
        lin.rmatvec(torch.zeros(2, 2, 2))
    with pytest.raises(InvalidArgument, match="ridge is positive"):
        lin.effective_rank(0)
    for k in (0, 9, 2.0, True, "2"):
        with pytest.raises(InvalidArgument, match="8 x 8 Jacobian has 8 singular values"):
            lin.svd(k)
    for y in (None, ["a"], torch.zeros(4, 2, dtype=torch.complex64)):
        with pytest.raises(InvalidArgument, match="a finite number for each"):
            lin.alignment(y)
    with pytest.raises(InvalidArgument, match="not zero"):
        lin.alignment(torch.zeros(4, 2))
    with pytest.raises(InvalidArgument, match="takes 1 inputs"):
        lin.features((X, X))


def test_labels_name_every_column():
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))
    labels = Linearization(model, X).labels
    assert len(labels) == 11
    assert [(label.parameter, label.index, label.layer) for label in labels[5:9]] == [
        ("0.weight", 5, "0"), ("0.bias", 0, "0"), ("0.bias", 1, "0"), ("2.weight", 0, "2")
    ]  # fmt: skip
    assert labels[-1] == list(labels)[-1]
    assert labels.columns("2.weight") == slice(8, 10)
    with pytest.raises(IndexError):
        labels[11]
    with pytest.raises(UnknownName):
        labels.columns("1.weight")
