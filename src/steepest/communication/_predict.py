"""How long one averaging takes on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from steepest import _check
from steepest.communication._cluster import Cluster, Pieces
from steepest.communication._parameter_server import PIECE_BYTES
from steepest.communication._pattern import Array, Pattern, pattern, tree
from steepest.communication._scheme import Scheme
from steepest.errors import InvalidArgument

__all__ = ["Parts", "overlapped", "parts", "predict", "segments", "whole_numbers"]

OVERLAP = 1.5
"""q: the larger it is, the more completely the network and the processors of a machine work at the same time."""


def predict(
    scheme: Scheme,
    cluster: Cluster,
    parameters: int | NDArray[np.int64],
    workers: int | NDArray[np.int64] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Return how many seconds one averaging takes when all workers start it at the same time.

    With messages of s bytes, R of them one after another, m at the busiest port and M from the busiest machine,

        T = (R latency + m (o + t(s))) (+) M (o_h + t_h(s)),    t(s) = s_1 / B_1 + s_2 / B_2 + ...,

    which is latency and bandwidth (Hockney's model) with terms for the software's protocol and for what the workers of
    one machine share. See `Protocol` and `Host` for the symbols. Network and machine overlap: where N is the time of
    the network and H that of the machine, (+) stands for (N^q + H^q)^(1/q), q = 1.5. On gloo, a server sends a piece
    of a mebibyte back as soon as it has summed it, while the next ones arrive: of its m messages, half count t of a
    whole message, and half t of a piece. For n workers and p parameters:

    | scheme | R | m | s |
    |---|---|---|---|
    | all-to-all | 1 | n - 1 | p |
    | parameter server, a separate process | 2 | 2n, of which n meet incast | p |
    | parameter server on a worker | 2 | 2(n - 1), of which n - 1 meet incast | p |
    | ring | 2(n - 1) | 2(n - 1) | p / n |

    Args:
        scheme: One of this package's schemes. The backend's own all-reduce is taken as a ring, or as the faster one of
            a ring and a tree, as the cluster's protocol says.
        cluster: The cluster.
        parameters: p, or an array of several.
        workers: n, or an array of several; by default the cluster's. Arrays are broadcast against each other.
        dtype: The type of a parameter.

    Returns:
        The seconds: a float, or an array if parameters or workers are.

    Raises:
        InvalidArgument: An argument is out of its range, or the server is none of the workers.

    >>> from steepest.communication import Ring
    >>> cluster = Cluster(4, latency=1e-4, bandwidth=1e9)
    >>> round(predict(Ring(), cluster, 1_000_000), 6)  # 6 rounds of 1e-4 s, and 6 MB at 1 GB/s
    0.0066
    """
    _check.instance("scheme", scheme, Scheme, "a scheme", remedy="Try Ring().")
    _check.instance("cluster", cluster, Cluster, "a Cluster")
    _check.instance("dtype", dtype, torch.dtype, "a torch.dtype", remedy="Try torch.float32.")
    p = whole_numbers("parameters", parameters, 0)
    n = whole_numbers("workers", cluster.workers if workers is None else workers, 1)
    try:
        p, n = np.broadcast_arrays(p, n)
    except ValueError as error:
        shapes = f"{p.shape} and {n.shape}"
        rule = "parameters and workers must have shapes that go together"
        raise InvalidArgument(rule, got=shapes, remedy="Try workers[:, None].") from error
    found = parts(scheme, cluster, p * float(dtype.itemsize), n).seconds
    return float(found) if found.ndim == 0 else found


@dataclass(frozen=True)
class Parts:
    """What one averaging consists of, when all start at the same time.

    Attributes:
        pattern: What the scheme asks of the cluster.
        rounds: Seconds of latency, R of them.
        messages: Seconds that messages cost whatever their size, at the busiest port and on its machine.
        bytes: Seconds that bytes take at the busiest port and on its machine.
        back: Seconds that bytes take on the way back from a server, after all have arrived there.
        incast: Seconds more because all send to one port.
    """

    pattern: Pattern
    rounds: Array
    messages: Array
    bytes: Array
    back: Array
    incast: Array

    @property
    def seconds(self) -> Array:
        """All of it."""
        return self.rounds + self.messages + self.bytes + self.back + self.incast


