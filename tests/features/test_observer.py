"""What a comparison says about the features of its networks."""

from __future__ import annotations

import dataclasses
import json

import optuna
import pytest
import torch
from tests.compare import tiny
from torch import nn
from torch.utils.data import TensorDataset

from steepest.compare import Budget, Cell, Run, compare
from steepest.compare._identity.identity import Identity
from steepest.compare._queue.store import Store
from steepest.diagnose import Diagnosis
from steepest.errors import InvalidArgument
from steepest.features import FeatureObserver, change_of, spectra
from steepest.linearize import FeatureChange, Linearization, Spectrum, compare_linearizations
from steepest.report import as_json, write_page
from steepest.tasks import Task
from steepest.train import History, Start, Validated, train

IDENTITIES = {Cell("sgd", "he"): Identity(request={"optimizer": "sgd", "init": "he"}, content={}, versions={})}
QUICK = {
    "seeds": 3,
    "budget": Budget(rates=5, tuning_seeds=1),
    "workers": 1,
    "observers": {"features": FeatureObserver},
}


@pytest.fixture
def tiny_task():
    return tiny.tiny_task


def nets(task):
    return dataclasses.replace(task, model=lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))


def observed(task, **options):
    """Train once and return what was seen, with the networks at both ends."""
    observer = FeatureObserver()
    ends = []

    def look(event):
        if isinstance(event, Validated) and event.step in (0, task.steps):
            ends.append(nn.Sequential(*(type(m)(**shape(m)) for m in event.model)).double())
            ends[-1].load_state_dict({name: t.double() for name, t in event.model.state_dict().items()})

    both = (observer, look)
    train(task, lambda m, lr: torch.optim.SGD(m.parameters(), lr), "he", lr=0.1, seed=0, observe=both, **options)
    return observer.change, ends


def shape(module):
    if isinstance(module, nn.Linear):
        return {"in_features": module.in_features, "out_features": module.out_features}
    return {}


def change_in(comparison, cell):
    return change_of(comparison.final_histories(cell)[0])


def test_both_ends_are_linearised_in_float64_at_the_first_examples(tiny_task):
    task = nets(tiny_task())
    found, (before, after) = observed(task)
    x = task.train[0].double()
    first, last = Linearization(before, x), Linearization(after, x)
    change = compare_linearizations(first, last)
    assert (found.examples, found.rows, found.columns) == (96, 288, 51)
    assert (found.start.rank, found.end.rank) == (first.svd().rank, last.svd().rank)
    assert found.start.singular_values == pytest.approx(first.svd().singular_values.tolist(), rel=1e-5, abs=1e-12)
    assert found.end.singular_values == pytest.approx(last.svd().singular_values.tolist(), rel=1e-5, abs=1e-12)
    assert (found.kernel_alignment, found.kernel_change) == (change.kernel_alignment, change.kernel_change)
    assert found.regime == change.regime
    assert found.kernel_change > 0


