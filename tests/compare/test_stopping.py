"""Trials that stop when they can, by which measure, and what they say of other plans."""

import dataclasses
import json
import math
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from steepest.compare import Budget, Candidate, Cell, Sequential, compare
from steepest.errors import InvalidArgument, SteepestError, UnknownName
from steepest.report import write
from steepest.tasks import Metric, accuracy

SMALL = Budget(rates=5, tuning_seeds=1)
LAME = Candidate("lame", lambda model, lr: torch.optim.SGD(model.parameters(), 1e-9 * lr), 1e-1)
CLOSE = Candidate("close", lambda model, lr: torch.optim.SGD(model.parameters(), lr, weight_decay=1e-3), 1e-1)


def trial(task, optimizers, **options):
    return compare(task, optimizers, ["he"], **{"budget": SMALL, "workers": 1, **options})


def test_what_is_beaten_gets_no_more_seeds_and_the_trial_stops_when_only_one_is_left(tiny_task):
    found = trial(tiny_task(), ["adamw", LAME], seeds=Sequential(max_seeds=80))
    assert found.analysis.look == 5
    assert {len(found.final_runs(cell)) for cell in found.design.cells} == {5}
    assert found.verdict.choice == Cell("adamw", "he")
    assert (found.verdict.regret, found.verdict.next_step) == (0.0, None)


def test_what_is_close_gets_more_seeds_than_what_is_beaten(tiny_task):
    found = trial(tiny_task(), ["sgd", CLOSE, LAME], seeds=Sequential(max_seeds=10))
    assert dict(found.analysis.eliminated) == {Cell("lame", "he"): 5}
    assert len(found.final_runs(Cell("sgd", "he"))) == 10
    assert 0 < found.verdict.regret < math.inf
    step = found.verdict.next_step
    assert step.is_new_plan
    assert f"{step.seeds} seeds, a new plan, would" in str(found.verdict)
    assert f"seeds=Sequential(max_seeds={step.seeds})" in str(found.verdict)


@pytest.mark.parametrize(
    ("command", "next_command"),
    [
        ("steepest compare --task digits", "steepest compare --task digits --max-seeds {}"),
        ("steepest compare --seeds 10 --out 'my runs'", "steepest compare --out 'my runs' --max-seeds {}"),
        ("steepest compare --max-seeds=10 --quick", "steepest compare --quick --max-seeds {}"),
    ],
)
def test_the_next_command_is_the_present_one_with_more_seeds(tiny_task, command, next_command):
    found = trial(tiny_task(), ["sgd", CLOSE], seeds=Sequential(max_seeds=10))
    step = dataclasses.replace(found, command=command).verdict.next_step
    assert step.command == next_command.format(step.seeds)


def test_a_wide_margin_ends_at_the_first_look_and_until_same_settles_all(tiny_task):
    for until in ("choice", "same"):
        found = trial(tiny_task(), ["sgd", CLOSE], seeds=Sequential(max_seeds=20, margin=10.0, until=until))
        assert found.analysis.look == 5
        (same,) = {"close", "sgd"} - {found.verdict.choice.optimizer}
        assert found.verdict.same == (Cell(same, "he"),)


def test_a_later_look_uses_the_runs_of_the_earlier_ones_and_says_that_it_is_another_plan(tiny_task, tmp_path):
    url = tmp_path / "study.db"
    first = trial(tiny_task(), [CLOSE, "sgd"], seeds=Sequential(max_seeds=5), storage=url)
    again = trial(tiny_task(), [CLOSE, "sgd"], seeds=Sequential(max_seeds=5), storage=url)
    more = trial(tiny_task(), [CLOSE, "sgd"], seeds=Sequential(max_seeds=10), storage=url)
    assert str(first.verdict) == str(again.verdict)
    assert first.earlier_plans == again.earlier_plans == 0
    assert set(first.histories) < set(more.histories)
    assert more.earlier_plans == 1
    assert "1 other plan looked at some of these runs before" in str(more.verdict)
    three = trial(tiny_task(), [CLOSE, "sgd", LAME], seeds=Sequential(max_seeds=5), storage=url)
    assert three.earlier_plans == 2
    fresh = trial(tiny_task(), [CLOSE, "sgd", LAME], seeds=Sequential(max_seeds=5))
    assert three.verdict.headline == fresh.verdict.headline
    margin = trial(tiny_task(), [CLOSE, "sgd"], seeds=Sequential(max_seeds=5, margin="1%"), storage=url)
    assert margin.earlier_plans == 0


def test_time_that_is_over_before_the_first_look_is_said_and_nothing_is_lost(tiny_task, tmp_path):
    url = tmp_path / "study.db"
    with pytest.raises(SteepestError, match="must reach its first look, 5 seeds after tuning, within its time"):
        trial(tiny_task(), ["adamw", "sgd"], at_most=1e-6, storage=url)
    trial(tiny_task(), ["adamw", "sgd"], at_most="1h", seeds=Sequential(max_seeds=5), storage=url)


