"""The averaged gradient of n workers on their shards is the gradient of the whole batch."""

from __future__ import annotations

import pytest
import torch
from tests.communication import training

from steepest.communication import launch

PRECISION = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])


@PRECISION
@pytest.mark.parametrize("workers", [1, 3, 4])
def test_unequal_shards_weighted_by_their_examples_give_the_gradient_of_the_batch(dtype, tolerance, workers):
    for found in launch(training.shard_gradients, workers, args=(dtype,), timeout=60):
        assert len(found) >= 4
        for scheme, difference in found.items():
            assert difference <= tolerance, scheme


@pytest.mark.slow  # torch's optimizers import torch's compiler in every worker, for seconds.
@PRECISION
@pytest.mark.parametrize("workers", [2, 4])
def test_whatever_optimizer_steps_on_them(dtype, tolerance, workers):
    for found in launch(training.shard_training, workers, args=(dtype,), timeout=120):
        for case, (gradient, parameters) in found.items():
            assert gradient <= tolerance, case
            assert parameters <= 100 * tolerance, case
