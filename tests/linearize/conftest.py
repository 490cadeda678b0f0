"""What the tests of linearize share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Networks are drawn from the same seed in each test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
