"""A cluster's numbers from timed averagings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from steepest import _check
from steepest.communication._cluster import Cluster, Host, Pieces, Protocol
from steepest.communication._measurement import Measurement
from steepest.communication._nonnegative import robust_nonnegative
from steepest.communication._parameter_server import PIECE_BYTES
from steepest.communication._pattern import Array, Pattern, pattern
from steepest.communication._predict import overlapped
from steepest.errors import InvalidArgument

__all__ = ["fit"]

KNOTS = (4096.0, 65536.0, float(1 << 20), float(1 << 24), float(1 << 28))
"""Sizes of messages in bytes at which protocols and caches change; between them the time is linear in the size."""

ROUNDS = 8

PRIOR = 2.0
"""How many measurements the assumption counts as that an implementation is as good as the others."""


def fit(measurements: Sequence[Measurement]) -> Cluster:
    """Return the cluster that explains measured times best, in relative terms.

    The coefficients of `predict` (latency, overheads, bandwidths that depend on the size of a message, incast, what
    one machine shares) are found by least squares with coefficients >= 0, weighted so that outliers count little. Then
    every scheme gets two factors, of the terms that count messages and of those that count bytes, held near 1 as by
    two measurements more; coefficients and factors take turns. Sizes at which the bandwidth changes are used only as
    far as measurements on both sides determine them.

    Args:
        measurements: Times of one or more schemes, numbers of workers and sizes; at least two. See `measure_cluster`.

    Returns:
        A cluster of the largest measured number of workers; with a `Host` if workers shared a machine.

    Raises:
        InvalidArgument: There are fewer than two measurements of two workers or more.

    >>> from steepest.communication import Ring, predict
    >>> exact = Cluster(4, latency=1e-4, bandwidth=1e9)
    >>> sizes = [1000, 10_000, 100_000, 1_000_000, 10_000_000]
    >>> fitted = fit([Measurement(Ring(), 4, p, predict(Ring(), exact, p)) for p in sizes])
    >>> round(predict(Ring(), fitted, 300_000) / predict(Ring(), exact, 300_000), 3)
    1.0
    """
    given = _check.instance("measurements", measurements, (list, tuple), "a list of measurements")
    for each in given:
        _check.instance("measurements", each, Measurement, "a list of measurements")
    used = [each for each in cast("list[Measurement]", list(given)) if each.workers > 1]
    if len(used) < 2:
        rule = "measurements must hold at least two with two workers or more"
        raise InvalidArgument(rule, got=len(used), remedy="Measure several sizes, with measure_cluster.")
    table = _Table(used)
    factors = np.ones((len(table.names), 2))
    coefficients = table.coefficients(factors)
    for _ in range(ROUNDS):
        coefficients = table.coefficients(factors, coefficients)
        factors = table.factors(coefficients, factors)
    for _ in range(ROUNDS):
        coefficients = table.coefficients(factors, coefficients)
    return table.cluster(coefficients, factors)


class _Table:
    """Measurements as a linear problem: a column for each coefficient, split into messages and bytes."""

    def __init__(self, measurements: list[Measurement]) -> None:
        self.workers = max(each.workers for each in measurements)
        self.seconds = np.array([each.seconds for each in measurements])
        asked = [_asked(each) for each in measurements]
        sizes = np.array([
            each.parameters * each.dtype.itemsize * float(of.fraction)
            for each, of in zip(measurements, asked, strict=True)
        ])  # fmt: skip
        self.names = sorted({of.name for of in asked})
        self.scheme = np.array([self.names.index(of.name) for of in asked])
        self.shared = any(each.hosts is not None and each.hosts < each.workers for each in measurements)
        self.per_host = None
        if self.shared and any((each.hosts or each.workers) > 1 for each in measurements):
            self.per_host = max(math.ceil(each.workers / (each.hosts or each.workers)) for each in measurements)
        self.knots = _knots(sizes)
        segments = _segments(sizes, self.knots)
        column = {
            key: np.array([float(getattr(of, key)) for of in asked]) for key in ("rounds", "port", "back", "host")
        }
        gathered = np.array([float(of.gathered) for of in asked])
        # A ring's rounds and messages are the same number: overhead is told from latency by other schemes only.
        self.messages = np.stack([column["rounds"], column["port"] + column["back"]], axis=1)
        at_port = column["port"][:, None] * segments
        at_port += column["back"][:, None] * _segments(np.minimum(sizes, PIECE_BYTES), self.knots)
        self.bytes = np.concatenate([at_port, (gathered * sizes)[:, None]], axis=1)
        if len(self.names) == 1:
            self.messages[:, 1] = 0.0
            self.bytes[:, -1] = 0.0
        count = segments.shape[1]
        self.of_machine = np.array([False] * (2 + count + 1))
        if self.shared:
            self.of_machine = np.array([False, False, True] + [False] * (count + 1) + [True] * count)
            self.messages = np.concatenate([self.messages, column["host"][:, None]], axis=1)
            self.bytes = np.concatenate([self.bytes, column["host"][:, None] * segments], axis=1)

    def coefficients(self, factors: Array, before: Array | None = None) -> Array:
        """Return the coefficients that fit best, where the factors of the schemes are these.

        Network and machine overlap, which is linear in the coefficients around those of the round before.
        """
        columns = self._columns(factors)
        if self.shared and before is not None:
            a, b = overlapped(*self._network_and_machine(columns, before))
            columns = columns * np.where(self.of_machine, b[:, None], a[:, None])
        return robust_nonnegative(columns, self.seconds)

    def _columns(self, factors: Array) -> Array:
        slower, longer = factors[self.scheme, 0][:, None], factors[self.scheme, 1][:, None]
        return np.concatenate([slower * self.messages, longer * self.bytes], axis=1)

    def _network_and_machine(self, columns: Array, coefficients: Array) -> tuple[Array, Array]:
        times = columns * coefficients
        return times[:, ~self.of_machine].sum(axis=1), times[:, self.of_machine].sum(axis=1)

    def factors(self, coefficients: Array, before: Array) -> Array:
        """Return the factors of each scheme that fit best, where the coefficients are these."""
        split = self.messages.shape[1]
        times = self._columns(before) * coefficients
        if self.shared:
            a, b = overlapped(*self._network_and_machine(self._columns(before), coefficients))
            times = times * np.where(self.of_machine, b[:, None], a[:, None])
        old = before[self.scheme]
        parts = np.stack([times[:, :split].sum(axis=1), times[:, split:].sum(axis=1)], axis=1) / old
        found = np.ones((len(self.names), 2))
        if len(self.names) == 1:
            return found
        for index in range(len(self.names)):
            mine = self.scheme == index
            rows = parts[mine] / self.seconds[mine][:, None]
            prior = math.sqrt(PRIOR) * np.sqrt((rows**2).mean(axis=0) + 1e-12)
            # The prior is in the units of a row, so that robust weights treat both alike.
            held = np.concatenate([rows, np.diag(prior) / prior[:, None]])
            found[index] = np.clip(robust_nonnegative(held, np.ones(len(held))), 0.2, 5.0)
        return found

    def cluster(self, coefficients: Array, factors: Array) -> Cluster:
        """Return the cluster with these coefficients."""
        count = len(self.knots) + 1
        latency, overhead = coefficients[:2]
        split = self.messages.shape[1]
        port = coefficients[split : split + count]
        pieces, bandwidth = _pieces(self.knots, port)
        incast = 1.0
        if coefficients[split + count] > 0 and math.isfinite(bandwidth):
            incast = 1 + float(coefficients[split + count]) * bandwidth
        host = None
        if self.shared:
            shared, together = _pieces(self.knots, coefficients[split + count + 1 :])
            host = Host(workers=self.per_host, overhead=float(coefficients[2]), bandwidth=together, pieces=shared)
        named = {name: (float(a), float(b)) for name, (a, b) in zip(self.names, factors, strict=True)}
        protocol = Protocol(overhead=float(overhead), pieces=pieces, incast=incast, factors=named)
        return Cluster(self.workers, float(latency), bandwidth, protocol=protocol, host=host)


def _asked(measurement: Measurement) -> Pattern:
    hosts = measurement.workers if measurement.hosts is None else measurement.hosts
    per_host = math.ceil(measurement.workers / hosts)
    return pattern(measurement.scheme, np.asarray(float(measurement.workers)), per_host)


def _knots(sizes: Array) -> Array:
    """Return the sizes at which the bandwidth may change: those with a measured size before and two beyond."""
    distinct = np.unique(np.round(sizes))
    kept: list[float] = []
    below = 0.0
    for knot in KNOTS:
        if ((distinct > below) & (distinct <= knot)).sum() >= 1 and (distinct > knot).sum() >= 2:
            kept.append(knot)
            below = knot
    return np.array(kept)


def _segments(sizes: Array, knots: Array) -> Array:
    """Return how many bytes of each message lie in each segment, [messages, segments]."""
    ends, starts = np.append(knots, np.inf), np.insert(knots, 0, 0.0)
    return np.clip(sizes[:, None] - starts, 0.0, ends - starts)


def _pieces(knots: Array, inverse: Array) -> tuple[Pieces, float]:
    """Return pieces and the bandwidth of what is beyond, from seconds per byte."""
    speeds = [1 / float(value) if value > 1e-30 else math.inf for value in inverse]
    return tuple(zip((float(knot) for knot in knots), speeds[:-1], strict=True)), speeds[-1]
