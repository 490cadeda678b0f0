"""The spectral norm with the iterative map, beside the exact one."""

from __future__ import annotations

import pytest
import torch
from tests.norms.points import gaussian

from steepest.norms import Blockwise, Flattened, Scaled, Spectral, Split, duality_gap, objective, penalized_step

SHAPES = [(8, 8), (64, 16), (16, 64), (1, 7), (7, 1), (130, 140), (3, 20, 30), (2, 3, 12, 5)]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)
EXACT, ITERATIVE = Spectral(exact=True), Spectral()


def spectra(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Matrices from easy to hard."""
    rows, columns = shape[-2:]
    k = torch.arange(min(rows, columns), dtype=torch.float64)
    u, _, vh = torch.linalg.svd(gaussian(shape, 0), full_matrices=False)
    values = {"equal": k * 0 + 1, "1/k": 1 / (1 + k), "wide": 10 ** (-7 * k / len(k)), "rank 1": (k == 0).double()}
    return {"gaussian": gaussian(shape, 1), **{name: (u * s) @ vh for name, s in values.items()}}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@EVERY_SHAPE
def test_the_map_has_a_norm_within_15_percent_of_one(shape, dtype):
    for g in spectra(shape).values():
        assert 0.85 <= float(EXACT(ITERATIVE.duality_map(g.to(dtype)).double())) <= 1.15


@EVERY_SHAPE
def test_the_dual_norm_is_what_the_map_attains_and_never_more_than_the_nuclear_norm(shape):
    for g in spectra(shape).values():
        d = ITERATIVE.duality_map(g)
        attained = float(ITERATIVE.dual_norm(g))
        assert attained == pytest.approx(float((g * d).sum() / EXACT(d)), rel=1e-12)
        assert attained <= float(EXACT.dual_norm(g)) * (1 + 1e-12)


@EVERY_SHAPE
def test_the_pair_is_a_unit_vector_along_the_map_and_what_it_attains(shape):
    g = gaussian(shape, 0)
    direction, dual = ITERATIVE.duality_pair(g)
    assert float(EXACT(direction)) == pytest.approx(1, rel=1e-12)
    assert float((g * direction).sum()) == pytest.approx(float(dual), rel=1e-12)
    d = ITERATIVE.duality_map(g)
    torch.testing.assert_close(direction, d / EXACT(d), rtol=0, atol=1e-12)


@EVERY_SHAPE
def test_the_gap_of_the_penalized_step_is_one_minus_the_squared_alignment(shape):
    # Along a unit vector with <g, d> = c ||g||_*, the best length gives c^2 of the minimum.
    for g in spectra(shape).values():
        step = penalized_step(ITERATIVE, g, alpha=0.3)
        alignment = float(ITERATIVE.dual_norm(g) / EXACT.dual_norm(g))
        gap = float(duality_gap(ITERATIVE, g, step, alpha=0.3))
        assert gap == pytest.approx(1 - alignment**2, abs=1e-12)
        if g.ndim == 2:
            assert 0 <= gap <= 1 - 0.97**2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda norm: norm,
        lambda norm: Scaled(norm, by=0.5),
        lambda norm: Flattened(norm),
        lambda norm: Split(norm, 2),
        lambda norm: Split(Scaled(Flattened(norm), by=2.0), (1, 3)),
    ],
    ids=["itself", "Scaled", "Flattened", "Split", "nested"],
)
def test_gap_and_objective_have_nothing_approximated_at_any_depth(wrap):
    g, step = gaussian((4, 3), 0), gaussian((4, 3), 1)
    assert wrap(ITERATIVE).exactly() == wrap(EXACT)
    assert wrap(ITERATIVE) != wrap(EXACT)
    for certify in (duality_gap, objective):
        assert torch.equal(certify(wrap(ITERATIVE), g, step, 0.3), certify(wrap(EXACT), g, step, 0.3))
        network, exact = (Blockwise({"a": wrap(norm)}, combine="l2") for norm in (ITERATIVE, EXACT))
        assert network.exactly() == exact
        assert torch.equal(certify(network, {"a": g}, {"a": step}, 0.3), certify(exact, {"a": g}, {"a": step}, 0.3))


def test_the_maps_of_a_list_are_the_maps_one_by_one():
    shapes = [(4, 3), (3, 5), (4, 3), (2, 4, 3), (3, 4), (4, 3), (2, 4, 3)]
    gs = [gaussian(shape, seed) for seed, shape in enumerate(shapes)]
    gs[2], gs[5] = gs[2].float(), torch.zeros_like(gs[5])
    gs.append(gs[0].T)
    for norm in (ITERATIVE, Scaled(ITERATIVE, by=2.0), Split(ITERATIVE, 1)):
        maps = norm.duality_maps(gs)
        assert len(maps) == len(gs)
        for g, d in zip(gs, maps, strict=True):
            assert (d.shape, d.dtype) == (g.shape, g.dtype)
            torch.testing.assert_close(d, norm.duality_map(g), rtol=0, atol=1e-12 if d.dtype == torch.float64 else 2e-5)


def test_the_dual_norm_and_the_steps_of_zero_are_zero():
    zero = torch.zeros(3, 4)
    assert float(ITERATIVE.dual_norm(zero)) == 0
    assert torch.equal(penalized_step(ITERATIVE, zero, alpha=0.3), zero)
    assert float(duality_gap(ITERATIVE, zero, zero, alpha=0.3)) == 0


def test_a_channels_last_kernel_has_the_iterative_map_of_a_contiguous_one():
    kernel = gaussian((16, 2, 2, 2), 0)
    d = Flattened(ITERATIVE).duality_map(kernel.to(memory_format=torch.channels_last))
    torch.testing.assert_close(d, Flattened(ITERATIVE).duality_map(kernel))
