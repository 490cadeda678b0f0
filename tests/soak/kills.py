"""Real kills at random moments: during steps, recoveries, formations, copies of the state, and of those who join."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from tests.communication.elastic.cluster import Cluster, undisturbed

from steepest.communication import AllReduce, AllToAll, Deadlines, GroupEvent, ParameterServer, Ring, Scheme

SCHEMES: dict[str, Callable[[], Scheme]] = {
    "ring": Ring,
    "all-to-all": AllToAll,
    "parameter-server": lambda: ParameterServer(0),
    "separate-server": ParameterServer,
    "all-reduce": AllReduce,
}
WORKERS = 4
A_LAUNCH = 25
"""Kills in one launch."""


def killed(name: str, kills: int, seed: int) -> tuple[str, bool]:
    """Kill so many processes of one scheme, replacing them; return the line of the table, and whether all is well."""
    chance = random.Random(f"{seed} {name}")
    detections: list[float] = []
    recoveries: list[float] = []
    wrong = hangs = done = 0
    while done < kills and not hangs:
        count = min(A_LAUNCH, kills - done)
        try:
            wrong += not launch(name, count, chance, detections, recoveries)
        except AssertionError as error:
            print(error)  # noqa: T201
            hangs += 1
        done += count
    p99, p50 = np.quantile(detections, 0.99), np.quantile(recoveries, 0.5)
    figures = [
        f"{what} p50 {np.median(seconds):.3f} s, p99 {np.quantile(seconds, 0.99):.3f} s ({len(seconds)})"
        for what, seconds in (("detection", detections), ("recovery", recoveries))
    ]
    line = f"{name:17} {done} kills, {hangs} hangs, {wrong} wrong results; {'; '.join(figures)}"
    return line, not hangs and not wrong and bool(p99 < 1.0) and bool(p50 < 0.3)


def launch(name: str, kills: int, chance: random.Random, detections: list[float], recoveries: list[float]) -> bool:
    """Train once with so many kills; return whether every survivor has the right result."""
    limits = Deadlines(give_up=60.0)
    has_server = name == "separate-server"
    next_worker = WORKERS + has_server
    at: dict[int, float] = {}
    servers = {WORKERS} if has_server else set[int]()
    with Cluster(SCHEMES[name](), pause=0.004, told=True, deadlines=limits, ballast=100_000) as cluster:
        cluster.found(range(WORKERS), servers=servers)
        cluster.reach(5)
        for _ in range(kills):
            cluster.listen(chance.choice([0.0, 0.002, 0.01, 0.05, 0.2]) * chance.random())
            steps = cluster.steps
            # One who has the state must live on: the joiners alone would have nothing to go on from.
            able = [worker for worker in cluster.living if worker not in at]
            holders = [w for w in able if w not in servers and (w < WORKERS or cluster.events("copied", seen_by=w))]
            victims = [worker for worker in able if len(holders) > 1 or worker not in holders]
            if victims:
                victim = chance.choice(victims)
                at[victim] = cluster.signal(victim)
            while len([worker for worker in cluster.living if worker not in at]) < WORKERS:
                is_server = has_server and not [server for server in servers if server not in at]
                if is_server:
                    servers.add(next_worker)
                cluster.join(next_worker, role="server" if is_server else "worker")
                next_worker += 1
            if chance.random() < 0.5:
                cluster.until(lambda steps=steps: cluster.steps > steps + 3, 60)
        steps = cluster.end()
        results = cluster.finish(60)
        detections += delays(cluster, at)
        recoveries += recovered(cluster, at)
        trained = [told for worker, told in results.items() if told[0] == "ended"]
        odd = [told for told in results.values() if told[0] in ("failed", "lost")]
        if odd:
            print(odd, cluster.story())  # noqa: T201
        expected = undisturbed(steps)
        errors = [(torch.tensor(told[3], dtype=torch.float64) - expected).abs().max().item() for told in trained]
        return bool(trained) and not odd and all(told[2] == steps for told in trained) and max(errors) < 1e-12


def delays(cluster: Cluster, at: dict[int, float]) -> list[float]:
    """The seconds from each kill of a member until a survivor had proof of it, for each survivor."""
    return [event.time - at[event.worker] for event in cluster.events("died") if event.worker in at]


def recovered(cluster: Cluster, at: dict[int, float]) -> list[float]:
    """The seconds from each kill of a member until the first step that was completed after the next view."""
    found = []
    deaths = {event.worker: event for event in cluster.events("died") if event.worker in at}
    ends = sorted(told.time for _, _, told in cluster.log if isinstance(told, GroupEvent) and told.kind == "recovered")
    for worker in deaths:
        when = at[worker]
        after = next((end for end in ends if end > when), None)
        if after is not None:
            found.append(after - when)
    return found
