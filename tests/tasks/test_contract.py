"""The contract of a task: a new built-in one is one more line in `CASES`."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from steepest.init import SCHEMES
from steepest.tasks import TASKS, Task, curve, digits, mnist5k

CASES = {
    "digits": digits,
    "mnist5k": mnist5k,
    "curve": curve,
    "curve 20 x 2": lambda: curve(20, 2),
    "two inputs": lambda: two_inputs(),
}


class Gated(torch.nn.Module):
    """A model of two inputs, with noise of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = torch.nn.Linear(3, 2), torch.nn.Dropout()

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.linear(x)) * gate


def two_inputs() -> Task:
    """A user's own task: two inputs, a model with dropout, a validation set of more than one evaluation batch."""
    generator = torch.Generator().manual_seed(0)
    x, gate = torch.randn(2500, 3, generator=generator), torch.rand(2500, 1, generator=generator)
    target = x[:, :2] * gate
    return Task(
        name="two inputs",
        model=Gated,
        loss=torch.nn.functional.mse_loss,
        train=(x[:70], gate[:70], target[:70]),
        valid=(x, gate, target),
        metric=lambda output, y: (output - y).abs().mean(),
        batch_size=16,
        steps=10,
    )


@pytest.fixture(scope="module", params=CASES)
def task(request) -> Task:
    return CASES[request.param]()


class Pairs(Dataset):
    """A map-style dataset of tuples, one example at a time."""

    def __init__(self, tensors: tuple[torch.Tensor, ...]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)


def epoch(task: Task, seed: int, number: int = 0) -> list[list[torch.Tensor]]:
    """The batches of the number-th epoch."""
    per_epoch = len(task.train[0]) // task.batch_size
    batches = task.batches(torch.Generator().manual_seed(seed))
    return list(itertools.islice(batches, number * per_epoch, (number + 1) * per_epoch))


def same(first: list[list[torch.Tensor]], second: list[list[torch.Tensor]]) -> bool:
    return all(torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


def test_a_model_is_built_from_its_seed_alone(task, rng_untouched):
    with rng_untouched():
        first, second, other = task.build(3), task.build(3), task.build(4)
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)
        assert p is not q
    assert any(not torch.equal(p, q) for p, q in zip(first.parameters(), other.parameters(), strict=True))


def test_batches_come_from_their_generator_alone(task, rng_untouched):
    with rng_untouched():
        assert same(epoch(task, seed=1), epoch(task, seed=1))
    assert not same(epoch(task, seed=1), epoch(task, seed=2))


def test_every_batch_has_batch_size_rows_of_the_training_data(task):
    for batch in epoch(task, seed=0):
        assert [tuple(t.shape) for t in batch] == [(task.batch_size, *t.shape[1:]) for t in task.train]
        assert [t.dtype for t in batch] == [t.dtype for t in task.train]


def test_an_epoch_shows_no_example_twice_and_the_next_has_another_order(task):
    numbered = dataclasses.replace(task, train=(*task.train[:-1], torch.arange(len(task.train[0]))))
    orders = [torch.cat([batch[-1] for batch in epoch(numbered, seed=0, number=k)]) for k in range(3)]
    for order in orders:
        assert len(order.unique()) == len(order) == len(task.train[0]) // task.batch_size * task.batch_size
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[1], orders[2])


def test_inputs_and_targets_of_a_batch_belong_together(task):
    numbers = torch.arange(len(task.train[0]))
    numbered = dataclasses.replace(task, train=(*task.train, numbers))
    for *tensors, order in epoch(numbered, seed=0):
        assert all(torch.equal(part, whole[order]) for part, whole in zip(tensors, task.train, strict=True))


def test_its_check_passes_and_leaves_global_random_numbers_alone(task, rng_untouched):
    with rng_untouched():
        task.check()


def test_the_loss_is_a_finite_scalar_with_a_gradient_for_every_parameter(task):
    model = task.build(0)
    loss = task.training_loss(model, epoch(task, seed=0)[0])
    loss.backward()
    assert loss.shape == ()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_loss_of_a_batch_is_the_loss_of_the_models_output(task):
    model = task.build(0).eval()
    *inputs, target = batch = epoch(task, seed=0)[0]
    assert torch.equal(task.training_loss(model, batch), task.loss(model(*inputs), target))


