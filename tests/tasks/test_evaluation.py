"""The validation loss and metric: how the model is called, and of what the metric is computed."""

from __future__ import annotations

import copy
from collections import namedtuple

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import Dataset

from steepest.errors import TaskError
from steepest.tasks import Task

ROWS = 70


class Watched(nn.Module):
    """A linear model that writes down with how many rows it is called, and shapes its output."""

    def __init__(self, shaped=lambda out: out):
        super().__init__()
        self.linear, self.shaped, self.called = nn.Linear(4, 3), shaped, []

    def forward(self, x):
        self.called.append(len(x))
        return self.shaped(self.linear(x))


def task(shaped=lambda out: out, **changes):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(ROWS, 4, generator=generator), torch.randint(3, (ROWS,), generator=generator)
    order = y.argsort()
    return Task(
        **{
            "model": lambda: Watched(shaped),
            "loss": nn.functional.cross_entropy,
            "train": (x, y),
            "valid": (x[order], y[order]),
            "batch_size": 8,
            **changes,
        }
    )


def reference(made):
    """The outputs for all validation data at once, as the model's linear layer gives them."""
    model = made.build(0)
    x, y = made.valid
    with torch.no_grad():
        return model.linear(x), y


def close_to_all_outputs(made):
    """A metric that fails unless it gets the outputs and targets of all validation data, in order, on the CPU."""
    expected, targets = reference(made)

    def metric(output, target):
        calls.append(1)
        torch.testing.assert_close(output, expected)
        assert torch.equal(target, targets)
        return 0.25

    calls: list[int] = []
    return metric, calls


@pytest.mark.parametrize(
    ("sizes", "called"), [({}, [8] * 8 + [6]), ({"eval_batch_size": 30}, [30, 30, 10]), ({"eval_batch_size": 99}, [70])]
)
def test_the_model_is_called_with_as_many_rows_as_asked_by_default_those_of_a_batch(sizes, called):
    made = task(**sizes)
    model = made.build(0)
    made.evaluate(model)
    assert model.called == called


def test_the_loss_is_the_mean_over_the_examples_also_where_the_last_batch_is_smaller():
    made = task(metric=None)
    loss, _ = made.evaluate(made.build(0))
    assert loss == pytest.approx(float(nn.functional.cross_entropy(*reference(made))), rel=1e-6)


@pytest.mark.parametrize("pending", [1 << 26, 1, 300], ids=["at once", "each batch", "some batches"])
def test_a_metric_sees_all_outputs_and_targets_once_however_they_are_brought_together(pending, monkeypatch):
    monkeypatch.setattr("steepest.tasks._evaluation._PENDING", pending)
    made = task()
    metric, calls = close_to_all_outputs(made)
    _, values = task(metric=metric).validate(made.build(0))
    assert values == {"metric": 0.25}
    assert calls == [1]


def test_a_metric_that_does_not_average_over_batches_is_right_on_sorted_data():
    def auc(output, target):
        return roc_auc_score(target == 2, output[:, 2])

    made = task(metric=auc)
    output, target = reference(made)
    assert made.evaluate(made.build(0))[1] == pytest.approx(auc(output, target), abs=1e-12)


Pair = namedtuple("Pair", ["logits", "parts"])

NESTED = {
    "tuple": (lambda out: (out, 2 * out), lambda o: (o[0], o[1] / 2)),
    "list and None": (lambda out: [out, None], lambda o: (o[0], o[0]) if o[1] is None else None),
    "dict": (lambda out: {"a": out, "b": {"c": out}}, lambda o: (o["a"], o["b"]["c"])),
    "namedtuple": (lambda out: Pair(out, (out,)), lambda o: (o.logits, o.parts[0])),
    "all positions in one dimension": (lambda out: out.flatten(), lambda o: (o.view(-1, 3),) * 2),
}


