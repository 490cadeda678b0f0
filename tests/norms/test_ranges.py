"""Numbers at the ends of what a dtype holds: a step is right wherever its result is in the range."""

from __future__ import annotations

import pytest
import torch
from tests.norms.points import gaussian, times

from steepest.norms import (
    L1,
    L2,
    Blockwise,
    Ellipsoid,
    Flattened,
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
    penalized_step,
)

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
