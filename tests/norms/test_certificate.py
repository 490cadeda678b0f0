"""The certificate of a step: when it may not say yes."""

from __future__ import annotations

import math

import pytest
import torch
from tests.norms.points import gaussian

from steepest.errors import InvalidArgument
from steepest.norms import (
    L1,
    L2,
    Blockwise,
    Ellipsoid,
    KullbackLeibler,
    LInf,
    Lp,
    MaxRow,
    Nuclear,
    Power,
    Scaled,
    Spectral,
    Split,
    duality_gap,
    objective,
    penalized_step,
)

DISTANCES = [
    L1(),
    L2(),
    LInf(),
    Lp(3),
    Ellipsoid(torch.tensor(2.0)),
    MaxRow(),
    Scaled(L2(), by=2.0),
    Split(LInf(), 2),
    Power(L2(), 3),
    Power(LInf(), 1.5),
]
EVERY_DISTANCE = pytest.mark.parametrize("distance", DISTANCES, ids=str)
NOT_FINITE = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
ALPHA = 0.3


def with_entry(x: torch.Tensor, bad: float) -> torch.Tensor:
    x = x.clone()
    x[0, 0] = bad
    return x


def certified(distance, g, step) -> bool:
    return float(duality_gap(distance, g, step, ALPHA)) < 1


@NOT_FINITE
@EVERY_DISTANCE
def test_no_step_is_certified_for_a_gradient_that_is_not_finite(distance, bad):
    zero, g = torch.zeros(2, 3), with_entry(gaussian((2, 3), 0), bad)
    for step in (zero, gaussian((2, 3), 1)):
        assert not certified(distance, g, step)


@NOT_FINITE
@EVERY_DISTANCE
def test_no_step_that_is_not_finite_is_certified(distance, bad):
    zero, step = torch.zeros(2, 3), with_entry(gaussian((2, 3), 0), bad)
    for g in (zero, gaussian((2, 3), 1)):
        assert not certified(distance, g, step)


@NOT_FINITE
def test_neither_is_one_on_the_simplex(bad):
    distance = KullbackLeibler(torch.full((2, 3), 1 / 6))
    zero = torch.zeros(2, 3)
    assert not certified(distance, with_entry(zero, bad), zero)
    assert not certified(distance, zero, with_entry(zero, bad))
    assert not certified(distance, gaussian((2, 3), 0), with_entry(zero, bad))


@NOT_FINITE
def test_neither_is_one_of_a_network(bad):
    norm = Blockwise({"a": L2(), "b": LInf()})
    zero, x = torch.zeros(2, 3), with_entry(torch.zeros(2, 3), bad)
    assert not certified(norm, {"a": zero, "b": x}, {"a": zero, "b": zero})
    assert not certified(norm, {"a": zero, "b": zero}, {"a": x, "b": zero})


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 1), (), (3, 2), (2, 2, 3)], ids=str)
@pytest.mark.parametrize("certify", [duality_gap, objective])
def test_a_step_of_another_shape_is_refused_and_not_broadcast(certify, shape):
    with pytest.raises(InvalidArgument, match="shape"):
        certify(L2(), torch.ones(2, 3), torch.zeros(shape), ALPHA)
    with pytest.raises(InvalidArgument, match="shape"):
        certify(Blockwise({"a": L2()}), {"a": torch.ones(2, 3)}, {"a": torch.zeros(shape)}, ALPHA)


@EVERY_DISTANCE
@pytest.mark.parametrize("size", [1e-150, 1e-30, 1e30, 1e140])
def test_the_gap_does_not_depend_on_the_scale_of_the_gradient(distance, size):
    if isinstance(distance, Power):
        size = size**0.1
    g, noise = gaussian((2, 3), 0).abs(), gaussian((2, 3), 1)
    step = penalized_step(distance, g, ALPHA)
    power = distance.p if isinstance(distance, Power) else 2
    # The minimiser's length grows with the gradient's to the power 1 / (p - 1).
    gaps = [
        duality_gap(distance, g * s, (step + 0.1 * step.abs().max() * noise) * s ** (1 / (power - 1)), ALPHA)
        for s in (1.0, size)
    ]
    torch.testing.assert_close(gaps[1], gaps[0], rtol=1e-9, atol=0)


def test_another_optimizers_step_has_a_known_gap():
    # With u = -(alpha/2) g in the LInf norm: 1 - 2 ||g||_2^2 / ||g||_1^2 + ||g||_inf^2 / ||g||_1^2.
    g = torch.tensor([3.0, -4.0], dtype=torch.float64)
    assert float(duality_gap(LInf(), g, -ALPHA / 2 * g, ALPHA)) == pytest.approx(1 - 2 * 25 / 49 + 16 / 49, rel=1e-12)


@pytest.mark.parametrize("norm", [L2(), LInf(), Spectral(exact=True), Nuclear(), MaxRow()], ids=str)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)], ids=str)
def test_a_step_in_less_precision_is_certified_up_to_its_own_rounding(norm, dtype, bound):
    g = gaussian((4, 3), 0).to(dtype)
    gap = duality_gap(norm, g, penalized_step(norm, g, ALPHA), ALPHA)
    assert gap.dtype == torch.float64
    assert 0 <= float(gap) < bound
