"""What a call of the table leaves behind is taken away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch.distributed as dist


@pytest.fixture(autouse=True)
def no_process_group() -> Iterator[None]:
    """A row may make this process the only worker of a group."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
