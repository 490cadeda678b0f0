"""A worker that becomes ten times slower, and fast again."""

from __future__ import annotations

import statistics

from tests.communication.elastic.cluster import Cluster, assert_right

from steepest.communication import Deadlines, Ring


def slowed() -> tuple[str, bool]:
    """Return the line of the table, and whether all is well."""
    with Cluster(Ring(), pause=0.02, told=True, deadlines=Deadlines()) as cluster:
        cluster.found(range(3))
        cluster.reach(60)
        healthy = statistics.mean(durations(cluster, 5, 55))
        cluster.join(7, slowness=0.2, fast_after="copied twice")
        cluster.until(lambda: cluster.events("left out", worker=7, seen_by=0), 60)
        first = cluster.events("left out", worker=7, seen_by=0)[0].step
        cluster.until(lambda: cluster.steps > first + 52, 60)
        after = statistics.mean(durations(cluster, first + 1, first + 51))
        cluster.speed_up(7)
        cluster.until(lambda: cluster.events("rejoined", worker=7, seen_by=0), 60)
        steps = cluster.end()
        assert_right(cluster.finish(), [0, 1, 2, 7], steps)
    ratio = after / healthy
    line = f"slow worker (10x) left out; the mean of the 50 steps after it was {ratio:.2f} healthy steps; it rejoined"
    return line, ratio <= 1.3


def durations(cluster: Cluster, first: int, last: int) -> list[float]:
    """The durations of some steps of worker 0, in seconds."""
    told = [entry for _, who, entry in cluster.log if who == 0 and isinstance(entry, tuple) and entry[0] == "step"]
    times = {entry[3]: entry[1] for entry in told}
    return [times[step] - times[step - 1] for step in range(first, last)]
