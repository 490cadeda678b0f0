"""Workers share the batch that one worker alone would train on."""

import itertools

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from steepest.tasks import Task
from steepest.tasks._shares import Shares, bounds

X = torch.arange(23.0)[:, None]
Y = 10 * X


class Rows(IterableDataset):
    def __iter__(self):
        return iter([(X[i], Y[i]) for i in range(len(X))])


def of(data, **options) -> Task:
    return Task(
        model=lambda: nn.Linear(1, 1),
        loss=nn.functional.mse_loss,
        train=data,
        valid=(X, Y),
        batch_size=7,
        **options,
    )


TASKS = {
    "tensors": of((X, Y)),
    "dataset": of(TensorDataset(X, Y)),
    "dataset, loaded by processes": of(TensorDataset(X, Y), num_workers=1),
    "stream": of(Rows()),
    "loader with an incomplete batch": of(DataLoader(TensorDataset(X, Y), batch_size=6)),
    "mapping": Task(
        model=lambda: nn.Linear(1, 1),
        loss=lambda output, _: output.mean(),
        train={"input": X, "position": Y},
        valid={"input": X, "position": Y},
        batch_size=7,
    ),
}


def parts(batch) -> list[torch.Tensor]:
    return list(batch.values()) if isinstance(batch, dict) else list(batch)


@pytest.mark.parametrize(("name", "size"), [*((name, 3) for name in TASKS), ("tensors", 1), ("stream", 1)])
def test_shares_together_are_the_batch_of_one_worker(name, size) -> None:
    task = TASKS[name]
    whole = list(itertools.islice(task.batches(torch.Generator().manual_seed(5)), 6))
    workers = [Shares(task, 5) for _ in range(size)]
    for step, batch in enumerate(whole):
        shares = [worker.at(step, rank, size) for rank, worker in enumerate(workers)]
        for mine, own, total in shares:
            assert total == len(parts(batch)[0])
            assert own == len(parts(mine)[0])
        for k, expected in enumerate(parts(batch)):
            assert torch.equal(torch.cat([parts(mine)[k] for mine, _, _ in shares]), expected)
    for worker in workers:
        worker.close()


@pytest.mark.parametrize("name", ["tensors", "dataset", "stream"])
def test_a_step_can_be_repeated_and_resumed_by_other_workers(name) -> None:
    task = TASKS[name]
    whole = list(itertools.islice(task.batches(torch.Generator().manual_seed(1)), 9))
    shares = Shares(task, 1)
    for step, rank, size in [(0, 1, 4), (1, 1, 4), (1, 1, 3), (2, 0, 3), (7, 0, 3), (7, 1, 2), (3, 1, 2), (4, 1, 2)]:
        low, high = bounds(7, rank, size)
        mine, own, total = shares.at(step, rank, size)
        assert (own, total) == (high - low, 7)
        assert torch.equal(mine[0], whole[step][0][low:high])
    shares.close()


def test_more_workers_than_examples_leave_some_without() -> None:
    found = [Shares(TASKS["tensors"], 0).at(0, rank, 10) for rank in range(10)]
    assert sum(own for _, own, _ in found) == 7
    assert [batch is None for batch, own, _ in found] == [own == 0 for _, own, _ in found]
    assert any(batch is None for batch, _, _ in found)


def test_each_example_is_counted_once_an_epoch() -> None:
    shares = [Shares(TASKS["tensors"], 3) for _ in range(2)]
    seen = torch.cat([worker.at(step, rank, 2)[0][0] for step in range(3) for rank, worker in enumerate(shares)])
    assert len(seen.unique()) == 21  # three batches of 7 of 23
