"""Run the benchmarks, print their tables and write them to `benchmarks/results`."""

from __future__ import annotations

import argparse
import importlib
import time
import warnings
from pathlib import Path

import torch

from benchmarks.harness import Table

SUBJECTS = (
    "imports",
    "train",
    "trial",
    "statistics",
    "optimizers",
    "polar",
    "monitor",
    "diagnosis",
    "rates",
    "implicit_bias",
    "linearize",
    "communication",
    "network",
    "prediction",
    "simulation",
    "estimator_audit",
    "estimators",
    "estimators_memory",
)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=SUBJECTS, metavar="NAME", help=f"one subject: {', '.join(SUBJECTS)}")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="torch")  # what peers ask of torch is not for these tables
    RESULTS.mkdir(exist_ok=True)
    for name in (only,) if only else SUBJECTS:
        start = time.perf_counter()
        tables = importlib.import_module(f"benchmarks.{name}").run()
        text = "\n".join(str(table) for table in ((tables,) if isinstance(tables, Table) else tables))
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
        print(f"{text}\n({name}: {time.perf_counter() - start:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