def test_evaluation_is_the_loss_and_metric_of_all_validation_data_at_once(task, rng_untouched):
    model = task.build(0)
    with rng_untouched():
        loss, values = task.validate(model)
    model.eval()
    *inputs, target = task.valid
    with torch.no_grad():
        output = model(*inputs)
        assert loss == pytest.approx(float(task.loss(output, target)), rel=1e-5)
        assert list(values) == list(task.metrics)
        for name, metric in task.metrics.items():
            assert values[name] == pytest.approx(float(metric.function(output, target)), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_the_model_as_it_was(task, training):
    model = task.build(0).train(training)
    before = [p.detach().clone() for p in model.parameters()]
    assert task.validate(model) == task.validate(model)
    loss, values = task.validate(model)
    assert task.evaluate(model) == (loss, values[task.metric_name])
    assert all(module.training == training for module in model.modules())
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.grad is None


@pytest.mark.parametrize("kind", [Pairs, lambda tensors: TensorDataset(*tensors)], ids=["own", "TensorDataset"])
def test_a_dataset_gives_the_same_batches_and_evaluation_as_its_tensors(task, kind):
    small = dataclasses.replace(task, train=tuple(t[:70] for t in task.train), batch_size=16)
    wrapped = dataclasses.replace(small, train=kind(small.train), valid=kind(small.valid))
    generators = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    first, second = small.batches(generators[0]), wrapped.batches(generators[1])
    assert same(list(itertools.islice(first, 9)), list(itertools.islice(second, 9)))
    model = small.build(0)
    assert wrapped.validate(model) == small.validate(model)
    wrapped.check()


def test_the_fingerprint_is_the_same_for_the_same_task(task, rng_untouched):
    with rng_untouched():
        assert task.fingerprint() == task.fingerprint() == dataclasses.replace(task).fingerprint()


def test_the_fingerprint_tells_changed_data_shapes_and_batches_apart(task):
    def changed(data: tuple[torch.Tensor, ...], which: int) -> tuple[torch.Tensor, ...]:
        tensors = [t.clone() for t in data]
        tensors[which].view(-1)[7] += 1
        return tuple(tensors)

    variants = [
        task,
        dataclasses.replace(task, train=changed(task.train, 0)),
        dataclasses.replace(task, train=changed(task.train, -1)),
        dataclasses.replace(task, valid=changed(task.valid, 0)),
        dataclasses.replace(task, valid=changed(task.valid, -1)),
        dataclasses.replace(task, train=tuple(t[:-1] for t in task.train)),
        dataclasses.replace(task, batch_size=task.batch_size - 1),
        dataclasses.replace(task, name="other"),
        dataclasses.replace(task, model=lambda: torch.nn.Linear(3, 3)),
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)


def test_the_fingerprint_of_a_dataset_tells_its_length_and_its_ends_apart(task):
    def with_data(*tensors: torch.Tensor) -> str:
        return dataclasses.replace(task, train=Pairs(tensors)).fingerprint()

    other_end = [t.clone() for t in task.train]
    other_end[0][-1] += 1
    found = {
        with_data(*task.train),
        with_data(*other_end),
        with_data(*(t[1:] for t in task.train)),
        with_data(*(t[:-1] for t in task.train)),
    }
    assert len(found) == 4
    assert with_data(*task.train) in found


def test_it_says_how_it_is_called_and_how_its_model_starts(task):
    assert task.name
    assert task.metric_name
    assert task.init in SCHEMES
    assert task.steps >= 1


def test_every_built_in_task_is_held_to_this_contract():
    assert set(TASKS) <= set(CASES)
    assert all(CASES[name] is make for name, make in TASKS.items())


def test_without_a_metric_there_is_no_value_and_no_name():
    task = dataclasses.replace(two_inputs(), metric=None)
    loss, values = task.validate(task.build(0))
    assert math.isnan(task.evaluate(task.build(0))[1])
    assert math.isfinite(loss)
    assert values == {}
    assert task.metric_name == ""
