"""Alignment, effective rank, and how far a kernel has moved."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tests.linearize.dense import dense
from torch import nn

from steepest.errors import InvalidArgument, SteepestError
from steepest.linearize import Linearization, compare_linearizations


def net(width=8, outputs=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, outputs)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw, dtype=torch.float64) / p.shape[-1] ** 0.5)
    return model


def points(n, *sizes, seed=1):
    return torch.randn(n, *(sizes or (3,)), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rank_two(n=8, columns=12):
    """A linear model whose features have rank 2."""
    return nn.Linear(columns, 1, bias=False).double(), points(n, 2) @ points(2, columns, seed=2)


@pytest.mark.parametrize("width", [8, 2])  # N < P, and P < N
def test_alignment_is_that_of_its_definition(width):
    model, x, y = net(width), points(15), points(15, 2, seed=3)
    jacobian, target = dense(model, (x,)), y.flatten()
    kernel = jacobian @ jacobian.T
    alignment = Linearization(model, x).alignment(y)
    expected = float(target @ kernel @ target) / (float(kernel.norm()) * float(target @ target))
    assert alignment.value == pytest.approx(expected, rel=1e-10)
    left, values, _ = torch.linalg.svd(jacobian, full_matrices=False)
    torch.testing.assert_close(alignment.singular_values, values)
    torch.testing.assert_close(alignment.shares[:4], (left.T @ target).square()[:4] / target.square().sum())


def test_a_singular_vector_is_aligned_by_its_share_of_the_kernel():
    model, x = net(), points(10)
    svd = Linearization(model, x).svd()
    alignment = Linearization(model, x).alignment(svd.left[:, 1])
    squares = svd.singular_values**2
    assert alignment.value == pytest.approx(float(squares[1] / squares.norm()), rel=1e-10)
    expected = torch.zeros(20, dtype=torch.float64)
    expected[1] = 1
    torch.testing.assert_close(alignment.shares, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("n", "columns"), [(8, 12), (20, 12)])
def test_the_shares_sum_to_what_the_features_can_represent(n, columns):
    model, x = rank_two(n, columns)
    target = points(n, seed=4)[:, 0]
    best = torch.linalg.lstsq(x, target[:, None], driver="gelsd").solution
    represented = float((x @ best).square().sum() / target.square().sum())
    assert represented < 0.9
    assert float(Linearization(model, x).alignment(target).shares.sum()) == pytest.approx(represented)


def test_a_target_to_align_with_is_finite_of_the_right_length_and_not_zero():
    lin = Linearization(net(), points(5))
    for y, says in (
        (torch.zeros(5, 2), "y must not be zero"),
        (torch.ones(5), "5 x 2 outputs"),
        (torch.full((5, 2), math.inf), "finite"),
        (torch.zeros(5, 2, dtype=torch.complex64), "5 x 2 outputs"),
        (["a"] * 10, "5 x 2 outputs"),
        (None, "5 x 2 outputs"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            lin.alignment(y)


@pytest.mark.parametrize("width", [8, 2])
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 1e3])
def test_effective_rank_is_the_trace_of_the_ridge_smoother(width, ridge):
    model, x = net(width), points(15)
    jacobian = dense(model, (x,))
    kernel = jacobian @ jacobian.T
    smoother = torch.linalg.solve(kernel + ridge * torch.eye(30, dtype=torch.float64), kernel)
    assert Linearization(model, x).effective_rank(ridge) == pytest.approx(float(smoother.trace()), rel=1e-8)


def test_effective_rank_lies_between_zero_and_the_rank():
    model, x = rank_two()
    lin = Linearization(model, x)
    small, large = lin.effective_rank(1e-10), lin.effective_rank(1e10)
    assert small == pytest.approx(2, abs=1e-8)
    assert 0 < large < 1e-6


@pytest.mark.parametrize("ridge", [0.0, -1.0, math.nan, math.inf, None, True, "1", 1j])
def test_effective_rank_takes_a_positive_ridge(ridge):
    with pytest.raises(InvalidArgument, match="ridge must be a number in"):
        Linearization(net(), points(5)).effective_rank(ridge)


@pytest.mark.parametrize("k", [None, 3])
def test_a_model_that_has_not_moved_is_exactly_lazy(k):
    model, x = net(), points(10)
    change = compare_linearizations(Linearization(model, x), Linearization(copy.deepcopy(model), x), k)
    assert change.kernel_change == 0
    assert change.parameter_change == 0
    assert change.kernel_alignment == pytest.approx(1, abs=1e-14)
    assert change.subspace_overlap == pytest.approx(1, abs=1e-12)
    assert change.regime == "lazy"
    assert change.k == (k or 10)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_scaling_the_last_layer_scales_the_kernel_of_those_below(factor):
    model, x = net(), points(10)
    before = Linearization(model, x)
    jacobian = dense(model, (x,))
    first = before.labels.columns("0.weight").start, before.labels.columns("0.bias").stop
    below = jacobian[:, first[0] : first[1]] @ jacobian[:, first[0] : first[1]].T
    kernel = jacobian @ jacobian.T
    weight = model[2].weight.detach().clone()
    size = sum(float(p.detach().square().sum()) for p in model.parameters()) ** 0.5
    with torch.no_grad():
        model[2].weight.mul_(factor)
    change = compare_linearizations(before, Linearization(model, x))
    other = kernel + (factor**2 - 1) * below
    assert change.kernel_change == pytest.approx(abs(factor**2 - 1) * float(below.norm() / kernel.norm()), rel=1e-9)
    alignment = float((kernel * other).sum() / (kernel.norm() * other.norm()))
    assert change.kernel_alignment == pytest.approx(alignment, rel=1e-9)
    assert change.parameter_change == pytest.approx(abs(factor - 1) * float(weight.norm()) / size, rel=1e-9)
    assert change.regime == ("feature learning" if change.kernel_change > 0.5 else "between")


def test_the_overlap_is_the_mean_squared_cosine_of_the_principal_angles():
    before, after = net(seed=0), net(seed=5)
    x = points(10)
    first, second = (torch.linalg.svd(dense(m, (x,)), full_matrices=False)[0][:, :4] for m in (before, after))
    cosines = torch.linalg.svdvals(first.T @ second)
    change = compare_linearizations(Linearization(before, x), Linearization(after, x), 4)
    assert change.subspace_overlap == pytest.approx(float(cosines.square().mean()), rel=1e-9)
    assert 0.01 < change.subspace_overlap < 0.99


def test_a_change_is_measured_from_before():
    x = points(10)
    one, other = Linearization(net(seed=0), x), Linearization(net(seed=5), x)
    there, back = compare_linearizations(one, other, 4), compare_linearizations(other, one, 4)
    assert there.kernel_alignment == pytest.approx(back.kernel_alignment)
    assert there.subspace_overlap == pytest.approx(back.subspace_overlap)
    sizes = float(one.kernel().norm()), float(other.kernel().norm())
    assert there.kernel_change * sizes[0] == pytest.approx(back.kernel_change * sizes[1])


class NeuralTangent(nn.Module):
    """Two layers in the NTK parametrisation: standard normal weights, divided by the root of their width."""

    def __init__(self, width, seed):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.hidden = nn.Parameter(torch.randn(width, 3, generator=draw, dtype=torch.float64))
        self.last = nn.Parameter(torch.randn(1, width, generator=draw, dtype=torch.float64))

    def forward(self, x):
        return torch.tanh(x @ self.hidden.T / 3**0.5) @ self.last.T / len(self.hidden) ** 0.5


def test_wide_networks_move_less_than_narrow_ones():
    x, y = points(12), points(12, 1, seed=7)

    def after_training(width, seed):
        model = NeuralTangent(width, seed)
        before = Linearization(model, x)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(100):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        return compare_linearizations(before, Linearization(model, x), 3)

    changes = {width: [after_training(width, seed) for seed in range(3)] for width in (8, 128, 2048)}
    for measure in ("kernel_change", "parameter_change"):
        means = [sum(getattr(c, measure) for c in of_width) / 3 for of_width in changes.values()]
        assert means[0] > 2 * means[1] > 4 * means[2]
    assert all(c.regime == "lazy" for c in changes[2048])
    assert all(c.kernel_alignment > 0.99 for c in changes[2048])


def test_linearizations_that_do_not_belong_together_are_refused():
    model, x = net(), points(10)
    lin = Linearization(model, x)
    others = {
        "another number of examples": Linearization(model, points(9)),
        "another width": Linearization(net(width=9), x),
        "other names": Linearization(nn.Sequential(nn.Identity(), *net()), x),
        "some parameters": Linearization(model, x, outputs=[0]),
    }
    for other in others.values():
        with pytest.raises(InvalidArgument, match="at the same examples and parameters"):
            compare_linearizations(lin, other)


def test_other_examples_of_the_same_number_are_refused():
    model = net()
    with pytest.raises(InvalidArgument, match="at the same examples"):
        compare_linearizations(Linearization(model, points(10)), Linearization(model, points(10, seed=9)))


def test_parameters_of_the_same_names_and_number_but_other_shapes_are_refused():
    class Written(nn.Module):
        def __init__(self, shape):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(shape, dtype=torch.float64))

        def forward(self, x):
            return x * self.weight.sum()

    pair = [Linearization(Written(shape), points(4, 1)) for shape in ((4, 1), (1, 4))]
    with pytest.raises(InvalidArgument, match="parameters"):
        compare_linearizations(*pair)


@pytest.mark.parametrize("k", [0, 3, 100])
def test_directions_that_one_of_them_does_not_have_are_refused(k):
    model, x = rank_two()
    lin = Linearization(model, x)
    with pytest.raises(SteepestError, match="Ask for k"):
        compare_linearizations(lin, lin, k)


def test_a_linear_model_is_lazy_however_far_its_parameters_move():
    model, x = nn.Linear(3, 1, bias=False).double(), points(6)
    lin = Linearization(model, x)
    with torch.no_grad():
        model.weight.mul_(2)
    change = compare_linearizations(lin, Linearization(model, x))
    assert (change.kernel_change, change.regime) == (0, "lazy")
    assert change.parameter_change == pytest.approx(1)


@pytest.mark.parametrize("k", [10, None])
def test_ten_directions_need_no_more_memory_than_ten_directions(k):
    model, x = nn.Linear(300, 1, bias=False).double(), points(200, 300)
    lin = Linearization(model, x, max_bytes=8 * 200 * 200 + 8 * 200 * 2 * 6 * 18)
    assert compare_linearizations(lin, lin, k).k == 10


def test_a_kernel_that_is_scaled_is_aligned_but_has_changed():
    model = nn.Sequential(nn.Tanh(), nn.Linear(3, 2, bias=False)).double()
    before, after = (Linearization(model, points(10), outputs) for outputs in (None, lambda out: 2 * out))
    change = compare_linearizations(before, after)
    assert change.kernel_alignment == pytest.approx(1)
    assert change.kernel_change == pytest.approx(3)
    assert change.regime == "feature learning"
