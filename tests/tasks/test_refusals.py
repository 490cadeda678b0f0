"""What a task refuses, when, and in which words."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from steepest.errors import InvalidArgument, TaskError, UnknownName
from steepest.tasks import Task, accuracy

X, Y = torch.linspace(-1, 1, 20)[:, None], torch.linspace(-2, 2, 20)[:, None]


def task(**changes) -> Task:
    return Task(
        **{
            "model": lambda: nn.Linear(1, 1),
            "loss": nn.functional.mse_loss,
            "train": (X, Y),
            "valid": (X, Y),
            "batch_size": 5,
            **changes,
        }
    )


class Unsized(Dataset):
    def __getitem__(self, index):
        return X[index], Y[index]


class Empty(Unsized):
    def __len__(self):
        return 0


class Running:
    def update(self, output, target): ...
    def compute(self): ...


TENSORS = r"must be a tuple \(inputs..., target\) of tensors with one common first dimension"
DATA = (
    "must be tensors, a Dataset with a length above 0 or iterable-style, a DataLoader, or a function that returns one"
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": nn.Linear(1, 1)(X)}, r"a task's model must be a function .* Pass a function."),
        ({"loss": "mse"}, r"a task's loss must be a function \(got 'mse'\). Pass a function."),
        ({"train": (X,)}, rf"train {TENSORS} \(got \[\(20, 1\)\]\). Convert arrays with torch.as_tensor"),
        ({"valid": (X,)}, rf"valid {TENSORS}"),
        ({"train": (X, Y[:-1])}, rf"train {TENSORS} \(got \[\(20, 1\), \(19, 1\)\]\)"),
        ({"train": (X.numpy(), Y.numpy())}, rf"train {TENSORS} \(got \['ndarray', 'ndarray'\]\)"),
        ({"train": (X, torch.tensor(1.0))}, rf"train {TENSORS} \(got \[\(20, 1\), \(\)\]\)"),
        ({"train": (X[:0], Y[:0])}, rf"train {TENSORS}"),
        ({"train": ()}, rf"train {TENSORS} \(got \[\]\)"),
        ({"train": None}, rf"train {DATA} \(got 'NoneType'\). Pass \(x, y\), or a Dataset whose items"),
        ({"train": Unsized()}, rf"train {DATA} \(got 'Unsized'\)"),
        ({"train": Empty()}, rf"train {DATA} \(got 'Empty'\)"),
        ({"valid": []}, rf"valid {DATA} \(got 'list'\)"),
        ({"valid": {}}, rf"valid {TENSORS} \(got \[\]\)"),
        ({"train": {"x": X, "y": Y[:3]}}, rf"train {TENSORS} \(got \[\(20, 1\), \(3, 1\)\]\)"),
        ({"train": TensorDataset(X)}, rf"train {TENSORS} \(got \[\(20, 1\)\]\). .* a tensor alone is its own target"),
        (
            {"batch_loss": lambda *_: X.sum()},
            r"must have loss or batch_loss, not both .* For validation, pass valid_",
        ),
        ({"loss": None, "batch_loss": 3}, r"a task's batch_loss must be a function \(got 3\)"),
        ({"valid_loss": 3}, r"a task's valid_loss must be a function \(got 3\)"),
        ({"collate": 3}, r"a task's collate must be a function \(got 3\)"),
        (
            {"collate": list},
            r"collate must be left out where neither train nor valid is a Dataset .* Tensors need",
        ),
        ({"num_workers": 2}, r"num_workers must be left out where neither train nor valid is a Dataset \(got 2\)"),
        ({"num_workers": -1}, r"num_workers must be a whole number >= 0 \(got -1\)"),
        ({"clip_norm": 0}, r"clip_norm must be a number in \(0, inf\) \(got 0\)"),
        ({"validations": 0}, r"validations must be a whole number >= 1 \(got 0\)"),
        ({"validations": [3, 0]}, r"validations after the start must be a whole number >= 1 \(got 0\)"),
        ({"validations": "30"}, r"validations must be a whole number >= 1 \(got '30'\). Pass a number, or a list"),
        ({"rank_by": "acuracy", "metric": accuracy}, r"no such metric to rank by .* Did you mean accuracy\?"),
        ({"rank_by": "metric"}, r"no such metric to rank by \(got 'metric'\). Known: loss."),
        ({"rank_by": None}, r"rank_by must be a string \(got None\)"),
        ({"batch_size": 0}, r"batch_size must be a whole number from 1 to 20 \(got 0\). Choose a smaller"),
        ({"batch_size": 21}, r"batch_size must be a whole number from 1 to 20 \(got 21\)"),
        ({"steps": 0}, r"steps must be a whole number >= 1 \(got 0\)"),
        ({"steps": True}, r"steps must be a whole number >= 1 \(got True\)"),
        ({"batch_size": 2.5}, r"batch_size must be a whole number from 1 to 20 \(got 2.5\)"),
        ({"eval_batch_size": 0}, r"eval_batch_size must be a whole number >= 1 \(got 0\)"),
        ({"name": ""}, r"a task's name must not be empty \(got ''\)"),
        ({"name": None}, r"a task's name must be a string \(got None\)"),
        ({"init": None}, r"a task's init must be the name of an init \(got None\)"),
        ({"frozen": 3}, r"frozen must be a tuple of names \(got 3\)"),
        ({"frozen": (3,)}, r"frozen must be a tuple of names \(got 3\)"),
        ({"metric": "accuracy"}, r"metric must be a function, or an object with update and compute \(got 'accuracy'\)"),
        ({"metric": Running}, r"metric must be a function, .* Pass an instance, not a class."),
        ({"train": (X.to_sparse(), Y)}, r"train must be dense tensors with data \(got torch.sparse_coo\)"),
        ({"valid": (X, Y.to("meta"))}, r"valid must be dense tensors with data \(got 'device meta'\)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_can_be_seen_at_once_is_refused_when_the_task_is_made(changes, message):
    with pytest.raises((InvalidArgument, UnknownName), match=message):
        task(**changes)


def detached(output, target):
    return nn.functional.mse_loss(output, target).detach()


def not_finite(output, target):
    return nn.functional.mse_loss(output, target) * math.nan


def constant(output, target):
    return 1.5


def first_argument(output, target):
    return output


def raising(output, target):
    raise ZeroDivisionError("division by zero\nand a second line")


SAME = nn.Linear(1, 1)


def raises(*_):
    raise ZeroDivisionError("no luck")


def frozen():
    return nn.Linear(1, 1).requires_grad_(False)


class Items(Dataset):
    """Twenty items made by a function of their number."""

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return self.item(index)


def broken_at_the_end():
    """Only the last item is broken: a batch of five seldom has it."""
    return Items(lambda i: raises() if i == 19 else (X[i], Y[i]))


def uneven():
    return Items(lambda i: (torch.ones(1 + i % 2), Y[i]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": lambda: 3},
            r"a task's model function must return a torch.nn.Module \(got 'int'\). Return the module",
        ),
        ({"model": lambda: nn.Linear}, r"must return a torch.nn.Module \(got 'type'\)"),
        ({"model": nn.ReLU}, r"a model to train must have parameters \(got 'ReLU'\). Add a layer."),
        (
            {"model": lambda: nn.Linear(3, 1)},
            r"the model and the loss must take the training data, of shapes \(5, 1\), \(5, 1\) "
            r"\(got 'RuntimeError: .*'\). Compare these shapes with what the first layer and the loss expect.",
        ),
        ({"loss": nn.functional.cross_entropy, "train": (X, Y[:, 0].long())}, "must take the training data"),
        ({"loss": raising}, r"must take the training data, .* \(got 'ZeroDivisionError: division by zero'\)"),
        (
            {"loss": lambda output, target: (output - target).square()},
            r"a task's loss must be a scalar tensor \(got 'shape \(5, 1\)'\). Average over the batch, for example",
        ),
        ({"loss": constant}, r"a task's loss must be a scalar tensor \(got 'float'\)"),
        ({"loss": not_finite}, r"a task's loss must be finite before training \(got nan\). Look for NaN in the data"),
        ({"train": (X * math.inf, Y)}, r"a task's loss must be finite before training \(got (nan|inf)\)"),
        (
            {"loss": detached},
            r"must depend on the model's parameters \(got 'a loss without a gradient'\). Remove .detach\(\)",
        ),
        (
            {"valid": (torch.ones(20, 2), Y)},
            r"the model, the loss and the metrics must take the validation data "
            r"\(got 'RuntimeError: .*'\). Give `valid` the shapes of `train`, and let a metric return a number.",
        ),
        ({"metric": raising}, r"validation data \(got 'ZeroDivisionError: division by zero'\)"),
        (
            {"metric": first_argument},
            r"metric \S+ must be one number \(got 'shape \(20, 1\)'\). Return a float or a tensor",
        ),
        ({"metric": lambda *_: "good"}, r"metric \S+ must be one number \(got \"'good'\"\)"),
        ({"metric": lambda *_: None}, r"metric \S+ must be one number \(got 'None'\)"),
        ({"metric": lambda *_: torch.tensor(1j)}, r"metric \S+ must be one number"),
        (
            {"metric": lambda *_: math.nan},
            r"metric <lambda> must be a finite number before training \(got nan\). Look for a div",
        ),
        ({"valid": (X * math.nan, Y)}, r"validation loss must be finite before training \(got nan\). Look for NaN in"),
        ({"valid": (X, Y * math.inf)}, r"validation loss must be finite before training \(got inf\)"),
        ({"loss": lambda output, target: (output != target).sum()}, r"real floating-point number \(got torch.int64\)"),
        ({"loss": lambda output, _: (output * 1j).mean()}, r"real floating-point number \(got torch.complex64\)"),
        ({"model": raises}, r"model function must return a torch.nn.Module \(got 'ZeroDivisionError: no luck'\)"),
        ({"model": frozen}, r"must have a parameter that is not frozen \(got '2 frozen'\)"),
        (
            {"model": lambda: SAME},
            r"must make a new model each time, .* \(got 'the same memory of weight twice'\). Make",
        ),
        ({"train": broken_at_the_end()}, r"the training data must give batches \(got 'ZeroDivisionError: no luck'\)"),
        (
            {"train": uneven()},
            r"the items of train must be alike, so that torch's default_collate can make a batch of them "
            r"\(got 'RuntimeError: stack expects each tensor.*'\). Pass collate=, for example a function that pads",
        ),
        ({"valid": broken_at_the_end()}, r"must take the validation data \(got 'ZeroDivisionError: no luck'\)"),
        (
            {"train": Items(lambda i: {"x": X[i]}), "valid": Items(lambda i: {"x": X[i]})},
            r"must take the training data, of shapes x \(5, 1\) \(got .TypeError: .*unexpected keyword argument",
        ),
        (
            {"valid": Items(lambda i: X[i])},
            r"the batches of valid must have the parts that those of train have \(got '\(5, 1\) instead of \(5, 1\), ",
        ),
        (
            {"train": Items(lambda i: (X[i], "a"))},
            r"items of train must be tensors, arrays or numbers, .* \(got 'str at batch\[1\]\[0\]'\). Convert or leave",
        ),
        ({"train": Items(lambda _: "a"), "valid": Items(lambda _: "a")}, r"a batch of train .* \(got 'list'\)"),
        ({"train": Items(lambda i: (X[i],))}, r"a batch of train .* \(inputs..., target\) \(got '1 part'\). Return"),
        ({"train": Items(lambda i: {1: X[i]})}, r"a mapping must have names as keys, .* \(got 1\)"),
        ({"frozen": ("wait",)}, r"no such parameter or module \(got 'wait'\). Did you mean weight\?"),
    ],
)
def test_what_shows_only_when_it_runs_is_refused_by_the_check(changes, message):
    with pytest.raises((TaskError, UnknownName), match=message):
        task(**changes).check()


def test_an_error_of_the_users_own_code_is_kept_as_the_cause():
    with pytest.raises(TaskError) as raised:
        task(loss=raising).check()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


TRAINED = torch.ones(1, 1)
BACKBONE = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2)).requires_grad_(False)


def with_trained_weight(take):
    model = nn.Linear(1, 1)
    take(model)
    return model


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (lambda: with_trained_weight(lambda m: setattr(m, "weight", nn.Parameter(TRAINED))), "weight"),
        (lambda: with_trained_weight(lambda m: setattr(m.weight, "data", TRAINED)), "weight"),
        (
            lambda: with_trained_weight(
                lambda m: m.load_state_dict({"weight": TRAINED, "bias": torch.zeros(1)}, assign=True)
            ),
            "weight",
        ),
        (lambda: nn.Sequential(BACKBONE, nn.Linear(2, 1)), "0.1.running_mean"),
    ],
)
def test_models_that_share_memory_which_training_changes_are_refused(model, name):
    with pytest.raises(TaskError, match=rf"must make a new model each time, .* \(got 'the same memory of {name} twice"):
        task(model=model).check()


def test_models_may_share_what_training_leaves_alone():
    fixed = nn.Linear(1, 2).requires_grad_(False)
    task(model=lambda: nn.Sequential(fixed, nn.Linear(2, 1))).check()
    task(model=lambda: with_trained_weight(lambda m: m.load_state_dict({"weight": TRAINED, "bias": torch.ones(1)})))


def test_a_sound_task_passes_with_and_without_a_metric():
    task().check()
    task(metric=lambda output, target: (output - target).abs().mean()).check()


def test_a_check_does_not_train():
    built = []

    def model():
        built.append(nn.Linear(1, 1))
        return built[-1]

    checked = task(model=model)
    checked.check()
    reference = checked.build(0)
    for found, expected in zip(built[0].parameters(), reference.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_task_is_fixed_once_made():
    with pytest.raises(dataclasses.FrozenInstanceError):
        task().steps = 3


@pytest.mark.parametrize(
    ("metric", "name"),
    [(nn.functional.l1_loss, "l1_loss"), (nn.L1Loss(), "L1Loss"), (constant, "constant")],
)
def test_a_metric_is_called_by_its_own_name(metric, name):
    assert task(metric=metric).metric_name == name
