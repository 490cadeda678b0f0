"""A worker of a run that torchrun has started, on one or several machines."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from steepest._check import at_least
from steepest.communication import ParameterServer, Scheme
from steepest.errors import InvalidArgument
from steepest.tasks import Task
from steepest.train._distributed.records import Records
from steepest.train._distributed.replica import Replica
from steepest.train._distributed.restart import FixedGroup
from steepest.train._distributed.result import TrainingRun
from steepest.train._distributed.run import result_of, settings_of
from steepest.train._distributed.settings import Settings
from steepest.train._distributed.worker import Teller, train_share

__all__ = ["train_under_torchrun"]


def train_under_torchrun(
    task: Task, optimizer: Any, init: Any, *, name: str, scheme: Scheme, folder: Path, **options: Any
) -> TrainingRun | None:
    """Train a task as one of torchrun's workers; return the result in rank 0, and None in the others.

    A checkpoint is written into the folder at every validation. The same run, by its settings and its data, continues
    from the newest one with the same batches, also with another number of workers. An edit of the code is not noticed.

    Args:
        task: The task.
        optimizer: optimizer(model, lr) -> the optimizer.
        init: A scheme of `steepest.init`, or its name.
        name: The names of task and optimizer.
        scheme: How gradients are averaged.
        folder: The folder of the results, the same for all workers.
        **options: Further arguments of `train_distributed`.
    """
    entered = time.perf_counter()
    if isinstance(scheme, ParameterServer) and scheme.server is None:
        raise InvalidArgument(
            "a parameter server under torchrun must be one of the workers",
            got="a separate server",
            remedy="Pass --scheme parameter-server:0.",
        )
    on_cuda = str(options["device"]).startswith("cuda")
    if on_cuda:
        torch.cuda.set_device(at_least("LOCAL_RANK", int(os.environ.get("LOCAL_RANK", "0")), 0))
    settings = settings_of(task, optimizer, init, **options, scheme=scheme, validations=None)
    began = not dist.is_initialized()
    if began:
        dist.init_process_group("nccl" if on_cuda else "gloo")
    try:
        told = _Told()
        teller = Teller(told)
        place = folder / "checkpoints" / _identity(settings, name)
        group = FixedGroup(scheme, place, settings.looks, teller.remarks.append)
        train_share(settings, Replica(settings), group, teller)
        gathered: list[Any] | None = [None] * group.view.size if group.view.rank == 0 else None
        dist.gather_object(told.messages, gathered)
        if gathered is None:
            return None
        records = Records()
        for rank, messages in enumerate(gathered):
            for message in messages:
                records.add(rank, message)
        return result_of(records, settings, group.view.size, time.perf_counter() - entered)
    finally:
        if began:
            dist.destroy_process_group()


def _identity(settings: Settings, name: str) -> str:
    """Return a name for the run that no run with other settings or data has."""
    words = {
        **settings.in_words,
        "optimizer": name,
        "warmup": str(settings.warmup),
        "task": settings.task.fingerprint(),
    }
    return hashlib.sha256(repr(words).encode()).hexdigest()[:12]


class _Told:
    """Keeps what is told, in place of a pipe."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def send(self, message: Any) -> None:
        """Keep a message."""
        self.messages.append(message)
