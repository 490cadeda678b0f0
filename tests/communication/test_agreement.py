"""Arguments that differ between workers: an error in words on each of them, within seconds, and no harm done."""

from __future__ import annotations

import types

import pytest
import torch
import torch.distributed as dist
from tests.communication import disagreements

from steepest.communication import ParameterServer, Ring, launch
from steepest.communication._group import group_of
from steepest.errors import CommunicationError, InvalidArgument, WorkerFailed


@pytest.fixture(scope="module", params=[False, True], ids=["ring", "separate server"])
def differing(request):
    scheme = ParameterServer() if request.param else None
    return launch(disagreements.differing, 3, scheme, args=(request.param,), timeout=60)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("size", "tensors must be the same on all workers: ranks 0, 2 pass 1 tensor of 3 numbers (float32 [3]); "
         "rank 1 passes 1 tensor of 4 numbers (float32 [4])."),
        ("shape", "ranks 0, 2 pass 1 tensor of 6 numbers (float32 [3, 2]); "
         "rank 1 passes 1 tensor of 6 numbers (float32 [2, 3])."),
        ("dtype", "rank 1 passes 1 tensor of 3 numbers (float64 [3])."),
        ("number", "rank 1 passes 2 tensors of 6 numbers (float32 [3], float32 [3])."),
        ("scheme", "rank 1 passes AllToAll()."),
        ("server", "ranks 0, 2 pass ParameterServer(server=0); rank 1 passes ParameterServer(server=1)."),
        ("examples", "examples must be given, or not given, on all workers: ranks 0, 2 pass None; rank 1 passes 2"),
        ("no examples", "examples must not be 0 on all workers"),
    ],
)  # fmt: skip
def test_what_differs_is_said_on_all_workers_by_rank(differing, what, said):
    for found in differing:
        kind, message, seconds = found[what]
        assert kind == "InvalidArgument"
        assert said in message
        assert seconds < 5


@pytest.mark.parametrize(("what", "said"), [("integers", "floating-point"), ("negative", "examples must be a number")])
def test_what_one_worker_refuses_the_others_refuse_too(differing, what, said):
    for rank, found in enumerate(differing):
        kind, message, seconds = found[what]
        assert (kind, said in message, seconds < 5) == ("InvalidArgument", True, True)
        assert ("rank 1 has refused its arguments" in message) == (rank != 1)


def test_after_an_error_the_workers_average_again(differing):
    assert [name for found in differing for name, value in found.items() if name[:5] == "after" and not value] == []


def test_a_server_or_a_group_without_this_worker_is_refused_in_words():
    for found in launch(disagreements.outside, 2, timeout=60):
        assert found["server"][:2] == (
            "InvalidArgument",
            "server must be a rank of the 2 workers, 0 to 1 (got 2). Pass one of them, or None for a separate process.",
        )
        assert found["no server"][0] == "CommunicationError"
        assert "launch(function, workers, scheme=ParameterServer())" in found["no server"][1]
        if found["rank"] == 1:
            assert found["group"][:2] == (
                "InvalidArgument",
                "group must be one that this process is in (got 1). Call it on the members of the group only.",
            )


def test_a_worker_that_never_calls_is_named_after_the_timeout_of_the_group():
    first, late, third = launch(disagreements.absent, 3, args=(1.0,), timeout=60)
    assert late[0] == "nothing"
    for kind, message, seconds in (first, third):
        assert kind == "CommunicationError"
        assert "must call average_ within its timeout of 1 s (got 'no call of rank 1')" in message
        assert 0.9 < seconds < 5


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("scheme", [Ring(), ParameterServer()], ids=["ring", "separate server"])
def test_a_worker_that_has_returned_is_not_waited_for(scheme, calls):
    said = (
        r"worker [02] raised .*CommunicationError: all workers must average equally often \(got 'rank 1 has returned'\)"
    )
    with pytest.raises(WorkerFailed, match=said):
        launch(disagreements.one_returns, 3, scheme, args=(calls, scheme), timeout=20)


def test_a_connection_that_breaks_is_an_error_in_words():
    first, _, third = launch(disagreements.left_alone, 3, timeout=60)
    for found in (first, third):
        assert len(found) == 3
        for kind, message, seconds in found.values():
            assert kind == "CommunicationError"
            assert "could not" in message
            assert "See whether that process is alive" in message
            assert seconds < 5


@pytest.mark.parametrize("scheme", [None, ParameterServer()], ids=["plain", "separate server"])
def test_what_is_agreed_on_leaves_nothing_behind_in_the_store(scheme):
    for counts in launch(disagreements.keys_in_the_store, 2, scheme, args=(20,), timeout=60):
        assert max(counts) <= 8
        assert counts[-1] <= max(counts[:6]) + 2


def test_without_a_process_group_averaging_says_how_to_start_one():
    assert not dist.is_initialized()
    with pytest.raises(CommunicationError, match=r"steepest\.communication\.launch"):
        Ring().average_(torch.zeros(3))


def test_a_gpu_sends_by_itself_where_the_group_has_a_backend_for_it(monkeypatch):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        place = group_of(None)
        assert place.direct(torch.device("cpu")) is place.link
        assert place.direct(torch.device("cuda")) is None
        of_two_backends = types.SimpleNamespace(_get_backend=lambda _: types.SimpleNamespace(name=lambda: "nccl"))
        monkeypatch.setattr(place, "_process_group", of_two_backends)
        direct = place.direct(torch.device("cuda"))
        assert direct is place.direct(torch.device("cuda"))
        assert (direct.ahead, direct.rank, direct.size) == (False, 0, 1)
    finally:
        dist.destroy_process_group()


def test_a_tensor_whose_entries_share_memory_is_refused():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(InvalidArgument, match=r"tensors\[1\] must have memory of its own for every entry"):
            Ring().average_([torch.zeros(2), torch.zeros(1).expand(3)])
        with pytest.raises(InvalidArgument, match=r"tensors\[0\] .*got None.*Leave out parameters without a gradient"):
            Ring().average_([None])
        with pytest.raises(InvalidArgument, match="complex"):
            Ring().average_(torch.zeros(2, dtype=torch.complex64))
        x = torch.arange(4.0)
        assert Ring().average_(x) is x
        assert x.tolist() == [0, 1, 2, 3]
    finally:
        dist.destroy_process_group()
