"""All schemes between hosts whose links are limited: network namespaces of one machine, at a switch, with `tc`."""

from __future__ import annotations

from tests.communication.namespaces import ETHERNET, hosts, missing

from benchmarks.harness import Row, Table
from steepest.communication import (
    AllReduce,
    AllToAll,
    Cluster,
    Measurement,
    ParameterServer,
    Ring,
    busbw,
    measure_cluster,
    predict,
)

MEGABITS = 100
SIZES = (1, 10_000, 100_000, 1_000_000)
COUNTS = (2, 3, 4)
SECONDS = 45.0
NAMES = {
    "AllToAll": "all-to-all",
    "ParameterServer": "server on a worker",
    "Ring": "ring",
    "AllReduce": "gloo's all-reduce",
}


def run() -> Table:
    title = f"Exchanges between hosts with {MEGABITS} Mbit/s each"
    columns = ("workers", "parameters", "scheme", "ms", "formula, ms", "ms / formula", "ms / ring", "busbw, Mbit/s")
    if why := missing():
        return Table(title=title, method=f"Not measured: {why}.", columns=columns, rows=())
    with hosts(max(COUNTS), megabits=MEGABITS) as together:
        measured: list[Measurement] = together.run(_measured, timeout=10 * SECONDS)[0]
    bandwidth = MEGABITS * 1e6 / 8 * ETHERNET
    over_server = [m.seconds for m in measured if m.workers == 2 and isinstance(m.scheme, ParameterServer)]
    latency = min(over_server) / 2
    cluster = Cluster(max(COUNTS), latency=latency, bandwidth=bandwidth)
    ring = {(m.workers, m.parameters): m.seconds for m in measured if isinstance(m.scheme, Ring)}
    rows: list[Row] = []
    for each in measured:
        formula = predict(each.scheme, cluster, each.parameters, each.workers)
        rows.append((
            str(each.workers),
            f"{each.parameters:,}",
            NAMES[type(each.scheme).__name__],
            f"{each.seconds * 1e3:.2f}",
            f"{formula * 1e3:.2f}",
            f"{each.seconds / formula:.2f}",
            f"{each.seconds / ring[each.workers, each.parameters]:.2f}",
            f"{busbw(each.seconds, each.parameters, each.workers) * 8e-6:.1f}",
        ))  # fmt: skip
    return Table(
        title=title,
        method="Each worker is in a network namespace with its own link to a bridge, limited by tc in both directions; "
        f"of {MEGABITS} Mbit/s, headers leave {bandwidth * 8e-6:.1f}. Exchanges follow one another, median of blocks. "
        f"The formula is that of `predict` with this bandwidth and a latency of {latency * 1e3:.2f} ms (half of the "
        "fastest exchange of two workers over a server), nothing fitted. All workers share the processors of one "
        "machine, which costs what small gradients take; tc lets the first 32 kB of a burst through at once.",
        columns=columns,
        rows=rows,
    )


def _measured() -> list[Measurement]:
    schemes = [AllToAll(), ParameterServer(server=0), Ring(), AllReduce()]
    return measure_cluster(schemes, SIZES, COUNTS, seconds=SECONDS)
