"""A worker of a run: the training loop over its shares of the batches."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal, Protocol

import torch

from steepest._contained import contained
from steepest.communication import Address, ElasticGroup, GroupEvent, measure
from steepest.errors import GroupLost, MembershipChanged
from steepest.train._distributed.faults import Faults
from steepest.train._distributed.ledger import Ledger
from steepest.train._distributed.messages import Finished, Happened, Hello, Looked, Lost, Paused, Progress, Taken
from steepest.train._distributed.replica import Replica
from steepest.train._distributed.settings import Settings

__all__ = ["Teller", "run_worker", "train_share"]

_EVERY = 0.1
"""Seconds between two messages about progress."""


class _Sends(Protocol):
    """What takes the place of a pipe."""

    def send(self, message: Any, /) -> None: ...


class Teller:
    """Tells the process that started this one what happens, a few times a second.

    Args:
        connection: The pipe to that process.
    """

    def __init__(self, connection: Connection[Any, Any] | _Sends) -> None:
        self._connection = connection
        self._taken: list[Taken] = []
        self._told = time.monotonic()
        self.ledger = Ledger()
        self.remarks: list[str] = []

    def tell(self, message: Any) -> None:
        """Send a message at once."""
        self._connection.send(message)

    def taken(self, step: Taken) -> None:
        """Note a step."""
        self._taken.append(step)
        if time.monotonic() - self._told > _EVERY:
            self.flush()

    def happened(self, event: GroupEvent) -> None:
        """Tell an event of the group, unless it belongs to every run."""
        if event.kind != "busy":
            self.tell(Happened(event))

    def flush(self) -> None:
        """Send what was noted."""
        self.tell(Progress(self._taken, self.ledger.views))
        self._taken, self._told = [], time.monotonic()


def run_worker(
    connection: Connection[Any, Any], settings: Any, number: int, role: Literal["worker", "server"], is_new: bool
) -> None:
    """Train as one of the workers, or serve them; the main function of a process.

    Args:
        connection: The pipe to the process that started this one, which sends the addresses of the members.
        settings: The `Settings`, as cloudpickle has written them.
        number: The number of this worker.
        role: "worker" or "server".
        is_new: Whether it joins a group that is at work.
    """
    loaded: Settings = pickle.loads(settings)
    torch.set_num_threads(loaded.threads)
    teller = Teller(connection)
    with contained("a task, optimizer or init"):
        group = ElasticGroup(number, loaded.scheme, role=role, deadlines=loaded.deadlines, observe=teller.happened)
        replica = None
        try:
            teller.tell(Hello(group.address))
            replica = Replica(loaded)
            members: Sequence[Address] = connection.recv()
            (group.join if is_new else group.form)(members)
            if role == "server":
                group.serve()
                return
            server = next((each.identity.pid for each in members if each.server), None)
            faults = Faults(loaded.faults, number, server, lambda *what: teller.tell(Paused(*what)))
            train_share(loaded, replica, group, teller, faults)
            group.leave()
        except GroupLost as error:
            teller.tell(Lost(str(error)))
        finally:
            group.close()
            if replica is not None:
                replica.shares.close()


def train_share(settings: Settings, replica: Replica, group: Any, teller: Teller, faults: Faults | None = None) -> None:
    """Take all steps, with the other workers.

    Args:
        settings: The settings of the run.
        replica: The model, the optimizer and the data of this worker.
        group: The group of the workers.
        teller: Where progress is told.
        faults: What this worker brings about.
    """
    looks, looked = {0, *settings.looks}, -1
    finite = True
    while finite:
        step = group.begin(replica)
        if step in looks and step > looked:
            with group.busy("validation"):
                finite, looked = _validated(replica, teller), step
        if step >= settings.steps or not finite:
            break
        begun = time.perf_counter()
        view = group.view
        batch, own, total = replica.shares.at(step, view.rank, view.size)
        loss = replica.gradient(batch, view.rank)
        computed = time.perf_counter()
        if faults is not None:
            faults.strike(step, computed - begun, leads=view.rank == 0)
        sending = time.perf_counter()
        with measure(native=False) as traffic:
            try:
                group.average_(replica.exchanged, weight=own / total)
                completed = True
            except MembershipChanged:
                completed = False
        teller.ledger.add(view, traffic, completed=completed)
        if not completed:
            continue
        exchanged = time.perf_counter()
        replica.advance()
        group.completed(step)
        value = math.nan if loss is None else float(loss)
        times = sending - begun, exchanged - sending
        teller.taken(Taken(step, value, own, total, *times, replica.evaluations))
        finite = replica.finite
    if not finite and replica.step > looked:
        teller.tell(Looked(replica.step, math.inf, dict.fromkeys(replica.task.metrics, math.nan), time.time(), 0.0))
    teller.flush()
    teller.tell(
        Finished(
            workers=group.view.workers,
            digest=replica.digest(),
            diverged=not finite,
            state_bytes=replica.state_bytes,
            sizes=replica.sizes,
            remarks=[*teller.remarks, *replica.remarks],
            measured=replica.measured,
        )
    )


def _validated(replica: Replica, teller: Teller) -> bool:
    """Validate, tell the result, and return whether the loss is finite."""
    begun, clock = time.time(), time.perf_counter()
    loss, metrics = replica.validate()
    finite = math.isfinite(loss)
    teller.tell(Looked(replica.step, loss if finite else math.inf, metrics, begun, time.perf_counter() - clock))
    return finite
