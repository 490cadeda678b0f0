"""Two processes that share a model start from the same weights, sharded or not, and from those of one process."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
import torch.multiprocessing as mp
from tests.init.two_processes import MODELS, SCHEMES, find


def found_by_two_processes(folder) -> list[dict]:
    """Run both, each for at most two minutes together, and kill what is left of them."""
    context = mp.spawn(find, args=(folder,), nprocs=2, join=False)
    end = time.monotonic() + 120
    try:
        while not context.join(timeout=max(0, end - time.monotonic())):
            assert time.monotonic() < end, "two processes did not finish within 120 s"
    finally:
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_hold_parts_of_the_whole_that_one_process_makes_and_whole_models_are_equal(tmp_path):
    found = found_by_two_processes(tmp_path)
    for each in found:
        wrong = {name: each[name] for name in [f"{m}, {s}" for m in MODELS for s in SCHEMES] if each[name] != ""}
        assert not wrong
        assert "a sharded model cannot be run to see what it does (got 'FSDPSequential'). Initialise" in each["refused"]
    assert found[0]["sum"] == found[1]["sum"]
