"""Block Lanczos alone, on matrices of known eigenvalues."""

from __future__ import annotations

import math

import pytest
import torch

from steepest.errors import SteepestError
from steepest.linearize._spectrum.lanczos import largest_eigenpairs

SPECTRA = {
    "hardly larger than a block": (16, 2, torch.linspace(1, 0, 16)),
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


@pytest.mark.parametrize("n", [1, 2, 5])
def test_block_lanczos_works_on_matrices_smaller_than_a_block(n):
    matrix = torch.diag(torch.arange(float(n), 0, -1, dtype=torch.float64))
    found, _ = largest_eigenpairs(lambda x: matrix @ x, n, 1, torch.device("cpu"), 1e-12)
    torch.testing.assert_close(found, torch.tensor([float(n)], dtype=torch.float64))