def test_time_ends_a_trial_at_its_last_complete_look(tiny_task, tmp_path, monkeypatch):
    from steepest.compare._queue import gather

    clock = {"now": time.monotonic()}
    stopped = SimpleNamespace(monotonic=lambda: clock["now"], sleep=time.sleep)
    monkeypatch.setattr(gather, "time", stopped)

    class Told:
        def started(self, run):
            clock["now"] += 100.0 * (run.seed == 1006)  # a run between the looks at 5 and 10 seeds

        def known(self, *given):
            pass

        noticed = waiting = known

    found = trial(tiny_task(), ["sgd", CLOSE], seeds=Sequential(max_seeds=20), at_most=10, listener=Told())
    assert found.analysis.look == 5
    assert {run.seed for run in found.runs if run.phase == "final"} == set(range(1000, 1005))
    assert any(run.seed == 1006 for run in found.histories)
    within = [n for n in (10, 20) if found.verdict.next_step and found.verdict.next_step.seeds == n]
    assert found.verdict.next_step.is_new_plan == (not within)


def metric_task(tiny_task, **metric):
    return tiny_task(metric={"accuracy": Metric(accuracy, **metric), "error": lambda o, t: 1 - accuracy(o, t)})


def test_a_trial_is_tuned_and_ranked_by_the_metric_that_is_asked_for(tiny_task, tmp_path):
    task = metric_task(tiny_task, higher_is_better=True)
    found = trial(task, ["adamw", LAME], seeds=20, rank_by="metric")
    assert (found.measure.name, found.measure.higher_is_better) == ("accuracy", True)
    standing = found.standings[Cell("adamw", "he")]
    histories = found.final_histories(Cell("adamw", "he"))
    assert standing.value.estimate == pytest.approx(sum(h.valid_metrics["accuracy"][-1] for h in histories) / 20)
    tuned = found.tuning[Cell("adamw", "he")]
    assert max(tuned.values()) == tuned[found.final_runs(Cell("adamw", "he"))[0].grid_index]
    assert found.verdict.headline.startswith("Take adamw")
    assert "mean accuracy" in str(found.verdict)
    page = write(found, tmp_path).read_text()
    assert "Accuracy" in page
    assert json.loads((tmp_path / "results.json").read_text())["measure"]["name"] == "accuracy"
    by_error = trial(task, ["adamw", LAME], seeds=20, rank_by="min:error")
    assert by_error.verdict.choice == found.verdict.choice


@pytest.mark.parametrize(
    ("rank_by", "error", "says"),
    [
        ("error", InvalidArgument, "must have a direction"),
        ("accuracies", UnknownName, "Did you mean accuracy"),
        ("max:loss", InvalidArgument, "a higher loss must not be better"),
        ("", UnknownName, "no such metric"),
    ],
)
def test_what_cannot_be_ranked_by_is_refused(tiny_task, rank_by, error, says):
    with pytest.raises(error, match=says):
        trial(metric_task(tiny_task, higher_is_better=True), ["adamw"], rank_by=rank_by)


def test_loss_and_metric_that_disagree_on_the_first_place_are_said_to(tiny_task):
    def calm(model, lr):
        return torch.optim.SGD(model.parameters(), 1e-3 * lr)

    task = tiny_task(metric=Metric(lambda output, _: -float(output.abs().mean()), True, "calmness"))
    found = trial(task, ["adamw", Candidate("calm", calm, 0.1)], seeds=5)
    assert found.verdict.choice == Cell("adamw", "he")
    assert "By calmness calm comes first" in str(found.verdict)
    assert "which is place 2 by final validation loss; that is exploration" in str(found.verdict)


def test_a_learning_rate_far_from_the_usual_one_is_flagged(tiny_task):
    tiny = Candidate("tiny", lambda model, lr: torch.optim.SGD(model.parameters(), 1e-4 * lr), 0.1)
    found = trial(tiny_task(), ["sgd", tiny], seeds=3)
    assert found.standings[Cell("tiny", "he")].lr_is_unusual
    assert "The best learning rate of tiny" in str(found.verdict)
    assert "is far from its usual 0.1" in str(found.verdict)


def test_a_function_without_a_default_rate_has_no_usual_one(tiny_task):
    def slow(params, lr):
        return torch.optim.SGD(params, 1e-4 * lr)

    found = trial(tiny_task(), ["sgd", slow], seeds=3)
    assert set(found.usual_rates) == {"sgd"}
    assert "is far from its usual" not in str(found.verdict)


def test_a_diverged_run_counts_as_the_worst_of_tuning(tiny_task):
    class Fragile(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (math.nan if torch.initial_seed() == 1002 and self.training else 1.0)

    found = trial(tiny_task(model=lambda: Fragile(4, 3)), ["sgd"], seeds=4)
    cell = Cell("sgd", "he")
    tuning = [h for run, h in found.histories.items() if run.phase == "tuning"]
    worst = max(h.valid_loss[0] for h in tuning)
    assert found.standings[cell].diverged == 1
    assert found.final_values[cell][2] == pytest.approx(worst)
    assert "1 of 4 runs of sgd diverged" in str(found.verdict) or len(found.design.cells) == 1
