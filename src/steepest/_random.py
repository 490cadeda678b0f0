"""Torch's global random number generators, seeded temporarily."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch

__all__ = ["seeded"]


@contextlib.contextmanager
def seeded(seed: int, device: str = "cpu") -> Generator[None, None, None]:
    """Seed the global generators of the CPU and the device, for code that draws from them; restore them after."""
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield
