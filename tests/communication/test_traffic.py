"""What is counted: messages of schemes, of DistributedDataParallel, of torch's own operations."""

from __future__ import annotations

import pytest
from tests.communication import training

from steepest.communication import AllReduce, AllToAll, ParameterServer, Ring, launch, measure
from steepest.errors import InvalidArgument

PARAMETERS = 6 * 16 + 16 + 16 * 3 + 3


@pytest.fixture(scope="module")
def hooked():
    return launch(training.hooked, 3, timeout=60)


@pytest.mark.parametrize("scheme", [Ring(), AllToAll(), ParameterServer(0), ParameterServer(2), AllReduce()], ids=str)
def test_a_hook_gives_what_ddp_gives_within_rounding_and_sends_what_its_formula_says(hooked, scheme):
    cost = scheme.cost(3, PARAMETERS)
    assert all(found[str(scheme)]["difference"] < 1e-6 for found in hooked)
    assert sum(found[str(scheme)]["messages"] for found in hooked) == cost.messages
    assert sum(found[str(scheme)]["bytes"] for found in hooked) == cost.bytes


def test_what_ddp_itself_sends_is_counted_as_a_ring(hooked):
    cost = Ring().cost(3, PARAMETERS)
    assert sum(found["None"]["bytes"] for found in hooked) == cost.bytes
    assert sum(found["None"]["messages"] for found in hooked) == cost.messages
    assert all(found["None"]["operations"] == {"allreduce"} for found in hooked)
    assert all(found["Ring()"]["operations"] == {"point-to-point"} for found in hooked)


def test_records_have_the_number_of_their_averaging_or_the_step_of_the_program():
    first, second = launch(training.steps, 2, timeout=60)
    for found in (first, second):
        # A list with two dtypes is averaged at once, in 2(n-1) messages for each.
        assert found["counted"] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
        assert found["given"] == [0, 0, 40, 41, 41]
        assert found["inner"] == [0]
        assert found["divisors"] == ([2, 2, 2], [2, 2, 2])
        assert found["after"] == (12, 5, 1)


def test_torchs_own_operations_count_as_textbooks_do_them():
    found = launch(training.collectives, 3, timeout=60)
    sent = {name: [found[rank][name] for rank in range(3)] for name in found[0]}
    ring = [[(0, 1, 16), (0, 1, 12), (0, 1, 12), (0, 1, 16)], [(1, 2, 12), (1, 2, 16), (1, 2, 12), (1, 2, 12)],
            [(2, 0, 12), (2, 0, 12), (2, 0, 16), (2, 0, 12)]]  # fmt: skip
    assert sent["all_reduce"] == sent["all_reduce later"] == ring
    assert sent["broadcast"] == [[], [(1, 0, 40), (1, 2, 40)], []]
    assert sent["reduce"] == [[(0, 1, 40)], [], [(2, 1, 40)]]
    assert sent["all_gather"] == [[(rank, (rank + 1) % 3, 40)] * 2 for rank in range(3)]
    assert sent["all_to_all_single"] == [[(rank, o, 8) for o in range(3) if o != rank] for rank in range(3)]
    assert sent["gather"] == [[], [(1, 0, 40)], [(2, 0, 40)]]
    assert sent["scatter"] == [[(0, 1, 40), (0, 2, 40)], [], []]
    assert sent["send"] == [[(0, 1, 40)], [], []]
    assert sent["barrier"] == sent["none"] == [[], [], []]


def test_measuring_ends_with_its_block_and_checks_its_argument():
    with pytest.raises(ZeroDivisionError), measure() as traffic:
        1 / 0  # noqa: B018
    assert (traffic.messages, traffic.records, traffic.step) == (0, [], 0)
    with pytest.raises(InvalidArgument, match="native must be True or False"):
        measure(native=None)
