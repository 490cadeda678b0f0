"""What `Task.check` says about data that cannot be trained with, and what a run says that finds it out later."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from steepest.errors import TaskError
from steepest.tasks import Metric, Task, accuracy
from steepest.train import train

X = torch.linspace(-1, 1, 40)[:, None]
ITEMS = [(x, 2 * x) for x in X]


class Items(Dataset):
    def __init__(self, items, length=None):
        self.items, self.length = items, len(items) if length is None else length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return self.items[i]


class Stream(IterableDataset):
    def __init__(self, make):
        self.make = make

    def __iter__(self):
        return iter(self.make())


class Sized(Stream):
    def __len__(self):
        return 80


class Endless:
    def __iter__(self):
        return itertools.repeat((X[:8], X[:8]))


def once(count):
    """A stream whose iterator can be read once."""
    iterator = iter(ITEMS[:count])
    return Stream(lambda: iterator)


def task(**changes) -> Task:
    given = {"train": Items(ITEMS), "valid": Items(ITEMS), "batch_size": 8, "steps": 20}
    return Task(**{"model": lambda: nn.Linear(1, 1), "loss": nn.functional.mse_loss, **given, **changes})


def failing(items):
    raise ZeroDivisionError("no luck")


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Validation data without a length are taken for endless earlier than usual."""
    monkeypatch.setattr("steepest.tasks._sources.loader._MOST_VALIDATION_BATCHES", 50)


