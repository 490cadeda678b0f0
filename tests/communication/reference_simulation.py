"""The obvious simulation of few workers: message by message, worker by worker, in plain Python.

It shares the random draws and the rules with steepest.communication.simulate, and none of its arithmetic.
"""

from __future__ import annotations

import heapq
import math
import statistics

from steepest.communication import AllToAll, ParameterServer, Ring
from steepest.communication._simulation.draws import Draws


def exchange_end(scheme, cluster, size, ready, links):
    """When all hold the sum, on a network without protocol and shared machines; links say how much slower each is."""
    n, latency, byte = len(ready), cluster.latency, 1 / cluster.bandwidth
    if isinstance(scheme, Ring):
        time = list(ready)
        for _ in range(2 * (n - 1)):
            arrived = [max(time[r], time[r - 1]) + latency + size / n * byte * links[r] for r in range(n)]
            time = arrived
        return max(time)
    if isinstance(scheme, AllToAll):
        ends = []
        for r in range(n):
            sent = ready[r]
            for _ in range(n - 1):
                sent += size * byte * links[r]
            received = 0.0
            for other in sorted(ready[:r] + ready[r + 1 :]):
                received = max(received, other) + size * byte * links[r]
            ends.append(max(sent, received) + (latency if n > 1 else 0.0))
        return max(ends)
    assert isinstance(scheme, ParameterServer)
    separate = scheme.server is None
    clients = list(range(n)) if separate else list(range(1, n))
    if not clients:
        return ready[0]
    link = {r: max(links[r], 1.0 if separate else links[0]) for r in clients}
    arrivals = [(ready[r], r) for r in clients]
    heapq.heapify(arrivals)
    time = 0.0
    while arrivals:
        came, r = heapq.heappop(arrivals)
        time = max(time, came) + size * byte * link[r]
    time = time + latency if separate else max(time, ready[0]) + latency
    for r in clients:
        time += size * byte * link[r]
    return time + latency


def simulated(scheme, cluster, parameters, steps, faults=None, seed=0):
    """The completed steps' ends and members, what was sent, and the events, as plain lists."""
    n, size = cluster.workers, 4 * parameters
    draws = Draws(n, cluster.heterogeneity, seed)
    import numpy as np

    members, time, step = list(range(n)), 0.0, 0
    acting, out, coming, slow_for, usual = scheme, set(), [], dict.fromkeys(range(n), 0), []
    ends, sizes, events, sent, state = [], [], [], 0, 0

    def separate():
        return isinstance(acting, ParameterServer) and acting.server is None

    def next_death():
        return time + draws.until_death(len(members) + separate(), math.inf if faults is None else faults.between)

    def dies_now():
        nonlocal acting, time
        place = draws.victim(len(members) + separate())
        silent = draws.happens(faults.silent)
        worker = members[place] if place < len(members) else n
        events.append(("silent" if silent else "died", time, worker))
        if worker == n:
            acting = ParameterServer(server=0)
        else:
            members.remove(worker)
            slow_for[worker] = draws.slow[worker] = 0
        if faults.replacement < math.inf:
            coming.append((time + faults.replacement, worker))
        time += faults.silence if silent else faults.detection

    def regroup(copying=0.0):
        nonlocal time, death
        while True:
            death = next_death()
            if death >= time + faults.rebuild + copying:
                time += faults.rebuild + copying
                return
            time = death
            dies_now()
            copying = 0.0

    death = next_death()
    while step < steps and members:
        if faults:
            back = sorted(w for w in out if not draws.slow[w])
            out -= set(back)
            new = sorted(pair for pair in coming if pair[0] <= time)
            coming = [pair for pair in coming if pair not in new]
            joining = [("rejoined", w) for w in back] + [("joined", w) for _, w in new]
            if joining:
                present = len(members)
                for kind, worker in joining:
                    events.append((kind, time, worker))
                    if worker == n:
                        acting = scheme
                    else:
                        members.append(worker)
                members.sort()
                copies = sum(worker < n for _, worker in joining)
                state += copies * int(faults.state * size)
                regroup(math.ceil(copies / present) * (cluster.latency + int(faults.state * size) / cluster.bandwidth))
        while members:
            computing = draws.computing(np.array(members), cluster.compute * n / len(members)).tolist()
            took = exchange_end(acting, cluster, size, computing, [float(draws.links[w]) for w in members])
            if faults and usual:
                limit = max(
                    faults.deadlines.step, faults.deadlines.patience * sorted(usual[-50:])[len(usual[-50:]) // 2]
                )
                late = [w for w, each in zip(members, computing, strict=True) if each > limit]
                if late and len(members) - len(late) > len(members) / 2:
                    if death < time + limit:
                        time = death
                        dies_now()
                    else:
                        time += limit
                        for worker in late:
                            events.append(("slow", time, worker))
                            members.remove(worker)
                            out.add(worker)
                            slow_for[worker] = 0
                    regroup()
                    continue
            if death < time + took:
                time = death
                dies_now()
                regroup()
                continue
            time += took
            draws.passed()
            usual.append(took)
            sent += acting.cost(len(members), parameters).bytes
            step += 1
            if faults:
                middle = statistics.median(computing)
                for worker, each in zip(members, computing, strict=True):
                    slow_for[worker] = slow_for[worker] + 1 if each > 3 * middle else 0
                late = [w for w in members if slow_for[w] >= 20]
                if late and len(members) - len(late) > len(members) / 2:
                    for worker in late:
                        events.append(("slow", time, worker))
                        members.remove(worker)
                        out.add(worker)
                        slow_for[worker] = 0
                    regroup()
            ends.append(time)
            sizes.append(len(members))
            break
    return ends, sizes, sent, state, events
