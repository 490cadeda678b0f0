"""What is refused: every message tells the rule, the value and the remedy."""

from __future__ import annotations

import math

import pytest
import torch

from steepest.errors import InvalidArgument, SteepestError
from steepest.norms import (
    L1,
    L2,
    Flattened,
    KullbackLeibler,
    LInf,
    Lp,
    MaxColumn,
    MaxRow,
    Nuclear,
    Power,
    Scaled,
    Schatten,
    Spectral,
    Split,
    constrained_step,
    duality_gap,
    objective,
    penalized_step,
    polar_factor,
)

G = torch.tensor([[3.0, -1.0], [2.0, 0.0]])
MATRIX_NORMS = {
    "Spectral": (Spectral(), Spectral(exact=True)),
    "Nuclear": (Nuclear(),),
    "Schatten": (Schatten(3),),
    "MaxRow": (MaxRow(),),
    "MaxColumn": (MaxColumn(),),
    "Flattened": (Flattened(Spectral()), Flattened(L2())),
}


@pytest.mark.parametrize("shape", [(), (3,), (1,), (0,)], ids=str)
@pytest.mark.parametrize(("name", "norms"), MATRIX_NORMS.items(), ids=MATRIX_NORMS)
def test_a_norm_of_matrices_refuses_scalars_and_vectors(name, norms, shape):
    x = torch.ones(shape)
    for norm in norms:
        for call in (
            norm,
            norm.dual_norm,
            norm.duality_map,
            norm.duality_pair,
            lambda x, norm=norm: norm.duality_maps([x]),
            lambda x, norm=norm: penalized_step(norm, x, alpha=0.1),
            lambda x, norm=norm: constrained_step(norm, x, radius=0.1),
            lambda x, norm=norm: objective(norm, x, x, alpha=0.1),
            lambda x, norm=norm: duality_gap(norm, x, x, alpha=0.1),
        ):
            with pytest.raises(InvalidArgument) as refusal:
                call(x)
            assert f"{name} must have a matrix (got 'a tensor of shape {shape}'). Use L2" in str(refusal.value)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "iterative"])
@pytest.mark.parametrize("shape", [(), (3,), (0,)], ids=str)
def test_the_polar_factor_of_a_scalar_or_vector_is_refused(shape, exact):
    with pytest.raises(InvalidArgument, match=r"polar factor must have a matrix \(got .*\). Use L2"):
        polar_factor(torch.ones(shape), exact)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("step", "name"),
    [
        (lambda value: penalized_step(L2(), G, alpha=value), "alpha"),
        (lambda value: penalized_step(Power(L2(), 3), G, alpha=value), "alpha"),
        (lambda value: constrained_step(L2(), G, radius=value), "radius"),
    ],
    ids=["penalized", "penalized by a power", "constrained"],
)
def test_a_negative_or_infinite_length_is_refused(step, name, value):
    with pytest.raises(InvalidArgument, match=rf"{name} must be a number in \[0, inf\) \(got {value}\). Pass a number"):
        step(value)


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("certify", [objective, duality_gap])
def test_objective_and_gap_need_a_positive_alpha(certify, value):
    with pytest.raises(InvalidArgument, match=rf"alpha must be a number in \(0, inf\) \(got {value}\)"):
        certify(L2(), G, G, alpha=value)


@pytest.mark.parametrize("p", [1, 1.0, 0.5, 0, -2, math.nan, math.inf])
@pytest.mark.parametrize("make", [Lp, Schatten, lambda p: Power(L2(), p)], ids=["Lp", "Schatten", "Power"])
def test_an_exponent_is_finite_and_above_one(make, p):
    with pytest.raises(InvalidArgument, match=rf"p must be a number in \(1, inf\) \(got {p}\). Use .* for p = "):
        make(p)


@pytest.mark.parametrize("by", [0.0, -1.0, math.nan, math.inf])
def test_a_norm_is_scaled_only_by_a_finite_number_above_zero(by):
    with pytest.raises(InvalidArgument, match=rf"by must be a number in \[1e-150, 1e150\] \(got {by}\)"):
        Scaled(L2(), by=by)


@pytest.mark.parametrize("parts", [0, -1, (), (2, 0), (3, -1)], ids=str)
def test_parts_are_a_positive_count_or_positive_sizes(parts):
    with pytest.raises(InvalidArgument, match=r"parts must be .*\(got .*\). Try parts=3"):
        Split(LInf(), parts)


@pytest.mark.parametrize(
    ("parts", "dim", "shape"),
    [
        (2, 0, (3,)),
        (4, 0, (2, 4)),
        (2, 1, (4,)),
        (2, -3, (4, 4)),
        ((1, 2), 0, (4,)),
        ((1, 2), 0, (2,)),
        ((2, 2), -1, (4, 3)),
        (1, 0, ()),
    ],
    ids=str,
)
def test_a_tensor_that_cannot_be_cut_so_is_refused(parts, dim, shape):
    norm, x = Split(L1(), parts, dim), torch.ones(shape)
    for call in (norm, norm.dual_norm, norm.duality_map, norm.duality_pair, lambda x: penalized_step(norm, x, 0.1)):
        with pytest.raises(InvalidArgument) as refusal:
            call(x)
        assert f"cut along dimension {dim} into the parts {parts}" in str(refusal.value)
        assert f"(got 'a tensor of shape {shape}'). Give a count that divides" in str(refusal.value)


@pytest.mark.parametrize("distance", [Power(L2(), 3), KullbackLeibler(torch.tensor([0.5, 0.5]))], ids=["Power", "KL"])
def test_a_ball_needs_a_norm(distance):
    with pytest.raises(InvalidArgument, match=r"norm must be a norm \(got .*\). Use penalized_step"):
        constrained_step(distance, torch.zeros(2), radius=0.1)


def test_every_refusal_is_one_of_this_packages_and_a_value_error():
    with pytest.raises(SteepestError):
        Lp(1)
    with pytest.raises(ValueError, match="p must be"):
        Lp(1)
