"""What each scheme costs with 100,000 workers that differ, become slow and die."""

from __future__ import annotations

import time

import torch

from benchmarks.harness import Row, Table
from steepest.communication import (
    AllReduce,
    AllToAll,
    Cluster,
    Faults,
    Heterogeneity,
    ParameterServer,
    Protocol,
    Ring,
    simulate,
)

WORKERS, STEPS = 100_000, 1000
SCHEMES = {
    "all-to-all": AllToAll(),
    "server, separate": ParameterServer(),
    "server on a worker": ParameterServer(server=0),
    "ring": Ring(),
    "ring or tree, as NCCL's": AllReduce(),
}


def run() -> Table:
    rows: list[Row] = []
    different = Heterogeneity(speed=0.03, links=0.05, jitter=0.03, straggling=1e-6, slowdown=10, slow_steps=30)
    cluster = Cluster(
        WORKERS,
        latency=5e-6,
        bandwidth=50e9,
        protocol=Protocol(all_reduce="tree"),
        compute=5.0,
        heterogeneity=different,
    )
    faults = Faults.of_job(WORKERS, between=14 * 60, silent=0.2, replacement=120, rebuild=10)
    for parameters in (1_000_000, 1_000_000_000):
        for name, scheme in SCHEMES.items():
            begun = time.perf_counter()
            made = simulate(scheme, cluster, parameters, STEPS, faults=faults, dtype=torch.bfloat16)
            took = time.perf_counter() - begun
            exact = made.steps == STEPS
            spent = made.spent
            lost = sum(spent[key] for key in ("lost", "detecting", "rebuilding", "copying"))
            rows.append((
                f"{parameters:,}",
                name,
                f"{made.steps:,}",
                f"{made.seconds / made.steps:.2f}" if made.steps else "never ends",
                f"{made.goodput:.1%}" if exact else "",
                f"{spent['exchanging'] / made.steps:.2f}" if made.steps else "",
                f"{spent['waiting'] / made.steps:.2f}" if made.steps else "",
                f"{lost / made.steps:.2f}" if made.steps else "",
                f"{made.deaths} / {made.left_out} / {made.repeated}",
                f"{made.bytes:,}",
                f"{took:.1f}",
            ))  # fmt: skip
    return Table(
        title=f"{WORKERS:,} workers, {STEPS:,} steps, simulated",
        method="5 s of computing per step, links of 400 Gbit/s and 5 us (both assumed), computing times and links that "
        "differ by 3 and 5%, one worker in a million becoming 10x slower in a step and for 30 steps; one failure of "
        "the job every 14 minutes (projected by Kokolis et al., 2024, to 131,072 GPUs), a fifth of them found by 5 s "
        "of silence, 10 s to form a new group, a replacement after 120 s. bfloat16. A run ends when one step has "
        "failed 100 times. Goal: at most 10 s to simulate.",
        columns=(
            "parameters",
            "scheme",
            "steps",
            "s / step",
            "computing",
            "exchange, s",
            "waiting, s",
            "lost, s",
            "deaths / left out / repeated",
            "bytes of all averagings",
            "s to simulate",
        ),
        rows=rows,
    )
