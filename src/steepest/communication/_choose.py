"""Which scheme is the fastest on a cluster, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from steepest import _check
from steepest.communication._all_to_all import AllToAll
from steepest.communication._cluster import Cluster
from steepest.communication._faults import Faults
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._predict import predict
from steepest.communication._ring import Ring
from steepest.communication._scheme import Scheme
from steepest.errors import InvalidArgument

__all__ = ["Choice", "choose"]

TIE = 1.05


@dataclass(frozen=True)
class Choice:
    """The schemes by their predicted seconds per step, the fastest first.

    Attributes:
        schemes: The schemes in this order.
        seconds: The seconds per completed step of each: computing, exchange, and the share of deaths.
        exchange: The seconds of one exchange of each.

    >>> from steepest.communication import AllToAll, Ring
    >>> print(Choice((Ring(), AllToAll()), (0.01, 0.03), (0.01, 0.03)))
    Ring(): 0.01 s per step; AllToAll() takes 3.00 times as long
    """

    schemes: tuple[Scheme, ...]
    seconds: tuple[float, ...]
    exchange: tuple[float, ...]

    @property
    def best(self) -> Scheme:
        """The fastest scheme."""
        return self.schemes[0]

    @property
    def tied(self) -> tuple[Scheme, ...]:
        """All schemes within 5% of the fastest, which a prediction cannot tell apart."""
        limit = TIE * self.seconds[0]
        return tuple(scheme for scheme, each in zip(self.schemes, self.seconds, strict=True) if each <= limit)

    def __str__(self) -> str:
        fastest, others = self.seconds[0], len(self.tied)
        if math.isinf(fastest):
            return "deaths are too frequent for any of the schemes to complete a step"
        head = " and ".join(map(repr, self.tied)) + (" tie (within 5%)" if others > 1 else "")
        told = [f"{head}: {fastest:.4g} s per step"]
        for scheme, each in zip(self.schemes[others:], self.seconds[others:], strict=True):
            if math.isinf(each):
                told.append(f"{scheme!r} never completes a step")
            elif fastest == 0:  # One worker alone has nothing to exchange.
                told.append(f"{scheme!r} takes {each:.4g} s")
            else:
                told.append(f"{scheme!r} takes {each / fastest:.2f} times as long")
        return "; ".join(told)


def choose(
    cluster: Cluster,
    parameters: int,
    workers: int | None = None,
    *,
    schemes: Sequence[Scheme] | None = None,
    faults: Faults | None = None,
    dtype: torch.dtype = torch.float32,
) -> Choice:
    """Return the schemes by their predicted time per step, and so which to use.

    A step takes T = computing + `predict(...)` when nobody dies. If deaths come at a rate r (of all processes together)
    and each costs R seconds of detection and rebuilding, after which the step is repeated, a completed step takes

        (exp(r T) - 1) (1 / r + R)

    seconds on average: the mean time until T seconds pass without a death. Slow workers are left to `simulate`.

    Args:
        cluster: The cluster.
        parameters: p.
        workers: n; by default the cluster's.
        schemes: The candidates; by default all-to-all, a parameter server in a process of its own and on a worker, and
            ring.
        faults: How often workers die, and what that costs; None: nobody dies.
        dtype: The type of a parameter.

    Returns:
        The choice; `print` says which and by how much.

    Raises:
        InvalidArgument: An argument is out of its range.

    >>> print(choose(Cluster.ethernet(4), 1_000_000, schemes=[AllToAll(), Ring()]))
    Ring(): 0.005398 s per step; AllToAll() takes 1.90 times as long
    """
    _check.instance("cluster", cluster, Cluster, "a Cluster")
    parameters = _check.at_least("parameters", parameters, 0, most=10**18)
    n = _check.at_least("workers", cluster.workers if workers is None else workers, 1, most=10**9)
    _check.instance("faults", faults, (Faults, type(None)), "a Faults or None")
    given: Any = (AllToAll(), ParameterServer(), ParameterServer(server=0), Ring()) if schemes is None else schemes
    if not isinstance(given, (list, tuple)) or not given:
        raise InvalidArgument("schemes must be a list of schemes", got=schemes, remedy="Try [Ring(), AllToAll()].")
    found: list[tuple[float, float, Scheme]] = []
    for scheme in cast("Sequence[Any]", given):
        exchange = float(predict(scheme, cluster, parameters, n, dtype=dtype))
        processes = n + (isinstance(scheme, ParameterServer) and scheme.server is None)
        found.append((_per_step(cluster.compute + exchange, processes, faults), exchange, scheme))
    found.sort(key=lambda each: each[0])
    seconds, exchanges, ordered = zip(*found, strict=True)
    return Choice(ordered, seconds, exchanges)


def _per_step(seconds: float, processes: int, faults: Faults | None) -> float:
    if faults is None or math.isinf(faults.between):
        return seconds
    rate = processes / faults.between
    noticed = faults.silent * faults.silence + (1 - faults.silent) * faults.detection
    if rate * seconds > 700:  # beyond floating point
        return math.inf
    return math.expm1(rate * seconds) * (1 / rate + noticed + faults.rebuild)
