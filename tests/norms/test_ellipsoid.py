"""The norm of a diagonal preconditioner: its diagonal."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.norms.points import gaussian

from steepest.errors import InvalidArgument
from steepest.norms import L2, Ellipsoid, LInf, Scaled, penalized_step


def diagonal(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return gaussian(shape, seed).exp()


@pytest.mark.parametrize("fitted", [(2, 4, 3), (4, 3), (3,), (4, 1), (2, 1, 1), (1,), ()], ids=str)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_norm_dual_norm_map_and_step_are_those_of_the_formulas(fitted, seed):
    d, x = diagonal(fitted, seed), gaussian((2, 4, 3), seed + 1)
    norm, whole = Ellipsoid(d), d.expand(2, 4, 3)
    dual = float((whole * x**2).sum().sqrt())
    assert float(norm(x)) == pytest.approx(float((x**2 / whole).sum().sqrt()), rel=1e-12)
    assert float(norm.dual_norm(x)) == pytest.approx(dual, rel=1e-12)
    torch.testing.assert_close(norm.duality_map(x), whole * x / dual, rtol=1e-12, atol=0)
    torch.testing.assert_close(penalized_step(norm, x, alpha=0.3), -0.15 * whole * x, rtol=1e-12, atol=0)


def test_the_diagonal_is_copied_and_carries_no_gradient():
    mine = diagonal((4,)).requires_grad_()
    norm, x = Ellipsoid(mine), gaussian((4,), 1)
    before = float(norm(x))
    with torch.no_grad():
        mine.fill_(9.0)
    assert float(norm(x)) == before
    assert not norm.diagonal.requires_grad


def test_ellipsoids_are_equal_when_every_entry_is():
    d = diagonal((4,))
    norm = Ellipsoid(d)
    assert norm == Ellipsoid(d.clone())
    assert hash(norm) == hash(Ellipsoid(d.clone()))
    assert Scaled(norm, by=2.0) == Scaled(Ellipsoid(d.clone()), by=2.0)
    assert len({Scaled(norm, by=2.0), Scaled(Ellipsoid(d.clone()), by=2.0)}) == 1
    assert pickle.loads(pickle.dumps(norm)) == norm
    other = d.clone()
    other[3] *= 1 + 1e-15
    for different in (Ellipsoid(other), Ellipsoid(d.float()), Ellipsoid(d.view(2, 2)), L2(), LInf(), "norm", None):
        assert norm != different
    with pytest.raises(AttributeError):
        norm.diagonal = d


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_diagonal_that_is_not_positive_and_finite_is_refused(bad):
    with pytest.raises(InvalidArgument, match=r"must be positive and finite \(got tensor\(.*\)\). Leave out entries"):
        Ellipsoid(torch.tensor([1.0, bad]))


@pytest.mark.parametrize(
    ("fitted", "shape"), [((3,), (4,)), ((3,), (3, 4)), ((2, 3), (3,)), ((1,), ()), ((4, 3), (1, 3)), ((0,), (3,))]
)
def test_a_diagonal_that_does_not_fit_the_tensor_is_refused(fitted, shape):
    norm, x = Ellipsoid(torch.ones(fitted)), torch.ones(shape)
    for call in (norm, norm.dual_norm, norm.duality_map, lambda x: penalized_step(norm, x, alpha=0.1)):
        with pytest.raises(InvalidArgument) as refusal:
            call(x)
        assert f"the diagonal must fit the tensor, which has shape {shape}" in str(refusal.value)
        assert f"(got 'a diagonal of shape {fitted}'). Give each shape an Ellipsoid" in str(refusal.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_diagonal_that_leaves_the_range_of_the_tensors_dtype_still_gives_finite_steps(dtype):
    # D = 1e-12 is 0 in float16, 1e-60 is 0 in float32; sqrt(D) is in range of the former's norm, and D g may be 0.
    d = {torch.float32: 1e-60, torch.float16: 1e-12}[dtype]
    norm = Ellipsoid(torch.tensor([d, 1.0], dtype=torch.float64))
    zero = torch.tensor([0.0, 2.0], dtype=dtype)
    assert float(norm(zero)) == 2
    for part in (norm.duality_map(zero + 1), penalized_step(norm, zero + 1, alpha=0.1)):
        assert bool(part.isfinite().all())
