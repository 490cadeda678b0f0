"""The formulas of messages and bytes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steepest.communication import AllReduce, AllToAll, ParameterServer, Ring
from steepest.communication._cost import chunk_bounds, ring_messages
from steepest.errors import InvalidArgument

WORKERS, PARAMETERS = st.integers(1, 64), st.integers(0, 10**12)


@given(n=WORKERS, p=PARAMETERS)
def test_messages_and_their_sizes_are_those_of_the_table(n, p):
    table = {
        AllToAll(): (n * (n - 1), p),
        ParameterServer(): (2 * n, p),
        ParameterServer(server=0): (2 * (n - 1), p),
        Ring(): (2 * n * (n - 1), p / n),
        AllReduce(): (2 * n * (n - 1), p / n),
    }
    for scheme, (messages, size) in table.items():
        for dtype in (torch.float16, torch.float32, torch.float64):
            cost = scheme.cost(n, p, dtype)
            assert (cost.messages, cost.parameters_per_message) == (messages, size)
            exact = 2 * (n - 1) * p if isinstance(scheme, (Ring, AllReduce)) else messages * p
            assert cost.bytes == exact * dtype.itemsize


@given(n=WORKERS, p=st.integers(0, 500))
def test_chunks_cover_everything_and_differ_by_at_most_one(n, p):
    bounds = chunk_bounds(p, n)
    assert [low for low, _ in bounds] + [p] == [0] + [high for _, high in bounds]
    assert max(h - low for low, h in bounds) - min(h - low for low, h in bounds) <= 1
    sent = [ring_messages(p, n, rank) for rank in range(n)]
    assert all(len(messages) == 2 * (n - 1) for messages in sent)
    assert sum(map(sum, sent)) == 2 * (n - 1) * p


def test_a_server_outside_of_the_workers_is_refused():
    with pytest.raises(InvalidArgument, match=r"server must be a rank of the 2 workers, 0 to 1 \(got 2\)"):
        ParameterServer(2).cost(2, 10)
    with pytest.raises(InvalidArgument, match=r"server must be a rank of the 1 worker, 0 to 0"):
        ParameterServer(1).cost(1, 10)
    with pytest.raises(InvalidArgument, match="Pass a rank, or None"):
        ParameterServer(-1)


def test_schemes_are_equal_by_value_and_can_be_keys():
    assert {Ring(): 1, ParameterServer(0): 2}[Ring()] == 1
    assert ParameterServer(0) == ParameterServer(0) != ParameterServer(1)