def parts(scheme: Scheme, cluster: Cluster, size: Array, workers: Array) -> Parts:
    """Return the parts of one averaging of gradients of `size` bytes over n workers."""
    host = None if cluster.host is None else cluster.host.workers
    asked = pattern(scheme, workers, host)
    if workers.size:
        scheme.cost(int(workers.min()), 0)  # It refuses a server outside of the workers.
    found = _parts(asked, cluster, size)
    if asked.name != "AllReduce" or cluster.protocol.all_reduce == "ring":
        return found
    share = np.ones_like(workers) if host is None else np.minimum(host / workers, 1.0)
    other = _parts(tree(workers, share), cluster, size)
    faster = other.seconds < found.seconds
    chosen = {
        name: np.where(faster, getattr(other, name), getattr(found, name))
        for name in ("rounds", "messages", "bytes", "back", "incast")
    }
    return Parts(asked, **chosen)


def _parts(asked: Pattern, cluster: Cluster, size: Array) -> Parts:
    protocol, host, s = cluster.protocol, cluster.host, size * asked.fraction
    slower, longer = protocol.factors.get(asked.name, (1.0, 1.0))
    rounds = slower * asked.rounds * cluster.latency
    messages = slower * (asked.port + asked.back) * protocol.overhead
    by_byte = longer * asked.port * segments(s, protocol.pieces, cluster.bandwidth)
    back = longer * asked.back * segments(np.minimum(s, PIECE_BYTES), protocol.pieces, cluster.bandwidth)
    incast = longer * asked.gathered * (protocol.incast - 1) * s / cluster.bandwidth
    if host is None:
        return Parts(asked, rounds, messages, by_byte, back, incast)
    copied = longer * segments(s, host.pieces, host.bandwidth)
    shared = slower * asked.host * host.overhead
    network = rounds + messages + by_byte + back + incast
    a, b = overlapped(network, shared + asked.host * copied)
    return Parts(
        asked,
        a * rounds,
        a * messages + b * shared,
        a * by_byte + b * (asked.host - asked.back) * copied,
        a * back + b * asked.back * copied,
        a * incast,
    )


def overlapped(network: Array, machine: Array) -> tuple[Array, Array]:
    """Return the weights a, b with a network + b machine = (network^q + machine^q)^(1/q)."""
    larger = np.maximum(network, machine)
    # One worker alone takes no time: where both are 0, they count as equal.
    x, y = (np.divide(each, larger, out=np.ones_like(larger), where=larger > 0) for each in (network, machine))
    total = (x**OVERLAP + y**OVERLAP) ** (1 / OVERLAP - 1)
    return x ** (OVERLAP - 1) * total, y ** (OVERLAP - 1) * total


def segments(size: Array, pieces: Pieces, bandwidth: float) -> Array:
    """Return s_1 / B_1 + s_2 / B_2 + ... of messages of `size` bytes."""
    seconds, start = np.zeros_like(size), 0.0
    for end, speed in pieces:
        seconds = seconds + np.clip(size - start, 0.0, end - start) / speed
        start = end
    return seconds + np.maximum(size - start, 0.0) / bandwidth


def whole_numbers(name: str, values: Any, least: int) -> Array:
    """Return one whole number, or an array of them, as floating-point numbers, checked."""
    if isinstance(values, np.ndarray) and values.ndim > 0:
        array = cast("NDArray[Any]", values)
        if array.dtype.kind not in "iu":
            raise InvalidArgument(f"{name} must be whole numbers", got=array.dtype, remedy="Try .astype(int).")
        if array.size and array.min() < least:
            raise InvalidArgument(f"{name} must be whole numbers >= {least}", got=int(array.min()), remedy="Check it.")
        return array.astype(np.float64)
    return np.asarray(float(_check.at_least(name, values, least, most=10**18)))
