"""The contract of data: a new kind is one more line in `KINDS`, a new structure of batches one more in `STRUCTURES`."""

from __future__ import annotations

import itertools
import random
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from steepest.tasks import Task
from steepest.tasks._batch import leaves
from steepest.train import train

N, VALID, BATCH = 40, 14, 8
X = torch.randn(N + VALID, 3, generator=torch.Generator().manual_seed(0))
Y = X.sum(1, keepdim=True)


class Items(Dataset):
    """A map-style Dataset of X[start:stop] and Y, in some structure."""

    def __init__(self, start: int, stop: int, item: Callable[[Tensor, Tensor], Any]) -> None:
        self.start, self.stop, self.item = start, stop, item

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, i: int) -> Any:
        if not 0 <= i < len(self):
            raise IndexError
        return self.item(X[self.start + i], Y[self.start + i])


class Stream(IterableDataset):
    def __init__(self, *given: Any) -> None:
        self.items = Items(*given)

    def __iter__(self):
        return (self.items[i] for i in range(len(self.items)))


Pair = namedtuple("Pair", ["x", "y"])


class Net(nn.Module):
    """Finds its input in whatever it is called with, and puts its loss into the output where it gets the target."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        tensors = [leaf for _, leaf in leaves([args, kwargs])]
        x = next(tensor for tensor in tensors if tensor.shape[1] == 3)
        y = next((tensor for tensor in tensors if tensor.shape[1] == 1), None)
        out = self.linear(x)
        return SimpleNamespace(out=out, loss=None if y is None else nn.functional.mse_loss(out, y))


def of_target(output: Any, target: Any) -> Tensor:
    y = next(leaf for _, leaf in leaves(target) if leaf.shape[1] == 1)
    return nn.functional.mse_loss(output.out, y)


STRUCTURES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda x, y: (x, y),
    "dict": lambda x, y: {"x": x, "labels": y},
    "namedtuple": Pair,
    "nested input": lambda x, y: ({"a": [x, (x,)]}, x, y),
    "nested target": lambda x, y: (x, {"y": (y, x)}),
    "nested dict": lambda x, y: {"inputs": {"x": (x, x)}, "labels": y},
}
"""By name: what an item, or tensors of all of them, look like."""


def loader(kind: type[Dataset] = Items, **options: Any) -> Callable[..., DataLoader[Any]]:
    return lambda *given: DataLoader(kind(*given), batch_size=BATCH, **options)


KINDS: dict[str, Callable[[int, int, Any], Any]] = {
    "tensors": lambda a, b, item: item(X[a:b], Y[a:b]),
    "TensorDataset": lambda a, b, item: item(X[a:b], Y[a:b]),  # replaced below
    "map-style": Items,
    "list of items": lambda a, b, item: [item(X[i], Y[i]) for i in range(a, b)],
    "stream": Stream,
    "DataLoader": loader(),
    "shuffled DataLoader": loader(shuffle=True),
    "DataLoader with a generator": lambda *given: DataLoader(
        Items(*given), batch_size=BATCH, shuffle=True, generator=torch.Generator().manual_seed(7)
    ),
    "DataLoader of a stream": loader(Stream),
    "function": lambda *given: lambda: loader(shuffle=True)(*given),
    "function of a generator": lambda *given: lambda: _Again(given),
}
KINDS["TensorDataset"] = lambda a, b, item: (
    TensorDataset(X[a:b], Y[a:b]) if item is STRUCTURES["tuple"] else item(X[a:b], Y[a:b])
)


class _Again:
    """An iterable of batches that is no DataLoader."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def __iter__(self):
        yield from loader()(*self.given)


@dataclass(frozen=True)
class Case:
    kind: str
    structure: str = "tuple"
    loss: str = "loss"

    def task(self, **changes: Any) -> Task:
        make, item = KINDS[self.kind], STRUCTURES[self.structure]
        losses: dict[str, Any] = {
            "loss": {"loss": of_target},
            "batch_loss": {"batch_loss": batch_loss},
            "in the model": {},
        }[self.loss]
        given = {"train": make(0, N, item), "valid": make(N, N + VALID, item), "batch_size": BATCH, "steps": 7}
        return Task(**{"model": Net, **given, **losses, **changes})


def batch_loss(model: nn.Module, batch: Any) -> Tensor:
    tensors = [leaf for _, leaf in leaves(batch)]
    x, y = (next(tensor for tensor in tensors if tensor.shape[1] == width) for width in (3, 1))
    return nn.functional.mse_loss(model(x).out, y)


CASES = [
    *(Case(kind) for kind in KINDS),
    *(Case("map-style", structure) for structure in STRUCTURES),
    *(Case("tensors", structure) for structure in STRUCTURES),
    *(
        Case(kind, "dict", loss)
        for kind in ("map-style", "stream", "DataLoader")
        for loss in ("batch_loss", "in the model")
    ),
    Case("tensors", "tuple", "in the model"),
]


