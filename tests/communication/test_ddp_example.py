"""The example of a DistributedDataParallel program is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from examples import ddp_hook

from steepest.communication import Ring, launch

ROOT = Path(__file__).parents[2]
PARAMETERS = 8 * 64 + 64 + 64 + 1


@pytest.mark.slow  # torch's optimizers import torch's compiler in every worker, for seconds.
def test_the_example_learns_and_sends_what_the_formula_says():
    results = launch(ddp_hook.train, 2, timeout=100)
    assert all(loss < 0.5 for loss, _ in results)
    formula = ddp_hook.STEPS * Ring().cost(2, PARAMETERS).bytes
    # After the first step, DistributedDataParallel also sends how it arranges its buckets.
    assert formula <= sum(sent for _, sent in results) <= formula + 200


@pytest.mark.slow
def test_the_example_runs_by_the_command_that_it_names():
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, "examples/ddp_hook.py"], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line.split(":")[0] for line in done.stdout.splitlines()) == ["worker 0", "worker 1"]
