"""A trial whose gradients come from a source that evaluates the loss."""

from __future__ import annotations

import numpy as np
import pytest

from steepest.compare import CANDIDATES, Budget, compare, price
from steepest.errors import InvalidArgument, TaskError
from steepest.estimators import FiniteDifference, ScoreFunction
from steepest.report import as_json, write
from steepest.report._comparison.curves import over_what_counts
from steepest.train import train

FAST = Budget(rates=5, tuning_seeds=1, steps=6)
SCORE = ScoreFunction(sigma=0.1, samples=8)


def error_rate(output, target):
    return (output.argmax(dim=1) != target).float().mean()


def trial(task, gradient=SCORE, budget=FAST, optimizers=("sgd", "adamw"), **options):
    return compare(task, optimizers, seeds=3, budget=budget, workers=1, gradient=gradient, **options)


def test_its_runs_are_those_of_the_loop_and_a_loss_without_a_gradient_is_compared(tiny_task, tmp_path):
    task = tiny_task(loss=error_rate)
    found = trial(task)
    run = found.runs[-1]
    candidate = CANDIDATES[run.cell.optimizer].build
    alone = train(task, candidate, "default", lr=run.lr, seed=run.seed, steps=6, gradient=SCORE)
    history = found.histories[run]
    assert history.valid_loss == pytest.approx(alone.valid_loss)
    assert history.evaluations == [8 * step for step in history.steps]
    assert found.gradient == as_json(found)["gradient"] == "ScoreFunction(sigma=0.1, samples=8)"
    text = write(found, tmp_path).read_text()
    for said in ("48 evaluations of the loss per run", f"gradients from {found.gradient}", "over evaluations of"):
        assert said in text
    with pytest.raises(TaskError, match="--gradient score-function"):
        trial(task, None)


def test_curves_are_over_evaluations_too(tiny_task):
    found = trial(tiny_task(), optimizers=["sgd"])
    by_steps, by_evaluations = found.curves("training loss"), found.curves("training loss", "evaluations")
    assert by_evaluations.x_title == "evaluations of the loss"
    assert np.allclose(by_evaluations.x["sgd"], 8 * np.array(by_steps.x["sgd"]))
    assert by_evaluations.y == by_steps.y
    (cell,) = found.design.cells
    of_steps = found.layer_gradients(cell).plot()
    drawn = over_what_counts(found, cell, found.layer_gradients(cell).plot())
    assert drawn.layout.xaxis.title.text == "evaluations of the loss"
    assert np.allclose(drawn.data[0].x, 8 * np.array(of_steps.data[0].x))
    assert "evaluation %{x}" in drawn.data[0].hovertemplate


def test_a_budget_of_evaluations_gives_the_steps_that_it_pays(tiny_task):
    found = trial(tiny_task(), optimizers=["sgd"], budget=Budget(rates=5, tuning_seeds=1, evaluations=47))
    assert found.steps == 5
    assert {history.evaluations[-1] for history in found.histories.values()} == {40}
    with pytest.raises(InvalidArgument, match="steps or evaluations, not both"):
        Budget(steps=3, evaluations=30)
    with pytest.raises(InvalidArgument, match="enough for a step, which needs 8"):
        trial(tiny_task(), budget=Budget(evaluations=7))


def test_a_storage_keeps_the_runs_of_one_source_apart_from_those_of_another(tiny_task, tmp_path):
    storage = tmp_path / "study.db"

    def finished(gradient):
        return price(tiny_task(), ["sgd"], seeds=3, budget=FAST, storage=storage, gradient=gradient).finished

    made = trial(tiny_task(), optimizers=["sgd"], storage=storage)
    assert finished("score-function:sigma=0.1,samples=8") == len(made.histories)
    assert finished(ScoreFunction(sigma=0.2, samples=8)) == 0
    assert finished(FiniteDifference(delta=0.1, samples=4, directions="random")) == 0
    assert finished(None) == 0


def test_a_source_that_fails_is_named_before_anything_runs(tiny_task):
    def failing(_objective, _x, _generator):
        raise RuntimeError("no luck")

    with pytest.raises(InvalidArgument, match=r"gradient must be a source .*: failing \(got 'RuntimeError: no luck'\)"):
        trial(tiny_task(), failing)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gradient": "score-function"}, "gradient must be left out for a program"),
        ({"budget": Budget(evaluations=9)}, "evaluations must be left out for a program"),
    ],
)
def test_a_program_computes_its_gradients_itself(options, says):
    def program(trial):
        trial.report(0, loss=1.0)

    for call in (compare, price):
        with pytest.raises(InvalidArgument, match=says):
            call(program, ["sgd"], **options)
