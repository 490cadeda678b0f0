"""Where the loss comes from, in training and in validation, and what metrics get of structured batches and outputs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from steepest.features import FeatureObserver
from steepest.features import features as tangent_features
from steepest.tasks import Task, accuracy
from steepest.train import Start, Step, Validated, train

ROWS = 22
X = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()


class Batches(OrderedDict):
    """An output that is a mapping and takes its parts by keyword, as those of Transformers."""


@dataclass(frozen=True)
class Output:
    logits: Tensor
    loss: Tensor | None = None


class Classifier(nn.Module):
    """Takes what Transformers' models take."""

    def __init__(self, kind=Output):
        super().__init__()
        self.linear, self.kind = nn.Linear(3, 2), kind

    def forward(self, x, labels=None, mask=None):  # noqa: ARG002
        logits = self.linear(x)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return self.kind(logits=logits, loss=loss)


class Texts(Dataset):
    """Dicts whose masks differ in width between batches once they are padded."""

    def __len__(self):
        return ROWS

    def __getitem__(self, i):
        return {"x": X[i], "labels": Y[i], "mask": torch.ones(1 + i // 4)}


def pad(items):
    mask = nn.utils.rnn.pad_sequence([item["mask"] for item in items], batch_first=True)
    return {**{key: torch.stack([item[key] for item in items]) for key in ("x", "labels")}, "mask": mask}


def task(**changes):
    given = {"train": {"x": X, "labels": Y}, "valid": {"x": X, "labels": Y}, "batch_size": 8, "steps": 5}
    return Task(**{"model": Classifier, **given, **changes})


def right(output, batch):
    logits = output["logits"] if isinstance(output, dict) else output.logits
    return accuracy(logits, batch["labels"])


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr)


@pytest.mark.parametrize("kind", [Output, SimpleNamespace, dict, Batches])
@pytest.mark.parametrize("data", ["tensors", "padded", "loader"])
def test_a_metric_gets_all_outputs_without_their_loss_and_the_batches_joined(kind, data):
    datasets = {"padded": {"train": Texts(), "valid": Texts(), "collate": pad}, "tensors": {}}
    datasets["loader"] = {each: DataLoader(Texts(), batch_size=8, collate_fn=pad) for each in ("train", "valid")}
    seen = []

    def metric(output, batch):
        seen.append((type(output), batch))
        return right(output, batch)

    made = task(model=lambda: Classifier(kind), metric=metric, **datasets[data])
    made.check()
    seen.clear()
    model = made.build(0)
    with torch.no_grad():
        logits = model.linear(X)
    loss, value = made.evaluate(model)
    assert value == pytest.approx(accuracy(logits, Y))
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, Y)), rel=1e-5)
    ((of, batch),) = seen
    assert of is kind
    assert torch.equal(batch["x"], X)
    if data != "tensors":  # masks of different widths stay one per batch
        assert [tuple(mask.shape) for mask in batch["mask"]] == [(8, 2), (8, 4), (6, 6)]


def test_a_validation_loss_of_its_own_is_used_in_validation_alone():
    errors = {"valid_loss": lambda output, batch: (output.logits.argmax(1) != batch["labels"]).float().mean()}
    for changes in ({}, {"loss": None, "batch_loss": lambda model, batch: model(**batch).loss}):
        made, plain = task(**changes, **errors), task(**changes)
        model = made.build(0)
        with torch.no_grad():
            expected = 1 - accuracy(model.linear(X), Y)
        assert made.evaluate(model)[0] == pytest.approx(expected)
        runs = [train(each, sgd, "default", lr=0.1, seed=0, steps=8) for each in (made, plain)]
        assert runs[0].train_loss == runs[1].train_loss
        assert runs[0].valid_loss != runs[1].valid_loss


def test_a_loss_of_model_and_batch_may_do_anything_and_metrics_call_the_model_as_usual():
    def twice(model, batch):
        return (model(**batch).loss + model(batch["x"], batch["labels"]).loss) / 2

    made, plain = task(batch_loss=twice, metric=right), task(metric=right)
    runs = [train(each, sgd, "default", lr=0.1, seed=0) for each in (made, plain)]
    assert runs[0].valid_loss == pytest.approx(runs[1].valid_loss, rel=1e-6)
    assert runs[0].valid_metrics == runs[1].valid_metrics


@pytest.mark.parametrize("bound", [0.01, 0.5, 1e6])
def test_the_gradient_of_all_parameters_together_is_clipped(bound):
    norms = []

    class Watching(torch.optim.SGD):
        def step(self, closure=None):
            grads = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.cat([g.flatten() for g in grads]).norm()))
            super().step(closure)

    def unclipped():
        norms.clear()
        train(task(), lambda m, lr: Watching(m.parameters(), lr), "default", lr=0.0, seed=0)
        return list(norms)

    free = unclipped()
    norms.clear()
    train(task(clip_norm=bound), lambda m, lr: Watching(m.parameters(), lr), "default", lr=0.0, seed=0)
    assert norms == pytest.approx([min(norm, bound) for norm in free], rel=1e-4)


def test_a_task_says_how_often_it_is_validated_and_a_run_may_say_otherwise():
    def steps(made, **options):
        return train(made, sgd, "default", lr=0.1, seed=0, **options).steps

    assert steps(task(validations=2)) == [0, 3, 5]
    assert steps(task(validations=[1, 4])) == [0, 1, 4, 5]
    assert steps(task(validations=(1, 4)), steps=2) == [0, 1, 2]
    assert steps(task(validations=2), validations=1) == [0, 5]


def test_an_observer_gets_a_target_where_there_is_one_tensor():
    def targets(made):
        found = []
        train(made, sgd, "default", lr=0.1, seed=0, observe=lambda e: isinstance(e, Step) and found.append(e.target))
        return found

    assert targets(task()) == [None] * 5
    pairs = {"train": (X, Y), "valid": (X, Y), "loss": lambda output, y: nn.functional.cross_entropy(output.logits, y)}
    assert [len(target) for target in targets(task(**pairs))] == [8] * 5
    alone = {"train": X, "valid": X, "loss": lambda output, x: (output.logits.sum(1) - x.sum(1)).square().mean()}
    assert targets(task(**alone)) == [None] * 5


def test_an_init_that_runs_the_model_gets_the_inputs_by_name():
    start = train(task(), sgd, "lsuv", lr=0.1, seed=0).valid_loss[0]
    assert start != train(task(), sgd, "default", lr=0.1, seed=0).valid_loss[0]


def test_tangent_features_refuse_what_they_cannot_linearise_with_a_reason():
    def seen(made):
        observer, model = FeatureObserver(), made.build(0)
        observer(Start(task=made, model=model, optimizer=sgd(model, 0.1), steps=1, validations=1, device="cpu"))
        observer(Validated(step=0, model=model, loss=1.0, metrics={}))
        return observer.found()

    loss = {"loss": lambda output, batch: nn.functional.cross_entropy(output.logits, batch["labels"])}
    assert "tangent features need tuples of tensors (inputs..., target) (got 'dict')" in seen(task(**loss))
    loader = DataLoader(Texts(), batch_size=8, collate_fn=pad)
    assert "tangent features need examples with numbers (got 'a stream or a DataLoader')" in seen(task(train=loader))
    pairs = {"train": (X, Y), "valid": (X, Y)}
    assert "need a model that is called with its inputs" in seen(task(**pairs))
    with pytest.raises(Exception, match="tangent features need tuples of tensors"):
        tangent_features(task(**loss), steps=1)
