"""Matrix products: measured, and symmetric ones for less."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests.norms.points import gaussian

from steepest.norms import ProductSpeed, polar_factor, product_speed
from steepest.norms._polar.products import _measure, symmetric_product

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)


def products_that_are_symmetric(m: int, stack: int, dtype: torch.dtype) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    x = (gaussian((stack, m, 64), seed=m) / m**0.5).to(dtype)
    y = (gaussian((stack, 64, m), seed=m + 1) / m**0.5).to(dtype)
    gram = (x.double() @ x.double().mT).to(dtype)
    return {"rows": (x, x.mT), "columns": (y.mT, y), "squares": (gram, gram)}


@DTYPES
@pytest.mark.parametrize(("m", "stack"), [(40, 1), (40, 3), (383, 1), (384, 1), (500, 1), (512, 1), (384, 2)])
def test_a_symmetric_product_is_the_product_to_rounding(m, stack, dtype):
    c = (gaussian((stack, m, m), seed=2) / m).to(dtype)
    c = c + c.mT
    for name, (a, b) in products_that_are_symmetric(m, stack, dtype).items():
        full = a.double() @ b.double()
        # Rounding, relative to the sum of the sizes: of the result, whose n additions are worth about sqrt(n) roundings
        # in the order of this processor (Higham and Mary 2019), and of the sum in float64 that it is held against.
        n = a.shape[-1]
        sizes = float((a.double().abs() @ b.double().abs() + c.double().abs()).max())
        tolerance = sizes * (n**0.5 * torch.finfo(dtype).eps + n * torch.finfo(torch.float64).eps)
        for given, expected in (
            ((), full),
            ((None, 1.0, -0.7), -0.7 * full),
            ((c, 0.3, -0.7), 0.3 * c.double() - 0.7 * full),
        ):
            product = symmetric_product(a, b, *given)
            assert (product.dtype, product.shape) == (dtype, (stack, m, m))
            torch.testing.assert_close(product.double(), expected, rtol=0, atol=tolerance, msg=lambda m, n=name: n + m)


@DTYPES
@pytest.mark.parametrize("m", [384, 500, 512, 641])
def test_a_large_symmetric_product_is_exactly_symmetric_from_panel_to_panel(m, dtype):
    for a, b in products_that_are_symmetric(m, 1, dtype).values():
        product = symmetric_product(a, b)[0]
        for start in range(128, m, 128):
            panel = slice(start, start + 128)
            assert torch.equal(product[panel, :start], product[:start, panel].T)


def test_a_symmetric_product_leaves_its_factors_as_they_are():
    a, c = gaussian((1, 400, 64), 0), gaussian((1, 400, 400), 1)
    before = a.clone(), c.clone()
    symmetric_product(a, a.mT, c, beta=0.5, alpha=2.0).fill_(0)
    assert torch.equal(a, before[0])
    assert torch.equal(c, before[1])


def test_the_speed_of_products_is_measured_once():
    assert product_speed("cpu") is product_speed("cpu")
    assert product_speed("cpu") is product_speed(torch.device("cpu"))


def test_the_speed_of_products_tells_what_was_measured():
    speed = product_speed()
    assert speed.device == "cpu"
    assert 0 < speed.bfloat16_time < float("inf")
    assert 1e-9 < speed.float32_error < 1e-2
    x = gaussian((512, 512), 0).float()
    error = torch.linalg.matrix_norm((x @ x).double() - x.double() @ x.double()) / torch.linalg.matrix_norm(x @ x)
    assert speed.float32_is_single == (float(error) < 1e-5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        speed.bfloat16_time = 1.0


@pytest.mark.parametrize(("time", "preferred"), [(0.5, True), (0.79, True), (0.9, False), (9.0, False)])
def test_bfloat16_is_preferred_where_it_is_clearly_faster(time, preferred):
    assert ProductSpeed("cpu", time, 1e-7).prefers_bfloat16 is preferred


@pytest.mark.parametrize(("error", "single"), [(1e-7, True), (2e-6, True), (1e-3, False)])
def test_tensor_float_is_told_from_single_precision(error, single):
    assert ProductSpeed("cpu", 1.0, error).float32_is_single is single


def test_neither_the_measurement_nor_the_iteration_draws_global_random_numbers(rng_untouched):
    with rng_untouched():
        _measure.__wrapped__("cpu", "highest")
        polar_factor(gaussian((130, 300), 0).float())
