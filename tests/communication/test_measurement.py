"""Timing averagings in a process group: what is measured, for whom, and for how long."""

import time

import pytest
import torch.distributed as dist

from steepest.communication import AllReduce, AllToAll, Measurement, ParameterServer, Ring, launch, measure_cluster
from steepest.errors import InvalidArgument

SCHEMES = [AllToAll(), ParameterServer(server=0), Ring(), AllReduce()]


def measured():
    begun = time.perf_counter()
    found = measure_cluster(SCHEMES, [1, 1000], [2, 3], seconds=0.3)
    return dist.get_rank(), found, time.perf_counter() - begun


def test_every_scheme_size_and_number_of_workers_is_timed_once_and_all_ranks_know():
    first, *others = launch(measured, workers=3, timeout=60)
    expected = [(scheme, n, p) for n in (2, 3) for p in (1, 1000) for scheme in SCHEMES]
    assert [(each.scheme, each.workers, each.parameters) for each in first[1]] == expected
    assert all(isinstance(each, Measurement) and each.seconds > 0 and each.hosts == 1 for each in first[1])
    assert [found for _, found, _ in others] == [first[1]] * 2
    assert [rank for rank, *_ in others] == [1, 2]
    assert first[2] < 20


def refusals():
    found = []
    for scheme, workers in ((ParameterServer(), None), (ParameterServer(server=1), [2, 1])):
        try:
            measure_cluster([Ring(), scheme], [1], workers)
        except InvalidArgument as error:
            found.append(str(error))
    return found


def test_a_server_that_is_none_of_the_workers_is_refused_before_anything_is_timed():
    for separate, outside in launch(refusals, workers=2, timeout=60):
        assert separate.startswith("schemes must be such as need no separate server (got ParameterServer(server=None))")
        assert outside.startswith("server must be a rank of the 1 worker, 0 to 0 (got 1)")


def test_without_a_process_group_there_is_nothing_to_measure():
    if dist.is_initialized():
        pytest.skip("another test has left its process group in this process")
    with pytest.raises(InvalidArgument, match="launch"):
        measure_cluster()
