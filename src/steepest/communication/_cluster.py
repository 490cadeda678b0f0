"""The machines and the network that exchange gradients, as the numbers that a prediction needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from steepest import _check
from steepest.errors import InvalidArgument

__all__ = ["Cluster", "Heterogeneity", "Host", "Pieces", "Protocol", "checked_pieces"]

Pieces = tuple[tuple[float, float], ...]
NAMES = ("AllToAll", "ParameterServer", "Ring", "AllReduce")


def checked_pieces(name: str, pieces: Any) -> Pieces:
    """Return pairs (bytes, bandwidth) in increasing order of bytes, checked."""
    given = _check.instance(name, pieces, (tuple, list), "a sequence of pairs (bytes, bandwidth)")
    checked: list[tuple[float, float]] = []
    for pair in given:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise InvalidArgument(f"{name} must be pairs (bytes, bandwidth)", got=pair, remedy="Pass two numbers.")
        size = _check.in_range(f"{name}: the bytes", pair[0], "(0, inf)")
        bandwidth = _check.in_range(f"{name}: the bandwidth", pair[1], "(0, inf]")
        if checked and size <= checked[-1][0]:
            raise InvalidArgument(f"{name} must be in increasing order of bytes", got=pieces, remedy="Sort them.")
        checked.append((size, bandwidth))
    return tuple(checked)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What software and switches add to one latency and one bandwidth.

    A message of s bytes takes o + s_1 / B_1 + s_2 / B_2 + ... seconds at a port, where s_1 are its bytes up to the
    first size of `pieces`, s_2 those from there to the second size, and so on; the bytes beyond the last size travel
    at the cluster's bandwidth.

    Attributes:
        overhead: o, the seconds for which one message occupies a port whatever its size.
        pieces: Pairs (bytes, bandwidth) in increasing order of bytes: the bytes of a message below that size, which
            belong to no earlier pair, travel at this bandwidth in bytes per second.
        incast: By how much longer a port takes when all workers send to it at once, as they do to a parameter server.
        all_reduce: How the backend's own all-reduce works: as a "ring", or as the faster one of a ring and a
            double binary "tree", as NCCL's does.
        factors: By name of a scheme's class: by what its terms that count messages, and those that count bytes, are
            multiplied, as a pair. It stands for what one implementation does better or worse than another.

    >>> Protocol(overhead=2e-5, pieces=((65536, 1e9),)).overhead
    2e-05
    """

    overhead: float = 0.0
    pieces: Pieces = ()
    incast: float = 1.0
    all_reduce: str = "ring"
    factors: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]], hash=False)

    def __post_init__(self) -> None:
        _check.in_range("overhead", self.overhead, "[0, inf)")
        _check.in_range("incast", self.incast, "[1, inf)")
        _check.one_of("all_reduce", self.all_reduce, ("ring", "tree"))
        object.__setattr__(self, "pieces", checked_pieces("pieces", self.pieces))
        given: Any = _check.instance("factors", self.factors, Mapping, "a dict of pairs by name of a scheme")
        factors: dict[str, tuple[float, float]] = {}
        for name, pair in given.items():
            _check.one_of("factors", name, NAMES)
            two = _check.instance(f"factors[{name!r}]", pair, tuple, "a pair of numbers")
            if len(two) != 2:
                raise InvalidArgument(f"factors[{name!r}] must be a pair of numbers", got=pair, remedy="Pass two.")
            first, second = (_check.in_range(f"factors[{name!r}]", value, "(0, inf)") for value in two)
            factors[name] = (first, second)
        object.__setattr__(self, "factors", MappingProxyType(factors))

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled.
        return _protocol, (self.overhead, self.pieces, self.incast, self.all_reduce, dict(self.factors))


def _protocol(
    overhead: float, pieces: Pieces, incast: float, all_reduce: str, factors: dict[str, tuple[float, float]]
) -> Protocol:
    return Protocol(overhead=overhead, pieces=pieces, incast=incast, all_reduce=all_reduce, factors=factors)


