"""Training while both cores are loaded by others: nobody may be taken for dead or late."""

from __future__ import annotations

import multiprocessing
import os
import time

from tests.communication.elastic.cluster import Cluster, assert_right

from steepest.communication import Deadlines, Ring


def burn() -> None:
    """Use a core."""
    while True:
        sum(range(100_000))


def loaded(minutes: float) -> tuple[str, bool]:
    """Train for so long; return the line of the table, and whether all is well."""
    burners = [multiprocessing.get_context("forkserver").Process(target=burn, daemon=True) for _ in range(2 * cores())]
    for burner in burners:
        burner.start()
    try:
        with Cluster(Ring(), pause=0.02, told=True, deadlines=Deadlines()) as cluster:
            cluster.found(range(4))
            end = time.monotonic() + 60 * minutes
            while time.monotonic() < end:
                cluster.listen(1.0)
                cluster.forget_steps()
            steps = cluster.end()
            results = cluster.finish(120)
            false = len(cluster.events("left out")) + len(cluster.events("died"))
            interrupted = len(cluster.events("interrupted"))
            assert_right(results, range(4), steps)
    finally:
        for burner in burners:
            burner.kill()
            burner.join()
    line = f"load              {minutes:g} minutes, {steps} steps, {false} false deaths, {interrupted} interruptions"
    return line, not false


def cores() -> int:
    """How many cores there are."""
    return len(os.sched_getaffinity(0))
