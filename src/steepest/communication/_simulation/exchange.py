"""When an exchange ends whose workers are ready at different times and have different links."""

from __future__ import annotations

import numpy as np

from steepest.communication._cluster import Cluster
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._pattern import Array
from steepest.communication._predict import Parts, parts
from steepest.communication._scheme import Scheme

__all__ = ["Exchange"]

BINS = 512


class Exchange:
    """One scheme among the present members of a cluster.

    A port serves one message at a time, in the order in which they come. A worker's messages are ready when its
    gradient is; one of a worker with a slower link occupies both ports for longer.

    Args:
        scheme: The scheme.
        cluster: The cluster.
        size: The bytes of a gradient.
        links: By how much longer a byte takes on each member's link; the first member serves, unless the scheme has a
            separate server.
    """

    def __init__(self, scheme: Scheme, cluster: Cluster, size: float, links: Array) -> None:
        self._n, self._links = len(links), links
        self._equal = bool(np.all(links == links[0]))
        self._slowest = float(links.max())
        self._parts: Parts = parts(scheme, cluster, np.asarray(size), np.asarray(float(self._n)))
        self._end = {"AllToAll": self._all_to_all, "ParameterServer": self._server}.get(
            self._parts.pattern.name, self._ring
        )
        self._separate = isinstance(scheme, ParameterServer) and scheme.server is None

    def end(self, ready: Array) -> float:
        """Return when all hold the mean; `ready` is when each holds its gradient."""
        if self._n == 1 and not self._separate:
            return float(ready[0])
        return self._end(ready)

    def _ring(self, ready: Array) -> float:
        # With equal links, or workers that are ready together, this is exact: 2(n - 1) rounds are enough for everyone
        # to have waited for everyone. Else it is an upper bound, too high by at most the time between the first and the
        # last that is ready.
        of = self._parts
        return float(ready.max()) + float(of.rounds + of.messages + of.incast + self._slowest * of.bytes)

    def _server(self, ready: Array) -> float:
        of = self._parts
        first = 0 if self._separate else 1  # the place of the first client
        clients = self._n - first
        links = self._links[first:] if self._separate else np.maximum(self._links[first:], self._links[0])
        message, byte, back = (float(x) / clients for x in (of.messages / 2, of.bytes, of.back))
        wide = np.maximum(links, 1.0) if self._separate else links
        arriving = message + byte * wide + float(of.incast) / clients
        gathered = _latest(ready[first:], arriving)
        if not self._separate:
            gathered = max(gathered, float(ready[0]))
        # The last piece goes back after all have arrived; all pieces go back after the last worker was ready.
        leaving = gathered + float((message + back * wide).sum())
        whole = float(ready.max()) + float((message + byte * wide).sum())
        return max(leaving, whole) + float(of.rounds)

    def _all_to_all(self, ready: Array) -> float:
        of, others = self._parts, self._n - 1
        message, byte = float(of.messages) / others, float(of.bytes) / others
        sent = float((ready + others * (message + byte * self._links)).max())
        if self._equal:  # whoever is ready last sends until after all have received what they could before
            return sent + float(of.rounds)
        slowest = int(np.argmax(self._links))
        received = _latest(np.delete(ready, slowest), np.full(others, message + byte * self._slowest))
        return max(sent, received) + float(of.rounds)


def _latest(ready: Array, service: Array) -> float:
    """Return when a port has served all messages, one at a time, in the order in which they are ready.

    It is the largest of ready_i + (the service of all that are ready then or later): the port is never idle after the
    largest one's time. It is found by sorting; before that, bins of times leave few candidates of a large number.
    """
    first, last = float(ready.min()), float(ready.max())
    after = 0.0
    if len(ready) > 10 * BINS and last > first:
        bins = np.minimum(((ready - first) * (BINS / (last - first))).astype(np.int64), BINS - 1)
        served = np.bincount(bins, weights=service, minlength=BINS)
        later = np.append(np.cumsum(served[::-1])[::-1], 0.0)  # served in this bin or after it
        edges = first + (last - first) * np.arange(BINS + 1) / BINS
        slack = 1e-9 * (last - first)  # a time at an edge may have been rounded into the next bin
        certain = float((edges[:-1] - slack + later[1:]).max())
        possible = np.flatnonzero(edges[1:] + slack + later[:-1] >= certain)
        low, high = int(possible[0]), int(possible[-1])
        after = float(later[high + 1])
        chosen = (bins >= low) & (bins <= high)
        ready, service = ready[chosen], service[chosen]
    order = np.argsort(ready)
    left = np.cumsum(service[order][::-1])[::-1]
    return float((ready[order] + left).max()) + after
