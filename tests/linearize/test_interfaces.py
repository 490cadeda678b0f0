"""A linearization as a matrix: for torch, for scipy, by name, and checked by a probe."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator, lsqr, svds
from tests.linearize.dense import dense
from torch import nn

from steepest.errors import InvalidArgument
from steepest.linearize import Label, Linearization


def net(dtype=torch.float64, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 2))
    return model.to(dtype)


def points(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def made(dtype=torch.float64, n=7):
    model, x = net(dtype), points(n, 3, dtype=dtype)
    return Linearization(model, x), dense(model, (x,))


def test_sizes_are_those_of_the_feature_matrix():
    lin, jacobian = made()
    assert lin.shape == tuple(jacobian.shape) == (14, 50)
    assert (lin.examples, lin.outputs) == (7, 2)
    assert (lin.dtype, lin.device) == (torch.float64, torch.device("cpu"))
    assert lin.adjoint().shape == (50, 14)
    assert repr(lin) == "Linearization(14 x 50, 7 examples x 2 outputs)"


@pytest.mark.parametrize("n", [7, 3000])
@pytest.mark.parametrize("parameters", [None, "3.weight", ["2.bias", "0.weight"], []], ids=str)
def test_features_are_written_into_a_matrix_that_is_given(n, parameters):
    lin, _ = made()
    x = points(n, 3, seed=5)
    expected = lin.features(x, parameters)
    out = torch.full_like(expected, torch.nan)
    found = lin.features(x, parameters, out=out)
    assert found.data_ptr() == out.data_ptr()
    assert found.shape == out.shape
    assert torch.equal(out, expected)


def test_features_in_parts_are_written_into_a_matrix_that_is_given():
    model, x = net(), points(200, 3)
    out = torch.full((400, 50), torch.nan, dtype=torch.float64)
    Linearization(model, x, max_bytes=100_000).features(out=out)
    assert torch.allclose(out, dense(model, (x,)))


@pytest.mark.parametrize(
    "out",
    [
        torch.empty(14, 49, dtype=torch.float64),
        torch.empty(7, 2, 50, dtype=torch.float64),
        torch.empty(14, 50),
        torch.empty(50, 14, dtype=torch.float64).T,
        torch.empty(14, 50, dtype=torch.float64, requires_grad=True),
        torch.empty(14, 50, dtype=torch.float64, device="meta"),
        np.empty((14, 50)),
    ],
    ids=["narrow", "in three axes", "float32", "transposed", "with gradients", "elsewhere", "an array"],
)
def test_features_are_written_into_no_other_tensor(out):
    with pytest.raises(InvalidArgument, match=r"out must be a contiguous tensor, torch.float64 \(14, 50\) on cpu"):
        made()[0].features(out=out)


def test_products_are_those_of_the_matrix():
    lin, jacobian = made()
    v, u, many, others = points(50), points(14), points(50, 3), points(14, 4)
    for found, expected in (
        (lin.matvec(v), jacobian @ v),
        (lin.rmatvec(u), jacobian.T @ u),
        (lin.matvec(many), jacobian @ many),
        (lin.rmatvec(others), jacobian.T @ others),
        (lin @ v, jacobian @ v),
        (lin @ many, jacobian @ many),
        (lin.adjoint() @ u, jacobian.T @ u),
        (lin.adjoint() @ others, jacobian.T @ others),
        (lin @ points(50, 0), jacobian @ points(50, 0)),
    ):
        torch.testing.assert_close(found, expected)
    assert lin.adjoint().adjoint() is lin


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_with_the_adjoint_are_adjoint(dtype):
    lin, _ = made(dtype)
    u, v = points(14, seed=2, dtype=dtype), points(50, seed=3, dtype=dtype)
    size = float((lin @ v).norm() * u.norm())
    assert abs(float(u @ (lin @ v)) - float((lin.adjoint() @ u) @ v)) <= 10 * torch.finfo(dtype).eps * size


def test_vectors_of_another_precision_are_taken():
    lin, jacobian = made(torch.float32)
    v = points(50)
    found = lin @ v
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), jacobian.double() @ v, rtol=1e-5, atol=1e-5)


def test_products_carry_no_graph():
    lin, _ = made()
    assert not (lin @ points(50).requires_grad_()).requires_grad
    assert not lin.features().requires_grad
    assert not lin.predictions().requires_grad
    assert not lin.kernel().requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scipy_takes_it_as_a_linear_operator(dtype):
    lin, jacobian = made(dtype)
    operator, matrix = lin.to_scipy(), jacobian.numpy()
    assert operator is aslinearoperator(operator)
    assert operator.shape == lin.shape
    assert operator.dtype == matrix.dtype
    v, u, many = points(50).numpy(), points(14).numpy(), points(50, 3).numpy()
    close = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 1e-12}
    np.testing.assert_allclose(operator @ v, matrix @ v, **close)
    np.testing.assert_allclose(operator @ v[:, None], matrix @ v[:, None], **close)
    np.testing.assert_allclose(operator @ many, matrix @ many, **close)
    np.testing.assert_allclose(operator.T @ u, matrix.T @ u, **close)
    np.testing.assert_allclose(operator.H @ points(14, 2).numpy(), matrix.T @ points(14, 2).numpy(), **close)
    np.testing.assert_allclose((operator @ operator.T) @ u, matrix @ matrix.T @ u, **close)


def test_a_model_in_bfloat16_reaches_scipy_in_a_precision_that_it_has():
    lin, jacobian = made(torch.bfloat16)
    found = lin.to_scipy() @ np.ones(50)
    np.testing.assert_allclose(found, jacobian.double().sum(1).numpy(), rtol=0, atol=0.1)
    right = lin.svd(2).right().double().numpy()
    np.testing.assert_allclose(lin.svd(2).right_operator @ np.ones(2), right.sum(1), rtol=0, atol=0.05)


def test_scipy_finds_the_same_singular_values():
    lin, jacobian = made()
    found = np.sort(svds(lin.to_scipy(), k=4, rng=np.random.default_rng(0), return_singular_vectors=False))[::-1]
    np.testing.assert_allclose(found, np.linalg.svd(jacobian.numpy(), compute_uv=False)[:4], rtol=1e-9)
    np.testing.assert_allclose(found, lin.svd(4).singular_values.numpy(), rtol=1e-9)


def test_scipy_solves_with_it():
    lin, jacobian = made()
    target = points(14).numpy()
    solution = lsqr(lin.to_scipy(), target, damp=0.1, atol=1e-14, btol=1e-14)[0]
    matrix = jacobian.numpy()
    expected = np.linalg.solve(matrix.T @ matrix + 0.01 * np.eye(50), matrix.T @ target)
    np.testing.assert_allclose(solution, expected, atol=1e-8)


def test_labels_say_what_each_column_is():
    lin, jacobian = made()
    assert len(lin.labels) == 50
    expected = [
        Label(name, i, name.rpartition(".")[0]) for name, p in net().named_parameters() for i in range(p.numel())
    ]
    assert list(lin.labels) == expected
    assert [lin.labels[j] for j in range(50)] == expected
    assert lin.labels[-1] == expected[-1] == Label("3.bias", 1, "3")
    assert lin.labels[16:20] == expected[16:20]
    for name, _ in net().named_parameters():
        columns = lin.labels.columns(name)
        torch.testing.assert_close(lin.features(parameters=name), jacobian[:, columns])
        assert {label.parameter for label in lin.labels[columns]} == {name}
    for outside in (50, -51):
        with pytest.raises(IndexError):
            lin.labels[outside]


def test_a_parameter_of_the_model_itself_has_the_layer_of_no_name():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.inner = nn.Parameter(torch.ones(())), nn.Linear(3, 1)

        def forward(self, x):
            return self.scale * self.inner(x)

    labels = Linearization(Scaled(), points(4, 3, dtype=torch.float32)).labels
    assert labels[0] == Label("scale", 0, "")
    assert labels[1] == Label("inner.weight", 0, "inner")


def test_columns_come_in_the_order_that_is_asked_for():
    lin, jacobian = made()
    names = ["3.bias", "0.weight"]
    expected = torch.cat([jacobian[:, lin.labels.columns(name)] for name in names], 1)
    torch.testing.assert_close(lin.features(parameters=names), expected)
    assert lin.features(points(4, 3, seed=5), names).shape == (8, 20)


def test_no_parameters_are_no_columns():
    assert made()[0].features(parameters=[]).shape == (14, 0)


def test_kernels_between_any_inputs():
    model = net()
    lin = Linearization(model, points(7, 3))
    one, other = points(4, 3, seed=5), points(5, 3, seed=6)
    own, first, second = (dense(model, (x,)) for x in (points(7, 3), one, other))
    torch.testing.assert_close(lin.kernel(), own @ own.T)
    torch.testing.assert_close(lin.kernel(one), first @ first.T)
    torch.testing.assert_close(lin.kernel(one, other), first @ second.T)
    torch.testing.assert_close(lin.kernel(None, other), own @ second.T)
    torch.testing.assert_close(lin.kernel(one, points(7, 3)), first @ own.T)
    traced = torch.einsum("icp,jcp->ij", first.unflatten(0, (4, 2)), second.unflatten(0, (5, 2)))
    torch.testing.assert_close(lin.kernel(one, other, trace=True), traced)
    assert lin.kernel(dtype=torch.float32).dtype == torch.float32


def test_predictions_are_the_models_outputs():
    model, x, fresh = net(), points(7, 3), points(1500, 3, seed=4)
    lin = Linearization(model, x)
    torch.testing.assert_close(lin.predictions(), model(x).detach())
    torch.testing.assert_close(lin.predictions(fresh), model(fresh).detach())
    one = Linearization(nn.Sequential(*model, nn.Linear(2, 1).double(), nn.Flatten(0)), x)
    assert one.predictions().shape == (7, 1)


def test_the_linearised_model_is_right_to_first_order():
    model, x = net(), points(7, 3)
    lin = Linearization(model, x)
    direction = points(50, seed=8)
    errors = []
    for size in (1e-2, 1e-3):
        moved = copy.deepcopy(model)
        nn.utils.vector_to_parameters(
            nn.utils.parameters_to_vector(model.parameters()) + size * direction, moved.parameters()
        )
        linear = lin.predictions() + size * (lin @ direction).unflatten(0, (7, 2))
        errors.append(float((moved(x) - linear).norm().detach()))
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.2)


def test_the_probe_and_everything_else_leave_the_global_generators_alone(rng_untouched):
    model, x = net(), points(40, 3)
    with rng_untouched():
        lin = Linearization(model, x)
        lin.features()
        lin.kernel()
        lin.svd(3)
        lin.principal_features(points(4, 3), 3)
        lin.trajectory([1.0], y=torch.zeros(40, 2))
        lin.alignment(torch.ones(40, 2))


def test_the_same_arguments_give_the_same_numbers():
    (one, _), (other, _) = made(), made()
    assert torch.equal(one.features(), other.features())
    assert torch.equal(one.svd().singular_values, other.svd().singular_values)


def test_outputs_are_chosen_by_number_or_by_a_function():
    model, x = nn.Linear(3, 2), points(4, 3, dtype=torch.float32)
    whole = dense(model, (x,)).view(4, 2, -1)
    assert torch.allclose(Linearization(model, x, 1).features(), whole[:, 1])
    assert torch.allclose(Linearization(model, x, [1, 0]).features(), whole.flip(1).flatten(0, 1))
    assert torch.allclose(Linearization(model, x, lambda out: out.sum(1)).features(), whole.sum(1))
