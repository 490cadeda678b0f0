"""What a scheme asks of a cluster: rounds, and messages at the busiest port and of the busiest machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steepest.communication._all_reduce import AllReduce
from steepest.communication._all_to_all import AllToAll
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._ring import Ring
from steepest.communication._scheme import Scheme
from steepest.errors import InvalidArgument

__all__ = ["Pattern", "pattern", "tree"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pattern:
    """One averaging over n workers.

    Attributes:
        name: The class of the scheme.
        rounds: How many messages must follow one another.
        port: How many messages pass the busiest port in one direction, one after another.
        back: How many messages pass it in the other direction after these, in pieces: a piece leaves as soon as it has
            been summed, while later ones arrive, so that only the last piece of each comes on top.
        gathered: How many messages arrive at that port at once from different workers.
        host: How many messages the workers of the busiest machine send.
        fraction: The size of a message: this times that of the gradient.
    """

    name: str
    rounds: Array
    port: Array
    back: Array
    gathered: Array
    host: Array
    fraction: Array


def pattern(scheme: Scheme, workers: Array, host_workers: int | None) -> Pattern:
    """Return the pattern of a scheme.

    Args:
        scheme: One of this package's schemes.
        workers: n, of any shape.
        host_workers: How many workers share a machine; None: all of them.

    Raises:
        InvalidArgument: The scheme is none of this package's.
    """
    for kind, of in _PATTERNS.items():
        if isinstance(scheme, kind):
            share = np.ones_like(workers) if host_workers is None else np.minimum(host_workers / workers, 1.0)
            return of(scheme, workers, share)
    raise InvalidArgument(
        "scheme must be one of AllToAll, ParameterServer, Ring, AllReduce", got=scheme, remedy="Pass one, as Ring()."
    )


def _all_to_all(_scheme: Any, n: Array, share: Array) -> Pattern:
    none, one = np.zeros_like(n), np.ones_like(n)
    return Pattern("AllToAll", np.minimum(n - 1, 1), n - 1, none, none, n * (n - 1) * share, one)


def _server(scheme: Any, n: Array, _share: Array) -> Pattern:
    clients = n if scheme.server is None else n - 1
    # All messages pass the server, and so the machine where it runs.
    rounds = 2 * np.minimum(clients, 1)
    return Pattern("ParameterServer", rounds, clients, clients, clients, 2 * clients, np.ones_like(n))


def _ring(_scheme: Any, n: Array, share: Array) -> Pattern:
    rounds, none = 2 * (n - 1), np.zeros_like(n)
    return Pattern("Ring", rounds, rounds, none, none, n * rounds * share, 1 / n)


def _all_reduce(scheme: Any, n: Array, share: Array) -> Pattern:
    return replace(_ring(scheme, n, share), name="AllReduce")


def tree(n: Array, share: Array) -> Pattern:
    """Return the pattern of a double binary tree in which messages travel in many pieces.

    Every worker receives the whole gradient once on the way up and once on the way down, each half in one of the two
    trees, so that a port passes 2p parameters; a first piece needs 2 log2(n) rounds (Sanders, Speck, Traff, 2009).
    """
    depth = np.ceil(np.log2(np.maximum(n, 1)))
    moves, none = np.minimum(n - 1, 1), np.zeros_like(n)
    return Pattern("AllReduce", 2 * depth, 2 * moves, none, none, 2 * (n - 1) * share, np.ones_like(n))


_PATTERNS: dict[type[Scheme], Callable[[Any, Array, Array], Pattern]] = {
    AllToAll: _all_to_all,
    ParameterServer: _server,
    Ring: _ring,
    AllReduce: _all_reduce,
}
