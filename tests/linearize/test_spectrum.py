"""Singular values, vectors, rank and principal features, whichever way they are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.linearize.dense import dense
from torch import nn

from steepest.errors import InvalidArgument
from steepest.linearize import Linearization
from steepest.linearize._spectrum import plan as _plan
from steepest.linearize._spectrum import svd as _spectrum

METHODS = ["dense", "gram", "kernel lanczos", "lanczos"]


def force(monkeypatch, method):
    """Let the planner choose a method whatever the sizes are, with the resolution that it gives to that method."""
    chosen = _plan.choose

    def forced(rows, columns, k, dtype, max_bytes, used):
        # What is small goes to the dense decomposition, and what is squared resolves less: that of a budget in which
        # the dense one does not fit.
        plan = chosen(rows, columns, k, dtype, max_bytes, used)
        size = max(rows, columns)
        squared = max(rows**0.5 * 2.0**-26, size**0.5 * torch.finfo(dtype).eps)
        resolution = plan.resolution if method == "dense" else squared
        return _plan.Plan(method, plan.bytes, resolution, "forced")

    monkeypatch.setattr(_spectrum, "choose", forced)


def net(inputs=3, width=12, outputs=2, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw) / p.shape[-1] ** 0.5)
    return model.to(dtype)


def points(n, size=3, seed=1, dtype=torch.float64):
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def orthonormal(rows, columns, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(rows, columns)))[0]


def with_spectrum(values, n, columns, dtype=torch.float64):
    """A linear model without a bias, the features of which are x itself, of these singular values."""
    k = len(values)
    x = torch.from_numpy(orthonormal(n, k, 0) * np.asarray(values) @ orthonormal(columns, k, 1).T).to(dtype)
    return nn.Linear(columns, 1, bias=False).to(dtype), x


def absolute(vectors):
    """Each column with the sign that makes its largest entry positive."""
    largest = vectors.abs().argmax(0)
    return vectors * vectors[largest, torch.arange(vectors.shape[1])].sign()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "width"), [(60, 40), (80, 10)])  # N < P, and P < N
def test_every_plan_finds_the_triplets_of_the_dense_decomposition(monkeypatch, method, n, width):
    force(monkeypatch, method)
    model, x = net(width=width), points(n)
    jacobian = dense(model, (x,))
    left, values, right = torch.linalg.svd(jacobian, full_matrices=False)
    lin = Linearization(model, x)
    svd = lin.svd(6)
    assert svd.plan.method == method
    torch.testing.assert_close(svd.singular_values, values[:6], rtol=1e-10, atol=0)
    torch.testing.assert_close(absolute(svd.left), absolute(left[:, :6]), rtol=0, atol=1e-7)
    torch.testing.assert_close(absolute(svd.right()), absolute(right[:6].T), rtol=0, atol=1e-7)
    assert svd.singular_values.dtype == svd.left.dtype == torch.float64
    assert (svd.singular_values.diff() <= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_residuals_are_those_of_the_triplets(monkeypatch, method):
    force(monkeypatch, method)
    model, x = net(), points(40)
    jacobian = dense(model, (x,))
    svd = Linearization(model, x).svd(6)
    true = (jacobian @ svd.right() - svd.left * svd.singular_values).norm(dim=0)
    rounding = 1e-12 * float(svd.singular_values[0])
    assert ((svd.residuals - true).abs() <= 1e-6 * true + rounding).all()
    # So each lies within its residual of a singular value, but for rounding.
    exact = torch.linalg.svdvals(jacobian)
    distances = (svd.singular_values[:, None] - exact).abs().amin(1)
    assert (distances <= svd.residuals + rounding).all()


@pytest.mark.parametrize("method", ["kernel lanczos", "lanczos"])
def test_residuals_say_so_when_lanczos_has_not_found_the_triplets(monkeypatch, method):
    force(monkeypatch, method)
    monkeypatch.setattr(_spectrum, "_ACCURACY", 0.01)
    model, x = with_spectrum(np.linspace(1, 0, 200), 200, 250)
    jacobian = dense(model, (x,))
    svd = Linearization(model, x).svd(4)
    right = jacobian.T @ svd.left / svd.singular_values
    true = (jacobian @ right - svd.left * svd.singular_values).norm(dim=0)
    assert true.max() > 1e-6
    torch.testing.assert_close(svd.residuals, true, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_principal_features_at_fresh_points_are_the_features_times_the_right_vectors(monkeypatch, method):
    force(monkeypatch, method)
    model, x, fresh = net(), points(40), points(25, seed=2)
    right = torch.linalg.svd(dense(model, (x,)), full_matrices=False)[2][:5].T
    lin = Linearization(model, x)
    found = lin.principal_features(fresh, 5)
    assert found.shape == (50, 5)
    signs = (lin.svd(5).right() * right).sum(0).sign()
    torch.testing.assert_close(found, dense(model, (fresh,)) @ right * signs, rtol=0, atol=1e-7)


@pytest.mark.parametrize("smallest", [0.1, 1e-4])
def test_principal_features_of_float32_keep_their_precision_however_small_their_singular_value(monkeypatch, smallest):
    force(monkeypatch, "gram")
    model, x = with_spectrum(np.geomspace(1, smallest, 6), 60, 80, dtype=torch.float32)
    fresh = points(50, 80, dtype=torch.float32)
    left, _, right = torch.linalg.svd(x.double(), full_matrices=False)
    lin = Linearization(model, x)
    found = lin.principal_features(fresh, 6)
    signs = (lin.svd(6).left * left[:, :6]).sum(0).sign()
    errors = (found - fresh.double() @ right[:6].T * signs).norm(dim=0) / found.norm(dim=0)
    assert lin.svd(6).kernel_dtype == (torch.float32 if smallest == 0.1 else torch.float64)
    assert errors.max() < 1e-5


def test_fresh_points_do_not_evaluate_the_examples_again(monkeypatch):
    force(monkeypatch, "gram")
    evaluated = []

    class Counted(nn.Sequential):
        def forward(self, x):
            evaluated.append(len(x))
            return super().forward(x)

    lin = Linearization(Counted(*net()), points(40))
    fresh = points(25, seed=2)
    lin.svd(5)
    for use in (lambda: lin.principal_features(fresh, 5), lambda: lin.kernel(fresh, lin.inputs())):
        evaluated.clear()
        use()
        assert set(evaluated) == {25}
    evaluated.clear()
    torch.testing.assert_close(lin.kernel(None, lin.inputs()), lin.kernel())
    torch.testing.assert_close(lin.kernel(lin.inputs()), lin.kernel(lin.inputs(), lin.inputs()))
    assert not evaluated


def test_a_decomposition_prints_what_was_found_and_not_its_vectors(monkeypatch):
    force(monkeypatch, "gram")
    lin = Linearization(net(), points(40))
    assert repr(lin.svd(5)).startswith("SVD(5 triplets of 80 x 74: ")
    assert "; rank " in repr(lin.svd(5))
    assert len(repr(lin.svd(5))) < 200


@pytest.mark.parametrize("method", METHODS)
def test_principal_features_at_the_examples_are_the_left_vectors_times_the_singular_values(monkeypatch, method):
    force(monkeypatch, method)
    lin = Linearization(net(), points(40))
    svd = lin.svd(5)
    torch.testing.assert_close(lin.principal_features(k=5), svd.left * svd.singular_values)
    torch.testing.assert_close(lin.principal_features(points(40), 5), lin.principal_features(k=5), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_right_operator_is_the_right_vectors(monkeypatch, method):
    force(monkeypatch, method)
    svd = Linearization(net(), points(40)).svd(4)
    right, operator = svd.right().numpy(), svd.right_operator
    c, v = np.arange(1.0, 5.0), points(1, right.shape[0])[0].numpy()
    assert operator.shape == right.shape
    np.testing.assert_allclose(operator @ c, right @ c, rtol=0, atol=1e-9)
    np.testing.assert_allclose(operator.T @ v, right.T @ v, rtol=0, atol=1e-9)
    np.testing.assert_allclose(operator @ np.eye(4), right, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_twentieth_value_that_is_small_is_found_as_well(monkeypatch, method, dtype):
    force(monkeypatch, method)
    values = np.geomspace(1, 1e-3, 20).tolist() + np.geomspace(5e-4, 1e-5, 10).tolist()
    model, x = with_spectrum(values, 240, 300, dtype)
    lin = Linearization(model, x)
    reference = np.linalg.svd(lin.features().double().numpy(), compute_uv=False)
    svd = lin.svd(20)
    rtol = 1e-4 if dtype == torch.float32 else 1e-10
    np.testing.assert_allclose(svd.singular_values.numpy(), reference[:20], rtol=rtol, atol=0)
    assert svd.plan.method == method
    assert reference[19] / reference[0] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "columns"), [(64, 90), (90, 64)])
def test_the_rank_of_a_rank_deficient_jacobian_is_counted(monkeypatch, method, n, columns):
    force(monkeypatch, method)
    model, x = with_spectrum([5.0, 4.0, 3.0, 2.0, 1.0], n, columns)
    svd = Linearization(model, x).svd(8)
    assert svd.rank == np.linalg.matrix_rank(x.numpy()) == 5
    assert svd.complete
    assert svd.threshold == svd.plan.resolution * float(svd.singular_values[0])
    assert (svd.singular_values[5:] <= svd.threshold).all()
    torch.testing.assert_close(svd.left.T @ svd.left, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-10)


def test_residuals_of_null_directions_are_at_most_of_the_size_of_the_threshold(monkeypatch):
    force(monkeypatch, "gram")
    model, x = with_spectrum([5.0, 4.0, 3.0, 2.0, 1.0], 64, 90)
    svd = Linearization(model, x).svd()
    assert (svd.residuals[:5] <= 1e-12).all()
    assert (svd.residuals[5:] <= 10 * svd.threshold).all()


@pytest.mark.parametrize("method", ["kernel lanczos", "lanczos"])
def test_a_rank_below_one_block_and_examples_without_features_do_no_harm(monkeypatch, method):
    force(monkeypatch, method)
    x = torch.zeros(80, 70, dtype=torch.float64)
    x[3, 5], x[10, 6], x[11, 7] = 3.0, 2.0, 1.0
    svd = Linearization(nn.Linear(70, 1, bias=False).double(), x).svd(6)
    torch.testing.assert_close(svd.singular_values[:3], torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    assert svd.rank == 3
    torch.testing.assert_close(svd.left.T @ svd.left, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "values",
    [
        [3.0] * 6 + [2.0] * 5 + [1.0] * 20,
        [1.0] * 40,
        [1 + 1e-9 * i for i in range(12, 0, -1)] + [0.5 + 1e-6 * i for i in range(12, 0, -1)],
    ],
    ids=["multiple", "all equal", "clustered"],
)
def test_multiple_and_clustered_singular_values_are_all_found(monkeypatch, method, values):
    force(monkeypatch, method)
    model, x = with_spectrum(values, 100, 120)
    svd = Linearization(model, x).svd(10)
    torch.testing.assert_close(svd.singular_values, torch.tensor(values[:10], dtype=torch.float64), rtol=1e-10, atol=0)
    # Vectors are determined only as a whole: they are orthonormal, and J' maps them to vectors of these lengths.
    torch.testing.assert_close(svd.left.T @ svd.left, torch.eye(10, dtype=torch.float64), rtol=0, atol=1e-10)
    assert (svd.residuals <= 1e-5).all()


def test_float32_sees_the_rank_that_its_precision_lets_it_see():
    values = [1.0, 0.5, 1e-3, 1e-9, 1e-11]
    for dtype, rank in ((torch.float64, 5), (torch.float32, 3)):
        model, x = with_spectrum(values, 30, 40, dtype)
        svd = Linearization(model, x).svd()
        assert svd.plan.method == "dense"
        assert svd.rank == np.linalg.matrix_rank(x.numpy()) == rank
        eps = torch.finfo(dtype).eps
        assert svd.threshold == pytest.approx(40 * eps * float(svd.singular_values[0]))


@pytest.mark.parametrize("method", METHODS)
def test_asking_for_more_after_a_few_gives_what_asking_at_once_gives(monkeypatch, method):
    force(monkeypatch, method)
    model, x = net(), points(60)
    few_first, at_once = Linearization(model, x), Linearization(model, x)
    few = few_first.svd(2)
    more, expected = few_first.svd(12), at_once.svd(12)
    assert len(few.singular_values) == 2
    torch.testing.assert_close(more.singular_values, expected.singular_values, rtol=1e-10, atol=0)
    torch.testing.assert_close(absolute(more.left), absolute(expected.left), rtol=0, atol=1e-6)
    assert more.residuals.isfinite().all()
    torch.testing.assert_close(more.residuals, expected.residuals, rtol=0, atol=1e-9)
    torch.testing.assert_close(few_first.svd(2).singular_values, few.singular_values)


@pytest.mark.parametrize("method", ["kernel lanczos", "lanczos"])
def test_a_rank_of_which_all_k_exceed_the_threshold_is_a_lower_bound_and_said_to_be_one(monkeypatch, method):
    force(monkeypatch, method)
    model, x = with_spectrum([5.0, 4.0, 3.0, 2.0, 1.0], 64, 90)
    lin = Linearization(model, x)
    few = lin.svd(3)
    assert (few.rank, few.complete) == (3, False)
    all_of_them = lin.svd(7)
    assert (all_of_them.rank, all_of_them.complete) == (5, True)


def test_the_whole_spectrum_is_complete():
    model, x = net(), points(20)
    svd = Linearization(model, x).svd()
    assert svd.complete
    assert len(svd.singular_values) == min(40, 74)
    assert svd.rank == np.linalg.matrix_rank(dense(model, (x,)).numpy())


def test_a_jacobian_of_zeros_has_rank_zero():
    lin = Linearization(nn.Linear(4, 1, bias=False), torch.zeros(6, 4))
    svd = lin.svd()
    assert svd.rank == 0
    assert not svd.singular_values.any()
    with pytest.raises(InvalidArgument, match="only 0 singular values exceed the threshold"):
        svd.right()


@pytest.mark.parametrize("method", METHODS)
def test_directions_beyond_the_rank_are_refused(monkeypatch, method):
    force(monkeypatch, method)
    model, x = with_spectrum([3.0, 2.0, 1.0], 64, 90)
    lin = Linearization(model, x)
    for use in (
        lambda: lin.principal_features(k=4),
        lambda: lin.principal_features(x, 4),
        lambda: lin.svd(4).right(),
        lambda: lin.svd(4).right_operator,
    ):
        with pytest.raises(InvalidArgument, match=r"only 3 singular values exceed .* \(got 4\). Ask for k <= 3"):
            use()


@pytest.mark.parametrize("k", [0, -1, 41])
def test_k_outside_of_what_a_matrix_has_is_refused(k):
    with pytest.raises(InvalidArgument, match="Ask for k from 1 to 40"):
        Linearization(net(), points(20)).svd(k)


def test_principal_features_default_to_the_numerical_rank():
    model, x = with_spectrum([3.0, 2.0, 1.0], 30, 40)
    assert Linearization(model, x).principal_features(x[:4]).shape == (4, 3)


def test_right_vectors_that_do_not_fit_are_refused_while_the_operator_works():
    model, x = with_spectrum([3.0, 2.0, 1.0], 16, 20_000)
    needed = 20_000 * 3 * 8
    svd = Linearization(model, x, max_bytes=needed - 1).svd(3)
    with pytest.raises(InvalidArgument, match=f"Pass max_bytes={needed} or more"):
        svd.right()
    operator = svd.right_operator
    matrix = Linearization(model, x, max_bytes=needed * 40).svd(3).right().numpy()
    found = operator @ np.eye(3)
    np.testing.assert_allclose(found * np.sign((found * matrix).sum(0)), matrix, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("rows", "columns", "k", "max_bytes", "method"),
    [
        (200, 121, 20, 1 << 32, "dense"),
        (200, 1761, 200, 1 << 32, "dense"),
        (500, 966_801, 20, 1 << 32, "gram"),
        (1000, 99_690, 1000, 1 << 32, "gram"),
        (2000, 10_000_000, 20, 1 << 30, "gram"),
        (10_000, 99_690, 20, 1 << 32, "kernel lanczos"),
        (100_000, 99_690, 20, 1 << 32, "lanczos"),
    ],
)
def test_the_planner_goes_by_sizes_and_budget_and_says_so(rows, columns, k, max_bytes, method):
    plan = _plan.choose(rows, columns, k, torch.float32, max_bytes)
    assert plan.method == method
    assert plan.bytes <= max_bytes
    assert str(plan).startswith(method)
    assert str(rows) in str(plan)


@pytest.mark.parametrize(
    ("rows", "columns", "k"),
    [(200, 121, 20), (200, 100_000, 200), (5000, 1_000_000, 20), (100_000, 1000, 20), (100_000, 210, 210), (9, 5, 5)],
)
def test_the_smallest_budget_that_would_do_does(rows, columns, k):
    with pytest.raises(InvalidArgument) as refused:
        _plan.choose(rows, columns, k, torch.float32, 1)
    least = int(str(refused.value).split("max_bytes=")[1].split()[0])
    assert _plan.choose(rows, columns, k, torch.float32, least).bytes <= least
    with pytest.raises(InvalidArgument, match=f"Pass max_bytes={least} or more"):
        _plan.choose(rows, columns, k, torch.float32, least - 1)


@pytest.mark.parametrize(
    ("n", "columns", "k"), [(32, 300, 2), (400, 40, 4), (24, 300, None)], ids=["wide", "tall", "all"]
)
def test_smaller_budgets_give_the_same_singular_values(n, columns, k):
    model, x = with_spectrum(np.geomspace(1, 1e-2, 12), n, columns)
    largest = Linearization(model, x).svd(k)
    assert largest.plan.method == "dense"
    with pytest.raises(InvalidArgument) as refused:
        Linearization(model, x, max_bytes=64).svd(k)
    least = int(str(refused.value).split("max_bytes=")[1].split()[0])
    smallest = Linearization(model, x, max_bytes=least).svd(k)
    assert smallest.plan.method != "dense" or n > columns
    assert smallest.plan.bytes <= least
    count = min(12, len(smallest.singular_values))
    torch.testing.assert_close(smallest.singular_values[:count], largest.singular_values[:count], rtol=1e-9, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_examples_in_chunks_give_the_same_spectrum(monkeypatch, method):
    force(monkeypatch, method)
    model, x = net(width=40), points(150)
    whole, parts = Linearization(model, x), Linearization(model, x, max_bytes=1_000_000)
    calls = []
    true = parts._jacobian._unchecked
    monkeypatch.setattr(
        parts._jacobian, "_unchecked", lambda some, structure: calls.append(len(some[0])) or true(some, structure)
    )
    found, expected = parts.svd(6), whole.svd(6)
    assert len(calls) > 1
    assert max(calls) < 150
    torch.testing.assert_close(found.singular_values, expected.singular_values, rtol=1e-10, atol=0)
    torch.testing.assert_close(absolute(found.right()), absolute(expected.right()), rtol=0, atol=1e-7)