@pytest.fixture(params=CASES, ids=lambda case: f"{case.kind}, {case.structure}, {case.loss}")
def case(request) -> Case:
    return request.param


def same(a: Any, b: Any) -> bool:
    (places, first), (others, second) = zip(*leaves(a), strict=True), zip(*leaves(b), strict=True)
    return places == others and all(torch.equal(p, q) for p, q in zip(first, second, strict=True))


def first_batches(task: Task, seed: int = 0, count: int = 12) -> list[Any]:
    return list(itertools.islice(task.batches(torch.Generator().manual_seed(seed)), count))


def rows(batch: Any) -> Tensor:
    return next(leaf for _, leaf in leaves(batch) if leaf.shape[1] == 3)


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr)


def curve(task: Task, seed: int = 0, **options: Any) -> list[float]:
    return train(task, sgd, "default", lr=0.05, seed=seed, **options).valid_loss


def test_its_check_passes_and_leaves_global_random_numbers_alone(case, rng_untouched):
    with rng_untouched():
        case.task().check()


def test_the_same_seed_gives_the_same_batches_and_the_same_bits(case, rng_untouched):
    task = case.task()
    with rng_untouched():
        first = first_batches(task, seed=3)
        losses = curve(task, seed=3)
    torch.rand(5)
    np.random.rand()
    random.random()
    assert same(first, first_batches(task, seed=3))
    assert losses == curve(task, seed=3)


def test_a_batch_has_batch_size_examples_and_its_parts_belong_together(case):
    for batch in first_batches(case.task()):
        parts = [leaf for _, leaf in leaves(batch)]
        assert {len(part) for part in parts} == {BATCH}
        x, y = (next(part for part in parts if part.shape[1] == width) for width in (3, 1))
        torch.testing.assert_close(x.sum(1, keepdim=True), y)


def test_every_epoch_shows_each_example_once(case):
    batches = first_batches(case.task(), count=2 * N // BATCH)
    for epoch in (batches[: N // BATCH], batches[N // BATCH :]):
        assert sorted(torch.cat([rows(batch) for batch in epoch])[:, 0].tolist()) == sorted(X[:N, 0].tolist())


def test_validation_shows_each_example_once_and_is_the_same_each_time(case):
    task = case.task()
    first, second = list(task.validation_batches()), list(task.validation_batches())
    assert same(first, second)
    assert sorted(torch.cat([rows(batch) for batch in first])[:, 0].tolist()) == sorted(X[N:, 0].tolist())
    model = task.build(0)
    with torch.no_grad():
        expected = float(nn.functional.mse_loss(model.linear(X[N:]), Y[N:]))
    assert task.evaluate(model)[0] == pytest.approx(expected, rel=1e-6)


def test_different_optimizers_with_one_seed_see_the_same_data(case):
    seen: list[list[Tensor]] = [[], []]
    for optimizer, log in zip((sgd, lambda model, lr: torch.optim.Adam(model.parameters(), lr)), seen, strict=True):

        class Logged(Net):
            def forward(self, *args: Any, log: list[Tensor] = log, **kwargs: Any) -> Any:
                if self.training and torch.is_grad_enabled():
                    log.append(rows([args, kwargs]).clone())
                torch.rand(len(log) % 3)  # noise of the model's own
                return super().forward(*args, **kwargs)

        train(case.task(model=Logged), optimizer, "he", lr=0.05, seed=4)
    assert len(seen[0]) == 7
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_another_process_gives_the_same_bits(case):
    task = case.task()
    task.check()
    sent = cloudpickle.loads(cloudpickle.dumps(task))
    assert curve(sent) == curve(task)


def test_its_fingerprint_is_the_same_again(case):
    assert case.task().fingerprint() == case.task().fingerprint()


def test_all_kinds_of_ordered_data_give_the_same_losses():
    curves = {kind: curve(Case(kind).task()) for kind in ("stream", "DataLoader", "DataLoader of a stream")}
    assert len({tuple(each) for each in curves.values()}) == 1
    shuffled = {kind: curve(Case(kind).task()) for kind in ("tensors", "TensorDataset", "map-style", "list of items")}
    assert len({tuple(each) for each in shuffled.values()}) == 1
    assert shuffled["tensors"] != curves["stream"]


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("loss", ["loss", "batch_loss", "in the model"])
def test_the_structure_and_where_the_loss_is_computed_change_nothing(structure, loss):
    # A nested target names its tensors in another order, but the loss finds the same.
    assert curve(Case("map-style", structure, loss).task()) == curve(Case("map-style").task())


@pytest.mark.parametrize("kind", ["map-style", "stream"])
def test_workers_give_the_same_batches_as_this_process(kind):
    here, there = (Case(kind).task(num_workers=n) for n in (0, 2))
    assert same(first_batches(here), first_batches(there))
    assert curve(here) == curve(there)
    there.check()