@dataclass(frozen=True, kw_only=True)
class Host:
    """What workers on one machine share: its processors and its memory.

    All messages that the workers of a machine send cost, together, M (o_h + s_1 / B_1 + ...) seconds, on top of what
    the network takes: over loopback, sending is copying, and all workers copy with the same processors.

    Attributes:
        workers: How many workers share a machine; None: all of them.
        overhead: o_h, seconds per message.
        bandwidth: Bytes per second, of all workers of the machine together.
        pieces: As in `Protocol`, for this bandwidth.

    >>> Host(overhead=1e-4, bandwidth=3e9).workers is None
    True
    """

    workers: int | None = None
    overhead: float = 0.0
    bandwidth: float = math.inf
    pieces: Pieces = ()

    def __post_init__(self) -> None:
        if self.workers is not None:
            _check.at_least("workers", self.workers, 1)
        _check.in_range("overhead", self.overhead, "[0, inf)")
        _check.in_range("bandwidth", self.bandwidth, "(0, inf]")
        object.__setattr__(self, "pieces", checked_pieces("pieces", self.pieces))


@dataclass(frozen=True, kw_only=True)
class Heterogeneity:
    """How workers, and their steps, differ; only `simulate` uses it.

    Attributes:
        speed: The standard deviation of the logarithm of a worker's computing time, fixed for a run.
        links: The same of the inverse of its link's bandwidth.
        jitter: The same of the computing time from one step to the next.
        straggling: The probability that a worker becomes slow in a step.
        slowdown: By how much longer a slow worker computes.
        slow_steps: For how many steps it stays slow, on average (geometrically distributed).

    >>> Heterogeneity(jitter=0.05, straggling=1e-4, slowdown=10).slow_steps
    1.0
    """

    speed: float = 0.0
    links: float = 0.0
    jitter: float = 0.0
    straggling: float = 0.0
    slowdown: float = 1.0
    slow_steps: float = 1.0

    def __post_init__(self) -> None:
        # Three standard deviations beyond a factor of 1e13 are no cluster.
        for name in ("speed", "links", "jitter"):
            _check.in_range(name, getattr(self, name), "[0, 10]")
        _check.in_range("straggling", self.straggling, "[0, 1]")
        _check.in_range("slowdown", self.slowdown, "[1, 1e9]")
        _check.in_range("slow_steps", self.slow_steps, "[1, 1e9]")


@dataclass(frozen=True)
class Cluster:
    """Workers, and the network between them, as numbers.

    `steepest.communication.fit` finds them from measurements, `predict` and `simulate` use them. A link is full duplex:
    a worker sends and receives at the same time, each at the bandwidth.

    Attributes:
        workers: How many workers there are.
        latency: Seconds between the start of a message without content and its arrival.
        bandwidth: Bytes per second that one worker can send, and also receive.
        protocol: Overheads, and bandwidths that depend on the size of a message.
        host: What workers on one machine share; None: every worker has a machine of its own.
        compute: Seconds in which each of the workers computes its share of a step's gradient.
        heterogeneity: How workers differ.

    Raises:
        InvalidArgument: A number is out of its range.

    >>> cluster = Cluster(4, latency=50e-6, bandwidth=1.25e9)
    >>> cluster.workers
    4
    """

    workers: int
    latency: float
    bandwidth: float
    protocol: Protocol = Protocol()
    host: Host | None = None
    compute: float = 0.0
    heterogeneity: Heterogeneity = Heterogeneity()

    def __post_init__(self) -> None:
        _check.at_least("workers", self.workers, 1, most=10**9)
        _check.in_range("latency", self.latency, "[0, inf)")
        _check.in_range("bandwidth", self.bandwidth, "(0, inf]")
        _check.instance("protocol", self.protocol, Protocol, "a Protocol")
        _check.instance("host", self.host, (Host, type(None)), "a Host or None")
        _check.in_range("compute", self.compute, "[0, inf)")
        _check.instance("heterogeneity", self.heterogeneity, Heterogeneity, "a Heterogeneity")

    @classmethod
    def ethernet(cls, workers: int, gigabits: float = 10.0) -> Cluster:
        """Return hosts with one worker each behind a switch that lets all ports run at full speed.

        The bandwidth is what TCP leaves of the nominal one: with 1500-byte packets, 1448 bytes of payload for every
        1538 on the wire (RFC 894, IEEE 802.3, TCP with timestamps). A message takes 50 microseconds, a usual time for
        TCP over a switch in a data centre.

        Args:
            workers: How many.
            gigabits: The nominal bandwidth in Gbit/s.

        >>> round(Cluster.ethernet(4, gigabits=10).bandwidth / 1e9, 3)
        1.177
        """
        _check.in_range("gigabits", gigabits, "(0, 1e9)")
        return cls(workers, latency=50e-6, bandwidth=gigabits * 1e9 / 8 * 1448 / 1538)