REFUSED = {
    "a stream that is used up": (
        lambda: {"train": once(20)},
        r"the stream train must begin anew when it is read again, for each run and each epoch "
        r"\(got 'used up after 2 batches'\). Make a new iterator in each __iter__ .*, or train for fewer steps.",
    ),
    "a generator of batches": (
        lambda: {"train": lambda: (batch for batch in [(X[:8], X[:8])] * 3)},
        r"the DataLoader train must begin anew .* \(got 'used up after 3 batches'\)",
    ),
    "a stream of too few": (
        lambda: {"train": Stream(lambda: ITEMS[:7])},
        r"the stream train must give at least one batch \(got 'none'\). It may be empty, used up .* fewer examples",
    ),
    "an empty DataLoader": (
        lambda: {"train": DataLoader(Stream(lambda: []))},
        "the DataLoader train must give at least",
    ),
    "an empty valid": (
        lambda: {"valid": Stream(lambda: [])},
        r"the stream valid must give at least one batch \(got 'none'\). Begin a new pass",
    ),
    "a DataLoader that ends early": (
        lambda: {"train": DataLoader(Sized(lambda: ITEMS), batch_size=8)},
        r"the DataLoader train must have as many batches as its length says \(got 'the end after 5 of 10'\). Correct",
    ),
    "a stream that ends early": (
        lambda: {"train": Sized(lambda: ITEMS)},
        r"the stream train must have as many batches .* \(got 'the end after 5 of 10'\)",
    ),
    "validation that ends early": (
        lambda: {"valid": DataLoader(Sized(lambda: ITEMS), batch_size=8)},
        r"the DataLoader valid must have as many batches .* \(got 'the end after 5 of 10'\)",
    ),
    "validation without an end": (
        lambda: {"valid": Stream(lambda: itertools.cycle(ITEMS))},
        r"the stream valid must end \(got 'more than 50 batches'\). Validate on a part of the stream",
    ),
    "a collate function that fails": (
        lambda: {"collate": failing},
        r"collate must make a batch of a list of items of train \(got 'ZeroDivisionError: no luck'\). Call it by hand",
    ),
    "a collate function that fails in a worker": (
        lambda: {"collate": failing, "num_workers": 1, "train": Stream(lambda: ITEMS)},
        r"collate must make a batch of a list of items of train \(got 'ZeroDivisionError: no luck'\)",
    ),
    "texts of different lengths": (
        lambda: {"train": Items([(X[: 1 + i % 3, 0], X[0]) for i in range(40)])},
        r"the items of train must be alike, so that torch's default_collate .* Pass collate=, for example a function",
    ),
    "a Dataset that fails in a worker": (
        lambda: {"train": DataLoader(Items(ITEMS, length=60), batch_size=8, num_workers=1)},
        r"the DataLoader train must give batches \(got 'IndexError: list index out of range'\). Try the",
    ),
    "items that are texts": (
        lambda: {"train": Items([(x, "a") for x in X])},
        r"items of train must be tensors, arrays or numbers, .* \(got 'str at batch\[1\]\[0\]'\)",
    ),
    "batches that are no batches": (
        lambda: {"train": lambda: DataLoader(Items(ITEMS), batch_size=8, collate_fn=lambda _: "text")},
        r"a batch of train must be a tensor, a tuple \(inputs..., target\) of tensors, or a dict .* \(got 'str'\)",
    ),
    "a function that returns a Dataset": (
        lambda: {"train": lambda: Items(ITEMS)},
        r"the function train must return a DataLoader, or another iterable of batches \(got 'Items'\). Return torch",
    ),
    "a function that fails": (
        lambda: {"valid": lambda: failing(None)},
        r"the function valid must return a DataLoader, .* \(got 'ZeroDivisionError: no luck'\)",
    ),
    "a metric without a direction": (
        lambda: {"metric": lambda *_: 1.0, "rank_by": "metric"},
        r"the metric <lambda> must say whether higher is better, as rank_by names it .* higher_is_better=True",
    ),
    "a model without a loss": (
        lambda: {"loss": None, "model": lambda: nn.Bilinear(1, 1, 1)},
        r"a model must return its loss, as output.loss or output\['loss'\], where the task is given none "
        r"\(got 'an output of type Tensor'\). Pass loss=, for example torch.nn.functional.cross_entropy",
    ),
    "a batch_loss that fails": (
        lambda: {"loss": None, "batch_loss": lambda _, batch: failing(batch)},
        r"the model and the loss must take the training data, .* \(got 'ZeroDivisionError: no luck'\)",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_the_check_explains_what_is_wrong(changes, message):
    with pytest.raises(TaskError, match=message):
        task(**changes()).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda: {"train": once(20)}, r"\(got 'used up after 2 batches'\)"),
        (lambda: {"train": DataLoader(Sized(lambda: ITEMS), batch_size=8)}, r"\(got 'the end after 5 of 10'\)"),
        (lambda: {"valid": lambda: Endless()}, r"the DataLoader valid must end"),
    ],
)
def test_a_run_says_so_too(changes, message):
    with pytest.raises(TaskError, match=message):
        train(task(**changes()), sgd, "default", lr=0.1, seed=0)


def test_what_can_be_ranked_by_and_trained_with_passes():
    labels = (torch.arange(40) % 2, torch.arange(40) % 3 == 0)
    for metric, rank_by in (
        (accuracy, "metric"),
        ({"a": accuracy, "b": lambda *_: 1.0}, "a"),
        ({"a": accuracy, "b": lambda *_: 1.0}, "min:b"),
        (Metric(lambda *_: 1.0, higher_is_better=False, name="c"), "c"),
    ):
        data = TensorDataset(X, labels[0])
        Task(
            model=lambda: nn.Linear(1, 2),
            loss=nn.functional.cross_entropy,
            train=data,
            valid=data,
            batch_size=8,
            metric=metric,
            rank_by=rank_by,
        ).check()


def test_a_loader_with_workers_that_drop_incomplete_batches_is_not_too_short():
    class Shared(IterableDataset):
        def __len__(self):
            return 40

        def __iter__(self):
            worker = torch.utils.data.get_worker_info()
            return iter(ITEMS[worker.id :: worker.num_workers])

    loader = DataLoader(Shared(), batch_size=15, num_workers=2, drop_last=True)
    assert len(loader) == 2
    assert train(task(train=loader), sgd, "default", lr=0.1, seed=0, steps=5).steps[-1] == 5
