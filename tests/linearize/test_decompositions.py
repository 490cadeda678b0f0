"""Singular values, vectors and principal features, whatever plan finds them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.linearize.architectures import dense, make
from torch import nn

from steepest.errors import InvalidArgument, SteepestError
from steepest.linearize import Linearization
from steepest.linearize import _plan as plans
from steepest.linearize import _spectrum as spectrum
from steepest.linearize._lanczos import largest_eigenpairs
from steepest.tasks import curve

PLANS = ("dense", "gram", "kernel lanczos", "lanczos")


@pytest.fixture(params=PLANS)
def plan(request, monkeypatch):
    method = request.param

    def chosen(rows, columns, k, dtype, max_bytes):
        resolution = 1e-12 if method == "dense" else 1e-7
        return plans.Plan(method, 0, resolution, "the test says so")

    monkeypatch.setattr(spectrum, "choose", chosen)
    return method


def network(*sizes, dtype=torch.float64, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(sizes[0], sizes[1]), nn.Tanh(), nn.Linear(sizes[1], sizes[2])]
        return nn.Sequential(*layers).to(dtype), torch.randn(30, sizes[0], dtype=dtype)


@pytest.mark.parametrize("sizes", [(5, 20, 2), (1, 2, 2)], ids=["wide", "tall"])
def test_every_plan_finds_the_singular_values_of_the_dense_jacobian(plan, sizes):
    model, x = network(*sizes)
    expected = torch.linalg.svdvals(dense(model, (x,)))
    k = 5
    svd = Linearization(model, x).svd(k)
    assert svd.plan.method == plan
    assert svd.singular_values.dtype == torch.float64
    assert torch.allclose(svd.singular_values, expected[:k], rtol=1e-10, atol=0)
    assert float(svd.residuals.max()) < 1e-8 * float(expected[0])


def test_triplets_and_principal_features_fit_together(plan):
    model, x = network(5, 20, 2)
    jacobian = dense(model, (x,))
    lin = Linearization(model, x)
    svd = lin.svd(4)
    right = svd.right()
    assert torch.allclose(jacobian @ right, svd.left * svd.singular_values, rtol=0, atol=1e-7)
    assert torch.allclose(right.T @ right, torch.eye(4, dtype=torch.float64), atol=1e-7)
    fresh = torch.randn(9, 5, dtype=torch.float64)
    assert torch.allclose(lin.principal_features(fresh, 4), dense(model, (fresh,)) @ right, rtol=0, atol=1e-7)
    assert torch.allclose(lin.principal_features(k=4), svd.left * svd.singular_values)
    operator = svd.right_operator
    v, c = np.random.default_rng(0).normal(size=right.shape[0]), np.arange(4.0)
    assert np.allclose(operator @ c, right.numpy() @ c)
    assert np.allclose(operator.T @ v, right.numpy().T @ v, atol=1e-7)


def test_in_float32_a_value_a_thousandth_of_the_largest_is_right_to_1e_4():
    """A float32 Gram matrix would miss it by percents."""
    model, x = network(5, 20, 2, dtype=torch.float32)
    x *= 0.1
    exact = torch.linalg.svdvals(dense(model.double(), (x.double(),)))[:20]
    assert exact[-1] < 2e-3 * exact[0]
    model.float()
    lin = Linearization(model, x, max_bytes=1 << 17)
    kernel = lin.kernel(dtype=torch.float64)
    by_gram = torch.linalg.eigvalsh(kernel).flip(0)[:20].clamp_min(0).sqrt()
    assert torch.allclose(by_gram, exact, rtol=1e-4, atol=0)
    assert torch.allclose(lin.svd(20).singular_values, exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("width", "depth"), [(10, 1), (20, 1), (40, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_rank_of_the_courses_networks_is_numpys(width, depth, dtype):
    task = curve(width, depth)
    lin = Linearization(task.build(0).to(dtype), task.train[0].to(dtype))
    svd = lin.svd()
    matrix = lin.features().numpy()
    assert svd.rank == np.linalg.matrix_rank(matrix)
    assert svd.complete
    assert svd.rank < lin.shape[1]
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    assert np.sum(values > svd.threshold) == svd.rank


def test_the_rank_is_said_to_be_a_lower_bound_where_it_is_one(monkeypatch):
    monkeypatch.setattr(spectrum, "choose", lambda *_: plans.Plan("kernel lanczos", 0, 1e-7, "the test says so"))
    lin = Linearization(*network(5, 20, 2))
    assert not lin.svd(3).complete
    assert lin.svd(3).rank == 3


def test_more_than_before_is_found_when_asked_for():
    lin = Linearization(*network(5, 20, 2))
    few, more = lin.svd(2), lin.svd(10)
    assert len(more.singular_values) == 10
    assert torch.allclose(few.singular_values, more.singular_values[:2])


@pytest.mark.parametrize("k", [0, -1, 61])
def test_singular_values_that_do_not_exist_are_refused(k):
    with pytest.raises(InvalidArgument, match="60 singular values"):
        Linearization(*network(5, 20, 2)).svd(k)


def test_directions_beyond_the_rank_are_refused():
    task = curve(10)
    lin = Linearization(task.build(0).double(), task.train[0].double())
    rank = lin.svd().rank
    lin.principal_features(task.valid[0].double(), rank)
    for ask in (lambda: lin.principal_features(task.valid[0].double(), rank + 1), lambda: lin.svd(rank + 1).right()):
        with pytest.raises(InvalidArgument, match=f"only {rank} singular values exceed the threshold"):
            ask()


def test_the_plan_follows_sizes_and_budget():
    def method(rows, columns, k, budget=1 << 32):
        return plans.choose(rows, columns, k, torch.float32, budget).method

    assert method(200, 1761, 200) == "dense"
    assert method(500, 966_801, 20) == "gram"
    assert method(10_000, 99_690, 20) == "kernel lanczos"
    assert method(100_000, 99_690, 20) == "lanczos"


@pytest.mark.parametrize("k", [5, 60])
def test_the_smallest_budget_that_is_named_does(k):
    model, x = network(5, 20, 2)
    with pytest.raises(InvalidArgument, match="must fit into max_bytes") as caught:
        Linearization(model, x, max_bytes=5000).svd(k)
    least = int(caught.value.remedy.split("max_bytes=")[1].split()[0])
    svd = Linearization(model, x, max_bytes=least).svd(k)
    assert torch.allclose(svd.singular_values, torch.linalg.svdvals(dense(model, (x,)))[:k], rtol=1e-6, atol=1e-6)
    with pytest.raises(InvalidArgument):
        Linearization(model, x, max_bytes=least - 1).svd(k)


SPECTRA = {
    "little room": (16, 2, torch.linspace(1, 0, 16)),
    "decades": (300, 20, torch.logspace(0, -6, 300)),
    "multiple and clustered": (
        300,
        10,
        torch.cat([torch.ones(5), torch.full((5,), 0.999), torch.logspace(-1, -3, 290)]),
    ),
    "slow": (400, 20, torch.arange(1, 401) ** -0.5),
    "all": (12, 12, torch.ones(12)),
    "zero": (50, 5, torch.zeros(50)),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_block_lanczos_finds_the_largest_eigenvalues(name):
    n, k, values = SPECTRA[name]
    basis = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    matrix = basis * values.double() @ basis.T
    found, vectors = largest_eigenpairs(lambda x: matrix @ x, n, k, torch.device("cpu"), 1e-12)
    expected = values.double().sort(descending=True)[0][:k]
    assert torch.allclose(found, expected, rtol=0, atol=1e-11)
    assert float((matrix @ vectors - vectors * found).norm()) < 1e-11 * math.sqrt(k)


def test_block_lanczos_says_when_it_does_not_converge():
    matrix = torch.diag(torch.linspace(1, 0.999999, 500, dtype=torch.float64))
    with pytest.raises(SteepestError, match="must converge"):
        largest_eigenpairs(lambda x: matrix @ x, 500, 10, torch.device("cpu"), 1e-15, restarts=1)


def test_scipy_and_other_libraries_can_use_it():
    from scipy.sparse.linalg import svds

    model, inputs = make("conv_misc")
    lin = Linearization(model, inputs)
    jacobian = dense(model, inputs)
    operator = lin.to_scipy()
    assert operator.shape == lin.shape == jacobian.shape
    assert np.allclose(svds(operator, k=2)[1], torch.linalg.svdvals(jacobian)[:2].flip(0).numpy())
    v, u = (
        torch.randn(jacobian.shape[1], 3, dtype=torch.float64),
        torch.randn(jacobian.shape[0], 2, dtype=torch.float64),
    )
    assert torch.allclose(lin @ v, jacobian @ v)
    assert torch.allclose(lin.adjoint() @ u, jacobian.T @ u)
    assert lin.adjoint().shape == jacobian.T.shape
    assert lin.adjoint().adjoint() is lin
