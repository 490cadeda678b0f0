"""What `fit` foresees of this machine: unseen sizes and numbers of workers, and which scheme is the fastest."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.harness import Row, Table
from steepest.communication import (
    AllReduce,
    Cluster,
    Measurement,
    choose,
    fit,
    launch,
    measure_cluster,
    predict,
)

SIZES = (1, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
COUNTS = (2, 3, 4, 6, 8)
SECONDS = 120.0
TIE = 1.05

# us by bytes, 16 GPUs on two nodes: NVIDIA's published results of nccl-tests' all_reduce_perf.
PUBLIC = {
    "16 H100": {8: 69.12, 1 << 20: 123.2, 1 << 24: 298.1, 1 << 27: 870.3, 1 << 30: 4607.6, 1 << 34: 66132},
    "16 A100": {8: 164.3, 1 << 20: 309.4, 1 << 27: 3912.9, 1 << 31: 51406},
}


def run() -> tuple[Table, Table]:
    first, second = _measured(), _measured()
    return this_machine(first, second), _public_tables()


def _measured() -> list[Measurement]:
    return launch(_measure, max(COUNTS), timeout=900)[0]


def _measure() -> list[Measurement]:
    return measure_cluster(None, SIZES, COUNTS, seconds=SECONDS)


def this_machine(first: list[Measurement], second: list[Measurement]) -> Table:
    again = [abs(b.seconds / a.seconds - 1) for a, b in zip(first, second, strict=True)]
    judged = [replace(a, seconds=(a.seconds * b.seconds) ** 0.5) for a, b in zip(first, second, strict=True)]
    rows: list[Row] = [("the same measured again (noise)", *_errors(again), "", "")]
    splits: list[tuple[str, Sequence[Callable[[Measurement], bool]]]] = [
        ("nothing held out", [lambda _each: True]),
        ("sizes held out (every second one)", [lambda each: SIZES.index(each.parameters) % 2 == 1]),
        ("3, 4, 6 workers held out, each in turn", [lambda each, n=n: each.workers == n for n in COUNTS[1:-1]]),
        ("2 or 8 workers held out: extrapolation", [lambda each, n=n: each.workers == n for n in (2, 8)]),
        ("3 and 6 workers held out", [lambda each: each.workers in (3, 6)]),
        ("both: those sizes of 3 and 6 workers", [_both]),
    ]
    for name, held in splits:
        errors: list[float] = []
        chosen: list[tuple[bool, float]] = []
        for is_held in held:
            if name.startswith("nothing"):
                seen = first
            elif name.startswith("both"):
                seen = [m for m in first if m.workers not in (3, 6) and SIZES.index(m.parameters) % 2 == 0]
            else:
                seen = [each for each in first if not is_held(each)]
            unseen = [each for each in first if is_held(each)]
            cluster = fit(seen)
            timed = [both for both in judged if is_held(both)]
            errors += [abs(predict(m.scheme, cluster, m.parameters, m.workers) / m.seconds - 1) for m in unseen]
            chosen += _choices(cluster, timed)
        right = sum(is_right for is_right, _ in chosen)
        told = f"{right} of {len(chosen)} ({right / len(chosen):.0%})"
        rows.append((name, *_errors(errors), told, _regret([regret for _, regret in chosen])))
    return Table(
        title="Predicted times of an exchange on this machine",
        method="All-to-all, a server on a worker, ring and gloo's all-reduce over loopback, "
        f"{min(COUNTS)} to {max(COUNTS)} workers, 1 to {max(SIZES):,} parameters, {len(first)} medians. The choice is "
        f"between our three schemes, right if the chosen one took at most {TIE - 1:.0%} more than the fastest; regret "
        "is the factor by which it took longer. Fitted to one round of measurements; choices are judged by the "
        "geometric mean of it and a second round. Goals: a median error of at most 20% on what was held out, right in "
        "90%, a regret of at most 1.2.",
        columns=("of", "median error", "90% of errors below", "right choice", "mean (worst) regret"),
        rows=rows,
    )


def _both(each: Measurement) -> bool:
    return each.workers in (3, 6) and SIZES.index(each.parameters) % 2 == 1


def _choices(cluster: Cluster, measured: list[Measurement]) -> list[tuple[bool, float]]:
    """Whether the scheme that is chosen was the fastest, and how much longer it took, for each size and number."""
    found: list[tuple[bool, float]] = []
    key = lambda each: (each.workers, each.parameters)  # noqa: E731
    for (n, p), cases in itertools.groupby(sorted(measured, key=key), key):
        ours = {each.scheme: each.seconds for each in cases if not isinstance(each.scheme, AllReduce)}
        best = choose(cluster, p, n, schemes=list(ours)).best
        regret = ours[best] / min(ours.values())
        found.append((regret <= TIE, regret))
    return found


def _regret(regrets: list[float]) -> str:
    return f"{statistics.fmean(regrets):.3f} ({max(regrets):.2f})"


def _errors(errors: list[float]) -> tuple[str, str]:
    return f"{statistics.median(errors):.1%}", f"{float(np.quantile(errors, 0.9)):.1%}"


def _public_tables() -> Table:
    rows: list[Row] = []
    for name, table in PUBLIC.items():
        measured = [Measurement(AllReduce(), 16, size // 4, us * 1e-6) for size, us in table.items()]
        cluster = fit(measured)
        size, us = np.array(list(table), dtype=float), np.array(list(table.values()))
        plain = np.linalg.lstsq(np.stack([1 / us, size / us], axis=1), np.ones(len(us)), rcond=None)[0]
        two = np.abs((plain[0] + plain[1] * size) / us - 1)
        ours = np.array([abs(predict(m.scheme, cluster, m.parameters) / m.seconds - 1) for m in measured])
        left = np.array([
            abs(predict(m.scheme, fit([o for o in measured if o is not m]), m.parameters) / m.seconds - 1)
            for m in measured[1:-1]
        ])  # fmt: skip
        shown = (f"{np.median(x):.1%} ({x.max():.1%})" for x in (two, ours, left))
        rows.append((f"{name}, {len(table)} sizes", *shown))
    return Table(
        title="Public tables of NCCL's all-reduce",
        method="Median relative error (and the largest) over the published sizes; with one size left out, on that "
        "size, which then lies between neighbours that differ by factors of 16 to 131,072.",
        columns=("table", "one latency and one bandwidth", "`fit`", "`fit`, each inner size left out"),
        rows=rows,
    )
