"""The steps of a simulated run, with deaths, slow workers and those that join."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from steepest.communication._cluster import Cluster
from steepest.communication._cost import Cost
from steepest.communication._faults import Faults
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._scheme import Scheme
from steepest.communication._simulation.draws import Draws
from steepest.communication._simulation.exchange import Exchange

__all__ = ["Run", "SimulationEvent"]

USUAL = 50
"""Of so many last steps the median is the usual one."""

RUNNING = 20
"""A worker is left out after so many slow steps in succession."""

SAMPLE = 10_000
"""Of more workers than that, the median computing time is that of every second, third ... worker."""

ATTEMPTS = 100
"""A run in which one step is begun so many times in vain makes no progress, and ends."""


@dataclass(frozen=True)
class SimulationEvent:
    """Something that happened in a simulated run.

    Attributes:
        kind: "died", "silent" (a death that only silence shows), "slow" (left out), "joined", "rejoined", or
            "recovered" (the group).
        time: Seconds since the start.
        step: How many steps were complete.
        worker: The number of the worker, that of a separate server being one more than the last worker's; None for the
            group.
        detail: More in words, or "".
    """

    kind: str
    time: float
    step: int
    worker: int | None
    detail: str = ""


@dataclass
class Run:
    """The state of a simulated run, which `advance` takes through one step.

    The numbers of `seconds` add up to the time: the median worker's computing; waiting for the slowest; exchanging what
    all have computed; lost (steps that are repeated, up to the fault); detecting; rebuilding; copying state.
    """

    scheme: Scheme
    cluster: Cluster
    parameters: int
    workers: int
    faults: Faults | None
    dtype: torch.dtype
    seed: int
    time: float = 0.0
    step: int = 0
    events: list[SimulationEvent] = field(default_factory=list[SimulationEvent])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    counts: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.draws = Draws(self.workers, self.cluster.heterogeneity, self.seed)
        self.here = np.ones(self.workers, dtype=bool)
        self.slow_for = np.zeros(self.workers, dtype=np.int64)
        self.usual: deque[float] = deque(maxlen=USUAL)
        self.left: set[int] = set()  # slow workers, which come back
        self.waiting: list[tuple[float, int]] = []  # replacements: when they are ready, and whose place they take
        self.acting = self.scheme  # with the server's successor, after its death
        self.seconds = dict.fromkeys(
            ("computing", "waiting", "exchanging", "lost", "detecting", "rebuilding", "copying"), 0.0
        )
        self.counts = dict.fromkeys(
            ("messages", "bytes", "lost_messages", "lost_bytes", "state_bytes", "deaths", "left", "joined", "repeated"),
            0,
        )
        self.changed()

    def changed(self) -> None:
        """Work out what depends on the members; the time of the next death is drawn anew, as it has no memory."""
        self.members: NDArray[np.int64] = np.flatnonzero(self.here)
        present = len(self.members)
        self.served = isinstance(self.acting, ParameterServer) and self.acting.server is None
        if present:
            self.price: Cost = self.acting.cost(present, self.parameters, self.dtype)
            size = float(self.parameters) * self.dtype.itemsize
            self.exchange = Exchange(self.acting, self.cluster, size, self.draws.links[self.members])
        between = math.inf if self.faults is None else self.faults.between
        self.dies = self.time + self.draws.until_death(present + self.served, between)

    def note(self, kind: str, worker: int) -> None:
        """Keep what happened to a worker, or to a separate server, whose number is negative here."""
        number, detail = (worker, "") if worker >= 0 else (self.workers, "the server")
        self.events.append(SimulationEvent(kind, self.time, self.step, number, detail))

    def advance(self) -> bool:
        """Complete one step; return False if no worker is left, or no attempt succeeds."""
        if self.faults is not None and (self.left or self.waiting):
            self.admit(self.faults)
        for _ in range(ATTEMPTS):
            if not len(self.members):
                return False
            # The global batch stays what it was: shares grow where workers are missing.
            share = self.cluster.compute * self.workers / len(self.members)
            computing = self.draws.computing(self.members, share)
            if self.faults is not None and self.late(computing, self.faults):
                continue
            last, middle = float(computing.max()), float(np.median(computing[:: 1 + len(computing) // SAMPLE]))
            took = self.exchange.end(computing)
            if self.faults is not None and self.dies < self.time + took:
                self.interrupted(last, took, self.faults)
                continue
            self.time += took
            self.draws.passed()
            self.usual.append(took)
            self.seconds["computing"] += middle
            self.seconds["waiting"] += last - middle
            self.seconds["exchanging"] += took - last
            self.counts["messages"] += self.price.messages
            self.counts["bytes"] += self.price.bytes
            self.step += 1
            if self.faults is not None:
                self.persistent(computing, middle)
            return True
        return False

    def late(self, computing: NDArray[np.float64], faults: Faults) -> bool:
        """Leave out who has not arrived at the deadline, if the others are a majority; return whether somebody was."""
        if not self.usual:
            return False
        usual = sorted(self.usual)[len(self.usual) // 2]
        deadline = max(faults.deadlines.step, faults.deadlines.patience * usual)
        late = self.members[computing > deadline]
        if not len(late) or 2 * (len(self.members) - len(late)) <= len(self.members):
            return False
        if self.dies < self.time + deadline:  # a death comes first, and everything is repeated anyway
            self.interrupted(deadline, deadline, faults)
            return True
        self.time += deadline
        self.seconds["lost"] += deadline
        self.counts["repeated"] += 1
        self.leave_out(late)
        self.rebuild(faults)
        return True

    def persistent(self, computing: NDArray[np.float64], middle: float) -> None:
        """Leave out, at the end of a step, who has been slow for many steps in succession."""
        assert self.faults is not None
        slow = computing > self.faults.deadlines.slow * middle
        if not slow.any() and not self.slow_for.any():
            return
        self.slow_for[self.members] = np.where(slow, self.slow_for[self.members] + 1, 0)
        out = np.flatnonzero((self.slow_for >= RUNNING) & self.here)
        if len(out) and 2 * (len(self.members) - len(out)) > len(self.members):
            self.leave_out(out)
            self.rebuild(self.faults)

    def leave_out(self, workers: NDArray[np.int64]) -> None:
        """Take slow workers out of the group; each comes back when it is fast again."""
        for worker in workers.tolist():
            self.note("slow", worker)
            self.left.add(worker)
        self.counts["left"] += len(workers)
        self.here[workers] = False
        self.slow_for[workers] = 0

    def interrupted(self, last: float, took: float, faults: Faults) -> None:
        """A death in the step under way: what it has cost so far is lost, and the survivors repeat it."""
        elapsed = self.dies - self.time
        done = min(max((elapsed - last) / (took - last), 0.0), 1.0) if took > last else 0.0
        self.counts["lost_messages"] += int(done * self.price.messages)
        self.counts["lost_bytes"] += int(done * self.price.messages) * self.price.bytes // max(self.price.messages, 1)
        self.counts["repeated"] += 1
        self.seconds["lost"] += elapsed
        self.time = self.dies
        self.mourn(faults)

    def mourn(self, faults: Faults) -> None:
        """One dies now: the others notice, and form a new group."""
        place = self.draws.victim(len(self.members) + self.served)
        silent = self.draws.happens(faults.silent)
        worker = int(self.members[place]) if place < len(self.members) else -1
        self.note("silent" if silent else "died", worker)
        self.counts["deaths"] += 1
        if worker < 0:
            self.acting = ParameterServer(server=0)
        else:
            self.here[worker] = False
            self.slow_for[worker] = self.draws.slow[worker] = 0
        if math.isfinite(faults.replacement):
            heapq.heappush(self.waiting, (self.time + faults.replacement, worker))
        noticed = faults.silence if silent else faults.detection
        self.time += noticed
        self.seconds["detecting"] += noticed
        self.rebuild(faults)

    def rebuild(self, faults: Faults, copying: float = 0.0) -> None:
        """Form a new group, and let who joins copy the state; another death meanwhile starts that again."""
        self.changed()
        for name, needed in (("rebuilding", faults.rebuild), ("copying", copying)):
            if self.dies < self.time + needed:
                self.seconds[name] += self.dies - self.time
                self.time = self.dies
                self.mourn(faults)
                return
            self.time += needed
            self.seconds[name] += needed
        self.events.append(SimulationEvent("recovered", self.time, self.step, None))

    def admit(self, faults: Faults) -> None:
        """At the boundary of a step, take in replacements that are ready and workers that are fast again."""
        present = len(self.members)
        joining = list(self._joining())
        if not joining or not present:
            return
        for kind, worker in joining:
            self.note(kind, worker)
            if worker < 0:
                self.acting = self.scheme
            else:
                self.here[worker] = True
        copies = sum(worker >= 0 for _, worker in joining)
        state = int(faults.state * self.parameters * self.dtype.itemsize)
        self.counts["joined"] += len(joining)
        self.counts["state_bytes"] += copies * state
        # Each of the present members sends to one at a time.
        rounds = math.ceil(copies / present)
        self.rebuild(faults, rounds * (self.cluster.latency + state / self.cluster.bandwidth))

    def _joining(self) -> Iterator[tuple[str, int]]:
        for worker in sorted(self.left):
            if not self.draws.slow[worker]:
                self.left.remove(worker)
                yield "rejoined", worker
        while self.waiting and self.waiting[0][0] <= self.time:
            yield "joined", heapq.heappop(self.waiting)[1]
