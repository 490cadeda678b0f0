"""What a norm measures: dense tensors of floating-point numbers, whatever their size; others are refused."""

from __future__ import annotations

from functools import partial

import jaxtyping
import pytest
import torch
from tests.norms.points import each, gaussian, generic, times
from tests.norms.test_contract import BLOCKS, CASES

from steepest.errors import InvalidArgument
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


IN_HALF: dict[str, Norm] = {
    "LInf": LInf(),
    "L1": L1(),
    "Lp(3)": Lp(3),
    "Ellipsoid": Ellipsoid(torch.tensor(4.0)),
    "Spectral": Spectral(),
    "Spectral, exact": Spectral(exact=True),
    "Nuclear": Nuclear(),
    "Schatten(4)": Schatten(4),
    "MaxRow": MaxRow(),
    "MaxColumn": MaxColumn(),
    "Scaled LInf": Scaled(LInf(), 0.5),
    "Flattened": Flattened(Spectral(exact=True)),
    "Split": Split(LInf(), 2),
}


@pytest.mark.parametrize("size", [300.0, 1e-5])
@pytest.mark.parametrize("norm", IN_HALF.values(), ids=IN_HALF)
def test_in_float16_a_step_is_the_one_of_float64_though_the_dual_norm_leaves_the_range(norm, size):
    g = (gaussian((40, 30), 1) * size).half()
    alpha = 1e-3 / size
    step = penalized_step(norm, g, alpha)
    exact = penalized_step(norm, g.double(), alpha)
    assert step.dtype == torch.float16
    assert bool(step.isfinite().all())
    assert float((step.double() - exact).abs().max()) <= 2e-3 * float(exact.abs().max())


def test_in_a_network_of_float16_too():
    norm = Blockwise({"a": LInf(), "b": Spectral(exact=True)}, "l2")
    g = {"a": gaussian((40, 30), 1) * 300, "b": gaussian((40, 30), 2) * 300}
    half = {name: part.half() for name, part in g.items()}
    step, exact = penalized_step(norm, half, 1e-5), penalized_step(norm, {n: p.double() for n, p in half.items()}, 1e-5)
    for name, part in step.items():
        assert part.dtype == torch.float16
        torch.testing.assert_close(part.double(), exact[name], rtol=5e-3, atol=1e-4)


def test_of_large_and_small_numbers_only_the_product_has_to_be_in_the_range():
    g = torch.tensor([1e25, -2e25])
    large = Ellipsoid(torch.tensor([1e20, 1e20]))
    torch.testing.assert_close(penalized_step(large, g, 2e-20), -g, rtol=1e-6, atol=0)
    small = Ellipsoid(torch.tensor(1e-30))
    torch.testing.assert_close(penalized_step(small, g, 2e-10), -1e-40 * g.double().float(), rtol=1e-4, atol=0)
    step = penalized_step(Power(L2(), 3), torch.tensor([3e30, 4e30]), 1e10)
    torch.testing.assert_close(step, -torch.tensor([0.6, 0.8]) * 5e40**0.5, rtol=1e-5, atol=0)
    assert bool(penalized_step(Power(LInf(), 3), times(torch.ones(40, 30).half(), 300), 1e-3).isfinite().all())