def test_no_more_than_500_rows_are_looked_at(tiny_task):
    x, y = torch.randn(700, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(700).long()
    task = nets(tiny_task(train=(x, y)))
    found, _ = observed(task)
    assert (found.examples, found.rows) == (166, 498)


def test_a_dataset_is_looked_at_as_tensors_are(tiny_task):
    task = nets(tiny_task())
    as_dataset = dataclasses.replace(task, train=TensorDataset(*task.train))
    assert observed(as_dataset)[0] == observed(task)[0]


def test_only_the_first_final_run_of_each_alternative_is_looked_at(tiny_task):
    comparison = compare(nets(tiny_task()), ["sgd", "adamw"], ["he"], **QUICK)
    seen = {run for run, history in comparison.histories.items() if "features" in history.observations}
    assert seen == {comparison.final_runs(cell)[0] for cell in comparison.design.cells}
    best, other = (standing.cell for standing in comparison.table())
    found = change_in(comparison, best)
    display = spectra(found)
    assert display.singular_values == {
        "initialisation": found.start.singular_values,
        "end": found.end.singular_values,
    }
    assert display.ranks == {"initialisation": found.start.rank, "end": found.end.rank}
    assert found.start == change_in(comparison, other).start, "alternatives of one init start alike"
    records = {each["cell"]["optimizer"]: each for each in json.loads(json.dumps(as_json(comparison)))["features"]}
    assert records[best.optimizer]["start"]["singular_values"] == found.start.singular_values
    assert "singular_values" not in records[other.optimizer]["start"]
    assert records[other.optimizer]["end"]["rank"] == change_in(comparison, other).end.rank


class Noisy(nn.Linear):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


def test_where_a_network_cannot_be_linearised_the_reason_is_kept_and_the_trial_goes_on(tiny_task, tmp_path):
    comparison = compare(tiny_task(model=lambda: Noisy(4, 3)), ["sgd", "adamw"], ["he"], **QUICK)
    best = comparison.table()[0].cell
    assert "the same outputs whenever it is called" in change_in(comparison, best)
    page = write_page(comparison, tmp_path / "r.html").read_text()
    assert "cannot be shown: the model must give the same outputs" in page
    assert {each["refused"] for each in as_json(comparison)["features"]} == {change_in(comparison, best)}
    with pytest.raises(InvalidArgument, match="must be a FeatureChange"):
        spectra(change_in(comparison, best))


def test_what_is_too_large_is_said_and_not_looked_at(monkeypatch):
    def task(model, y):
        x = torch.zeros(4, 2)
        return Task(model=model, loss=nn.functional.mse_loss, train=(x, y), valid=(x, y), batch_size=2, steps=1)

    def seen(of, model):
        observer = FeatureObserver()
        sgd = torch.optim.SGD(model.parameters(), 0.1)
        observer(Start(task=of, model=model, optimizer=sgd, steps=1, validations=1, device="cpu"))
        observer(Validated(step=0, model=model, loss=1.0, metrics={}))
        return observer.found()

    wide = task(lambda: nn.Linear(2, 501), torch.zeros(4, 501))
    assert seen(wide, nn.Linear(2, 501)) == "an example has 501 outputs, and at most 500 are linearised"
    monkeypatch.setattr("steepest.features._observer._PARAMETERS", 2)
    assert (
        seen(task(lambda: nn.Linear(2, 1), torch.zeros(4, 1)), nn.Linear(2, 1))
        == "the network has 3 parameters, and at most 2 are linearised"
    )


def history(features):
    return History(
        steps=[0],
        train_loss=[1.0],
        valid_loss=[1.0],
        valid_metrics={"accuracy": [0.1]},
        seconds=[0.0],
        duration=0.1,
        gradient_steps=[0],
        mean_gradient_norm=[0.1],
        gradient_norm={},
        diagnosis=Diagnosis("healthy", 0.9, (), "", ()),
        diverged=False,
        seconds_per_step=0.001,
        state_bytes=8,
        observations={} if features is None else {"features": features},
    )


SPECTRUM = Spectrum(singular_values=[2.0, 0.1 + 0.2], rank=1, threshold=0.5, effective_rank=1.5)
CHANGE = FeatureChange(
    examples=2,
    rows=2,
    columns=9,
    start=SPECTRUM,
    end=SPECTRUM,
    kernel_alignment=0.5,
    kernel_change=float("inf"),
    regime="feature learning",
)


@pytest.mark.parametrize(
    "features", [dataclasses.asdict(CHANGE), "a reason", None], ids=["seen", "refused", "not looked at"]
)
def test_a_storage_gives_back_what_was_seen(tmp_path, features):
    cell = Cell("sgd", "he")
    store = Store(f"sqlite:///{tmp_path / 's.db'}", IDENTITIES)
    store.enqueue([Run(cell, -8, 1000)])
    store.finish(store.claim(), history(features))
    again = Store(f"sqlite:///{tmp_path / 's.db'}", IDENTITIES)
    (found,) = again.finished().values()
    assert found == history(features)
    assert change_of(found) == (CHANGE if isinstance(features, dict) else features)


def test_a_stored_history_without_what_nobody_watched_is_one(tmp_path):
    cell, url = Cell("sgd", "he"), f"sqlite:///{tmp_path / 's.db'}"
    store = Store(url, IDENTITIES)
    store.enqueue([Run(cell, -8, 1000)])
    lease = store.claim()
    old = dataclasses.asdict(history(None))
    del old["observations"], old["diagnosis"], old["gradient_norm"]
    lease.trial.set_user_attr("history", json.dumps(old))
    optuna.load_study(study_name="steepest", storage=url).tell(lease.trial.number, 1.0)
    (found,) = Store(url, IDENTITIES).finished().values()
    assert found == dataclasses.replace(history(None), diagnosis=None)
    assert change_of(found) is None