@pytest.mark.parametrize(("shaped", "parts"), NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("size", [8, 70])
def test_nested_outputs_are_joined_part_by_part_and_keep_their_type(shaped, parts, size):
    def metric(output, target):
        types.append(type(output))
        for part in parts(output):
            torch.testing.assert_close(part, expected)
        return len(target)

    types: list[type] = []
    expected, _ = reference(task())
    made = task(shaped, metric=metric, eval_batch_size=size, loss=lambda output, _: parts(output)[0].mean())
    assert made.evaluate(made.build(0))[1] == ROWS
    assert types == [type(shaped(torch.ones(2, 3)))]


class Thing:
    def __init__(self, out):
        self.out = out


REFUSED = {
    "hidden state of a recurrent layer": (lambda out: (out, out.T[None]), r"output\[1\]: shapes \(1, 3, 8\) of 8, "),
    "scalar": (lambda out: {"a": out.mean()}, r"output\['a'\]: shapes \(\) of 8"),
    "positions first": (lambda out: out.T.repeat(8, 1), r"output: shapes \(24, 8\) of 8, \(24, 6\) of 6 examples"),
    "padded to the longest": (lambda out: out[:, : 2 + len(out) // 8], r"output: shapes \(8, 3\) of 8, \(6, 2\) of 6"),
    "object": (Thing, "output: Thing"),
    "several lengths": (lambda out: [out] * len(out), "output: list"),
    "text": (lambda out: (out, "a"), r"output\[1\]: str"),
}


@pytest.mark.parametrize(("shaped", "named"), REFUSED.values(), ids=REFUSED)
def test_outputs_that_cannot_be_joined_are_refused_by_name_with_the_way_out(shaped, named):
    made = task(shaped, metric=lambda *_: 1.0, loss=lambda *_: torch.zeros(()))
    with pytest.raises(TaskError, match=rf"{named}.*Pass as metric an object with update\(output, target\)"):
        made.evaluate(made.build(0))
    made = task(shaped, metric=None, loss=lambda *_: torch.zeros(()))
    made.evaluate(made.build(0))


class Running:
    """Counts what it sees; does not forget unless told."""

    def __init__(self):
        self.seen, self.resets = [], 0

    def update(self, output, target):
        self.seen.append((len(target), type(output)))

    def compute(self):
        return torch.tensor([float(sum(rows for rows, _ in self.seen))])


class Resettable(Running):
    def reset(self):
        self.seen = []


@pytest.mark.parametrize("kind", [Running, Resettable])
def test_an_object_with_update_and_compute_sees_each_batch_and_is_left_as_it_was(kind):
    metric = kind()
    if kind is Resettable:
        metric.seen.append((1000, None))
    before = copy.copy(metric.seen)
    made = task(Thing, metric=metric, loss=lambda *_: torch.zeros(()))
    model = made.build(0)
    assert made.evaluate(model)[1] == made.evaluate(model)[1] == ROWS
    assert metric.seen == before
    assert made.metric_name == kind.__name__


def test_a_metric_of_torchmetrics_is_one():
    torchmetrics = pytest.importorskip("torchmetrics")
    made = task(metric=torchmetrics.AUROC(task="multiclass", num_classes=3))
    output, target = reference(made)
    expected = roc_auc_score(target, output.softmax(1), multi_class="ovr")
    assert made.evaluate(made.build(0))[1] == pytest.approx(expected, abs=1e-6)
    made.check()


class Seeing(Dataset):
    """Writes down which items are asked for."""

    def __init__(self, tensors):
        self.tensors, self.asked = tensors, []

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        self.asked.append(index)
        return tuple(tensor[index] for tensor in self.tensors)


def test_every_validation_example_of_a_dataset_is_asked_for_once_in_order():
    data = Seeing(task().valid)
    made = task(valid=data)
    made.evaluate(made.build(0))
    assert data.asked == list(range(ROWS))


def test_a_loss_that_is_no_scalar_in_evaluation_alone_is_refused():
    made = task(loss=lambda output, target: nn.functional.cross_entropy(output, target).item())
    with pytest.raises(TaskError, match=r"a task's loss must be a scalar tensor \(got 'float'\)"):
        made.evaluate(made.build(0))
