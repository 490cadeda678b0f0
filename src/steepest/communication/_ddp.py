"""A scheme as the communication hook of DistributedDataParallel."""

# No annotations as text here: DistributedDataParallel compares those of the hook with its own classes.
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.futures import Future

from steepest import _check
from steepest.communication._scheme import Scheme

__all__ = ["ddp_hook"]


@dataclass(frozen=True)
class _State:
    """What the hook is given with every bucket."""

    scheme: Scheme
    group: Any


def ddp_hook(scheme: Scheme, *, group: Any = None) -> tuple[Any, Callable[[Any, dist.GradBucket], Future[Tensor]]]:
    """Return the state and the hook with which DistributedDataParallel averages gradients by a scheme.

    As DistributedDataParallel itself does, it takes the plain mean over the workers, bucket by bucket. A bucket is
    averaged when it is full, before the rest of the backward pass goes on: with the schemes of this package,
    communication does not overlap with computation. A worker that dies ends the training.

    Args:
        scheme: How the workers average.
        group: The process group that was passed to DistributedDataParallel; by default all workers.

    Returns:
        The two arguments of `register_comm_hook`.

    Raises:
        InvalidArgument: `scheme` is not a scheme.

    >>> from steepest.communication import Ring
    >>> state, hook = ddp_hook(Ring())  # ddp_model.register_comm_hook(state, hook)
    """
    _check.instance("scheme", scheme, Scheme, "a scheme such as Ring()")
    return _State(scheme, group), _average


def _average(state: _State, bucket: dist.GradBucket) -> Future[Tensor]:
    buffer = bucket.buffer()
    averaged: Future[Tensor] = Future(devices=None if buffer.device.type == "cpu" else [buffer.device])
    averaged.set_result(state.scheme.average_(buffer, group=state.group))
    return averaged
