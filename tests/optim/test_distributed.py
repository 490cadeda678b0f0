"""Processes that share a model, replicated or sharded, against one process that has it all."""

from __future__ import annotations

import pytest
from tests.optim.two_processes import (
    MAKERS,
    buffers_are_sharded_as_their_parameters,
    distance_from_one_process,
    find,
    nan_on_one_process,
    process_group,
)
from tests.processes import found_by_two
from torch.distributed.device_mesh import init_device_mesh


@pytest.fixture(scope="module")
def mesh_of_one(tmp_path_factory):
    with process_group(0, tmp_path_factory.mktemp("group"), world=1):
        yield init_device_mesh("cpu", (1,))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_sharded_parameters_step_as_plain_ones(make, mesh_of_one):
    assert distance_from_one_process(make, "fully_shard", mesh_of_one, 0, 1) < 1e-5


def test_buffers_are_sharded_as_their_parameters_and_a_nan_is_named(mesh_of_one):
    assert buffers_are_sharded_as_their_parameters(mesh_of_one)
    assert nan_on_one_process("skip", mesh_of_one, 1) == ""
    assert "NaN or infinity in 3.weight'" in nan_on_one_process("raise", mesh_of_one, 1)


@pytest.mark.slow
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
