"""What is refused: every message tells the rule, the value and the remedy.

What norms measure are dense tensors of floating-point numbers, whatever their size; nothing else is.
"""

from __future__ import annotations

import math
from functools import partial

import jaxtyping
import pytest
import torch
from tests.norms.points import each, gaussian, generic
from tests.norms.test_contract import BLOCKS, CASES

from steepest.errors import InvalidArgument, SteepestError
from steepest.norms import (
    L1,
    L2,
    Blockwise,
    Ellipsoid,
    Flattened,
    KullbackLeibler,
    LInf,
    Lp,
    MaxColumn,
    MaxRow,
    Norm,
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
    product_speed,
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


@pytest.fixture
def without_shape_checks():
    """The tests' own shape checks would answer first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


WRONG = {
    "integers": lambda x: x.round().long(),
    "booleans": lambda x: x > 0,
    "complex": lambda x: x.to(torch.complex64),
    "sparse": lambda x: x.to_sparse(),
    "meta": lambda x: x.to("meta"),
    "numpy": lambda x: x.numpy(),
    "list": lambda x: x.tolist(),
    "None": lambda _: None,
}
NORMS = [pytest.param(norm, shapes[0], id=name) for name, (norm, shapes) in CASES.items()]


def calls_of(norm: Norm, good, wrong):
    """Every function of a norm, and every function that takes one, with the wrong in each place."""
    for function in (norm, norm.dual_norm, norm.duality_map, norm.duality_pair, norm.distance):
        yield lambda function=function: function(wrong)
    yield lambda: norm.duality_maps([good, wrong])
    for function in (norm.penalized_step, partial(penalized_step, norm), partial(constrained_step, norm)):
        yield lambda function=function: function(wrong, 0.1)
    for function in (norm.duality_gap, partial(objective, norm), partial(duality_gap, norm)):
        yield lambda function=function: function(wrong, good, 0.1)
        yield lambda function=function: function(good, wrong, 0.1)


@pytest.mark.parametrize(("norm", "shape"), [*NORMS, pytest.param(Spectral(), (4, 3), id="Spectral, iterative")])
@pytest.mark.usefixtures("without_shape_checks")
def test_every_function_of_every_norm_refuses_what_it_cannot_measure(norm, shape):
    good = generic(shape, 1)
    for what, spoil in WRONG.items():
        for i, call in enumerate(calls_of(norm, good, each(spoil, good))):
            with pytest.raises(InvalidArgument, match="must be"):
                raise AssertionError(f"{what}, call {i}: {call()}")


@pytest.mark.parametrize(
    "call",
    [
        lambda x: polar_factor(x),
        lambda x: polar_factor(x, exact=True),
        lambda x: Power(L2(), 3).distance(x),
        lambda x: Power(L2(), 3).penalized_step(x, 0.1),
        lambda x: Power(L2(), 3).duality_gap(x, x, 0.1),
        lambda x: KullbackLeibler(torch.full((4, 3), 1 / 12)).distance(x),
        lambda x: KullbackLeibler(torch.full((4, 3), 1 / 12)).penalized_step(x, 0.1),
        lambda x: KullbackLeibler(torch.full((4, 3), 1 / 12)).duality_gap(torch.ones(4, 3), x, 0.1),
        lambda x: Ellipsoid(x),
        lambda x: KullbackLeibler(x),
        lambda x: LInf().duality_maps(x),
        lambda x: L1().duality_maps(x),
        lambda x: Flattened(Spectral()).duality_maps(x),
        lambda x: Spectral().duality_maps(x),
        lambda x: Split(LInf(), 2).duality_maps(x),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_so_do_distances_the_polar_factor_and_lists_of_tensors(call):
    for what, spoil in WRONG.items():
        if what == "list":
            continue
        with pytest.raises(InvalidArgument, match="must be"):
            raise AssertionError(f"{what}: {call(spoil(gaussian((4, 3), 1)))}")


@pytest.mark.parametrize(
    "wrong", [{"x": torch.ones(3), "other": torch.ones(3)}, {1: torch.ones(3)}, {"x": {}}], ids=str
)
@pytest.mark.usefixtures("without_shape_checks")
def test_a_networks_norm_refuses_what_is_not_tensors_by_its_names(wrong):
    norm = Blockwise({"x": L2()})
    for call in (norm, norm.dual_norm, norm.duality_map, norm.duality_pair, norm.distance):
        with pytest.raises(InvalidArgument):
            call(wrong)


NETWORK = Blockwise(BLOCKS)


@pytest.mark.parametrize("wrong", [None, "L2", L2, 3, NETWORK, Power(L2(), 3)], ids=repr)
@pytest.mark.parametrize(
    "build",
    [
        lambda norm: Scaled(norm, 2.0),
        lambda norm: Flattened(norm),
        lambda norm: Split(norm, 2),
        lambda norm: Blockwise({"x": norm}),
    ],
    ids=["Scaled", "Flattened", "Split", "Blockwise"],
)
def test_no_norm_is_built_on_what_is_not_the_norm_of_a_tensor(build, wrong):
    with pytest.raises(InvalidArgument, match="norm must be"):
        build(wrong)


@pytest.mark.parametrize("wrong", [None, "L2", L2, 3, Power(L2(), 3)], ids=repr)
def test_no_power_step_or_certificate_takes_what_is_no_norm(wrong):
    g = torch.ones(3)
    with pytest.raises(InvalidArgument, match="norm must be"):
        Power(wrong, 3)
    with pytest.raises(InvalidArgument, match="norm must be a norm"):
        constrained_step(wrong, g, 0.1)
    if not isinstance(wrong, Power):
        for call in (penalized_step, lambda *a: objective(*a[:2], g, 0.1), lambda *a: duality_gap(*a[:2], g, 0.1)):
            with pytest.raises(InvalidArgument, match="norm must be a norm or another distance"):
                call(wrong, g, 0.1)


NO_NUMBERS = [None, "1", True, 1j, torch.tensor(1.0), [1.0]]


@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=str)
@pytest.mark.parametrize(
    "call",
    [
        lambda x: Lp(x),
        lambda x: Schatten(x),
        lambda x: Power(L2(), x),
        lambda x: Scaled(L2(), x),
        lambda x: Split(L2(), x),
        lambda x: Split(L2(), [2, x]),
        lambda x: Split(L2(), 2, dim=x),
        lambda x: penalized_step(L2(), torch.ones(2), x),
        lambda x: constrained_step(L2(), torch.ones(2), x),
        lambda x: objective(L2(), torch.ones(2), torch.ones(2), x),
        lambda x: duality_gap(L2(), torch.ones(2), torch.ones(2), x),
    ],
)
def test_what_is_no_number_is_refused_where_a_number_is_meant(call, wrong):
    if wrong == [1.0]:
        wrong = {1.0}
    with pytest.raises(InvalidArgument, match="must be"):
        call(wrong)


@pytest.mark.parametrize("wrong", [None, 1, "yes"])
def test_a_flag_is_true_or_false(wrong):
    for call in (lambda: Spectral(wrong), lambda: polar_factor(torch.eye(2), wrong)):
        with pytest.raises(InvalidArgument, match="exact must be True or False"):
            call()


@pytest.mark.parametrize("wrong", [None, "gpu", "meta", 1.5, []])
def test_a_device_that_does_not_exist_is_not_measured(wrong):
    with pytest.raises(InvalidArgument, match="device must be one of torch's"):
        product_speed(wrong)


def test_every_refusal_is_one_of_this_packages_and_a_value_error():
    with pytest.raises(SteepestError):
        Lp(1)
    with pytest.raises(ValueError, match="p must be"):
        Lp(1)
