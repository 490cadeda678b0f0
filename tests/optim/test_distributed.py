"""Two processes that share a model, replicated or sharded, against one process that has it all."""

from __future__ import annotations

from tests.optim.two_processes import MAKERS, find
from tests.processes import found_by_two


def test_two_processes_step_as_one_agree_about_nans_and_communicate_no_more_than_needed(tmp_path):
    found = found_by_two(find, tmp_path)
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
