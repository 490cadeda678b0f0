"""Two processes that share a model, replicated or sharded, against one process that has it all."""

from __future__ import annotations

import json
import os
import signal
import time

import torch.multiprocessing as mp
from tests.optim.two_processes import MAKERS, find


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


def test_two_processes_step_as_one_agree_about_nans_and_communicate_no_more_than_needed(tmp_path):
    found = found_by_two_processes(tmp_path)
    wrong: list[str] = []

    def expect(case: str, holds) -> None:
        wrong.extend(
            f"{case}, process {i}: {results[case]}" for i, results in enumerate(found) if not holds(results[case])
        )

    for how in ("fully_shard", "DistributedDataParallel"):
        for name in MAKERS:
            expect(f"{name} under {how}", lambda distance: isinstance(distance, float) and distance < 1e-5)
    # Every process hears of the NaN that one of them holds, and where it is.
    expect("NaN, raise", lambda said: "NaN or infinity in 3.weight'" in said)
    expect("NaN, skip", lambda said: said == "")
    expect("Spectral, ignore", lambda counts: counts == [3, 0])  # one gather a matrix
    expect("LInf, ignore", lambda counts: counts == [0, 0])
    expect("LInf, raise", lambda counts: counts == [0, 1])  # whether all is finite
    expect("buffers", lambda sharded: sharded is True)
    assert not wrong, "\n".join(wrong)
