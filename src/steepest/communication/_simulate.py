"""The simulation of a run of up to a hundred thousand workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from steepest import _check
from steepest.communication._cluster import Cluster
from steepest.communication._faults import Faults
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._predict import parts
from steepest.communication._scheme import Scheme
from steepest.communication._simulation.run import Run, SimulationEvent

__all__ = ["Simulation", "SimulationEvent", "simulate"]


@dataclass(frozen=True)
class Simulation:
    """A simulated run.

    Attributes:
        scheme: What averaged.
        workers: How many workers began.
        steps: How many steps were completed; fewer than asked for if no worker was left, or if one step was cut short
            100 times because deaths are more frequent than steps.
        seconds: How long the run took.
        step_seconds: How long each completed step took, with what went wrong before it was completed, [steps].
        members: How many workers completed each step, [steps].
        spent: `seconds` by what they were spent for: "computing" (of the median worker), "waiting" (for the slowest),
            "exchanging", "lost" (steps that were repeated, up to the fault), "detecting", "rebuilding", "copying".
        messages: Messages of all completed averagings.
        bytes: Their payload.
        lost_messages: Messages of averagings that a death cut short, taken as evenly spread over the exchange.
        lost_bytes: Their payload.
        state_bytes: What workers copied that joined or came back.
        deaths: How many workers or servers died.
        left_out: How many times a slow worker was left out.
        joined: How many times one joined or came back.
        repeated: How many steps were begun and repeated.
        events: What happened, in order.
    """

    scheme: Scheme
    workers: int
    steps: int
    seconds: float
    step_seconds: NDArray[np.float64]
    members: NDArray[np.int64]
    spent: dict[str, float]
    messages: int
    bytes: int
    lost_messages: int
    lost_bytes: int
    state_bytes: int
    deaths: int
    left_out: int
    joined: int
    repeated: int
    events: tuple[SimulationEvent, ...]

    @property
    def goodput(self) -> float:
        """The share of the time in which the median worker computed what counted."""
        return self.spent["computing"] / self.seconds if self.seconds else 1.0


def simulate(
    scheme: Scheme,
    cluster: Cluster,
    parameters: int,
    steps: int = 1000,
    *,
    workers: int | None = None,
    faults: Faults | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Simulation:
    """Simulate training steps: all workers compute, then average; workers differ, become slow, die and join.

    A step begins when the last one has ended for all. Each worker's gradient is ready after a computing time of its
    own, and messages wait for the gradient that they carry and for their turn at a port: a server takes early gradients
    while it waits for late ones, a ring waits for the last. With equal workers and links and without faults, a step
    takes the computing time plus `predict(scheme, cluster, parameters)` exactly. What faults cost is described in
    `Faults`.

    Args:
        scheme: One of this package's schemes.
        cluster: The cluster, with its computing time and heterogeneity.
        parameters: p.
        steps: How many steps to complete.
        workers: n; by default the cluster's.
        faults: Deaths and slow workers; None: nobody dies, and slow workers are waited for.
        dtype: The type of a parameter.
        seed: Of the random numbers; the same seed gives the same run.

    Returns:
        Times, exact numbers of messages and bytes, and events.

    Raises:
        InvalidArgument: An argument is out of its range.

    >>> from steepest.communication import Ring
    >>> cluster = Cluster(4, latency=1e-4, bandwidth=1e9, compute=0.01)
    >>> run = simulate(Ring(), cluster, 1_000_000, steps=10)
    >>> round(run.seconds, 6), run.messages, run.bytes  # 10 (0.01 + 6 (1e-4 + 1e6 / 1e9)) s
    (0.166, 240, 240000000)
    """
    _check.instance("scheme", scheme, Scheme, "a scheme", remedy="Try Ring().")
    _check.instance("cluster", cluster, Cluster, "a Cluster")
    parameters = _check.at_least("parameters", parameters, 0, most=10**18)
    steps = _check.at_least("steps", steps, 0, most=10**7)
    n = _check.at_least("workers", cluster.workers if workers is None else workers, 1, most=10**7)
    _check.instance("faults", faults, (Faults, type(None)), "a Faults or None")
    _check.instance("dtype", dtype, torch.dtype, "a torch.dtype", remedy="Try torch.float32.")
    seed = _check.at_least("seed", seed, 0, most=2**64 - 1)
    parts(scheme, cluster, np.asarray(0.0), np.asarray(float(n)))  # refuses an unknown scheme or server
    if isinstance(scheme, ParameterServer) and scheme.server is not None:
        scheme = ParameterServer(server=0)  # the lowest member serves; which one it is makes no difference here
    run = Run(scheme, cluster, parameters, n, faults, dtype, seed)
    ends, members = [0.0], []
    while run.step < steps and run.advance():
        ends.append(run.time)
        members.append(int(run.here.sum()))
    counts = run.counts
    return Simulation(
        scheme=scheme,
        workers=n,
        steps=run.step,
        seconds=run.time,
        step_seconds=np.diff(ends),
        members=np.array(members, dtype=np.int64),
        spent=run.seconds,
        messages=counts["messages"],
        bytes=counts["bytes"],
        lost_messages=counts["lost_messages"],
        lost_bytes=counts["lost_bytes"],
        state_bytes=counts["state_bytes"],
        deaths=counts["deaths"],
        left_out=counts["left"],
        joined=counts["joined"],
        repeated=counts["repeated"],
        events=tuple(run.events),
    )
