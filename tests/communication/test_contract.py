"""What every scheme promises: the mean within its bound, the same bits everywhere, messages by the formula."""

from __future__ import annotations

import pytest
import torch
from tests.communication import work

from steepest.communication import ParameterServer, launch

SIZES = [0, 1, 3, 7, 1000]
GROUPS = [1, 2, 3, 8]
ALL_SIZES = [0, 1, 2, 3, 5, 7, 97, 1000, 10007]


def of_all_workers(results):
    """The cases, each with what every worker of it has found."""
    cases = {}
    for rank, found in enumerate(results):
        for each in found:
            cases.setdefault(each["case"], {})[rank] = each
    return cases


def with_own_formula(found):
    """The messages of all workers, and of a separate server, as they were counted."""
    sent = [record for rank, each in found.items() for record in each["records"] if record[0] == rank]
    from_server = [record for each in found.values() for record in each["records"] if record[0] == len(found)]
    return sent + from_server


@pytest.fixture(scope="module")
def plain():
    return of_all_workers(launch(work.averages, 8, args=(SIZES, ["float32"], GROUPS), timeout=100))


@pytest.fixture(scope="module")
def served():
    cases = {}
    for workers in (1, 3, 8):
        calls = (SIZES, ["float32"], [workers], True)
        cases |= of_all_workers(launch(work.averages, workers, ParameterServer(), calls, timeout=60))
    return cases


@pytest.fixture(scope="module")
def dtypes():
    return of_all_workers(launch(work.averages, 4, args=([7, 301], list(work.DTYPES), [1, 2, 4]), timeout=60))


@pytest.fixture(params=["plain", "served", "dtypes"])
def cases(request):
    return request.getfixturevalue(request.param)


def test_the_cases_are_all_there(plain, served, dtypes):
    # 4 schemes of one worker, 5 of more; every case was reported by each of its workers.
    assert len(plain) == (4 + 3 * 5) * len(SIZES)
    assert len(served) == 3 * len(SIZES)
    assert len(dtypes) == (4 + 2 * 5) * 2 * 4
    assert all(len(found) == case[1] for cases in (plain, served, dtypes) for case, found in cases.items())


def test_messages_and_bytes_are_exactly_those_of_the_formula(cases):
    for case, found in cases.items():
        cost = found[0]["cost"]
        counted = with_own_formula(found)
        assert (len(counted), sum(size for _, _, size in counted)) == (cost.messages, cost.bytes), case
        own = sum(each["messages"] for each in found.values()), sum(each["bytes"] for each in found.values())
        server = [record for record in counted if record[0] == len(found)]
        assert own == (cost.messages - len(server), cost.bytes - sum(size for _, _, size in server)), case


def test_messages_have_the_size_of_the_formula(cases):
    for case, found in cases.items():
        itemsize = getattr(torch, case[3].removeprefix("torch.")).itemsize
        size = found[0]["cost"].parameters_per_message * itemsize
        for _, _, length in with_own_formula(found):
            assert abs(length - size) < itemsize, case


def test_who_sends_to_whom_is_the_scheme(plain, served):
    for (scheme, n, _, _), found in {**plain, **served}.items():
        pairs = sorted((sender, receiver) for sender, receiver, _ in with_own_formula(found))
        if n == 1 and scheme != "ParameterServer(server=None)":
            expected = []
        elif scheme in ("Ring()", "AllReduce()"):
            expected = [(r, (r + 1) % n) for r in range(n) for _ in range(2 * (n - 1))]
        elif scheme == "AllToAll()":
            expected = [(a, b) for a in range(n) for b in range(n) if a != b]
        else:
            server = int(scheme.removeprefix("ParameterServer(server=").strip(")").replace("None", str(n)))
            others = [r for r in range(n) if r != server]
            expected = sorted([(r, server) for r in others] + [(server, r) for r in others])
        assert pairs == expected, (scheme, n)


def test_the_error_stays_within_its_bound(cases):
    for case, found in cases.items():
        assert max(each["excess"] for each in found.values()) <= 1, case


def test_the_bound_is_no_larger_than_it_has_to_be(dtypes):
    # If no case came near its bound, the bound, or the data, would say nothing.
    assert max(each["excess"] for found in dtypes.values() for each in found.values()) > 0.2


def test_all_workers_hold_the_same_bits(cases):
    assert [case for case, found in cases.items() if not all(each["same"] for each in found.values())] == []


def test_the_divisor_is_recorded(cases):
    for case, found in cases.items():
        assert all(each["divisors"] == [case[1]] for each in found.values())


@pytest.mark.parametrize("examples", [[1, 2, 3, 10], [0, 5, 0, 1], [0.5, 0.25, 3, 7]])
def test_the_mean_is_over_examples(examples):
    for found in launch(work.weighted, 4, args=(examples,), timeout=60):
        assert len(found) == 5
        for scheme, (excess, same, divisors) in found.items():
            assert (excess <= 1, same, divisors) == (True, True, [sum(examples)]), scheme


@pytest.mark.parametrize("workers", [1, 3])
def test_tensors_of_all_kinds_are_averaged_in_place(workers):
    for found in launch(work.structures, workers, timeout=60):
        for scheme, facts in found.items():
            shapes = facts.pop("shapes")
            assert shapes == [(2, 3), (), (0, 4), (3, 5), (4, 3), (7,), (3,), (3,), (1,)]
            assert all(facts.values()), (scheme, facts)


def test_nothing_overflows_that_the_mean_does_not_and_infinities_come_through():
    for found in launch(work.extremes, 3, timeout=60):
        for scheme, (large, none, same) in found.items():
            assert large, scheme
            assert same, scheme
            assert str(none) == "[nan, inf, 2.0]", scheme


def test_operations_that_start_together_as_nccl_needs_give_the_same_bits():
    for found in launch(work.gathered, 3, args=([0, 1, 2, 1000],), timeout=60):
        assert all(same for same, _ in found.values()), found
    alone = launch(work.gathered, 1, args=([5],), timeout=60)
    assert all(same for same, _ in alone[0].values())


@pytest.mark.parametrize("workers", [2, 3])
def test_what_travels_in_pieces_counts_as_whole_messages(workers):
    results = launch(work.in_pieces, workers, timeout=60)
    for scheme in results[0]:
        errors, same, messages, size = zip(*(found[scheme] for found in results), strict=True)
        cost = next(s for s in work.schemes(workers) if str(s) == scheme).cost(workers, 30_001)
        assert max(errors) <= 1013 * 4 * 2**-24, scheme
        assert all(same), scheme
        assert (sum(messages), sum(size)) == (cost.messages, cost.bytes), scheme


@pytest.mark.slow
def test_all_sizes_dtypes_and_numbers_of_workers():
    names = list(work.DTYPES)
    cases = of_all_workers(launch(work.averages, 8, args=(ALL_SIZES, names, list(range(1, 9))), timeout=400))
    for workers in range(1, 9):
        calls = (ALL_SIZES, names, [workers], True)
        cases |= of_all_workers(launch(work.averages, workers, ParameterServer(), calls, timeout=100))
    test_messages_and_bytes_are_exactly_those_of_the_formula(cases)
    test_messages_have_the_size_of_the_formula(cases)
    test_the_error_stays_within_its_bound(cases)
    test_all_workers_hold_the_same_bits(cases)
