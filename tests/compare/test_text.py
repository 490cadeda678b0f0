import math
import sys

import numpy as np
import pytest

from steepest.compare import Budget, Sequential, compare
from steepest.compare._result.text import Table
from steepest.errors import MissingExtra


@pytest.fixture(scope="module")
def comparison(tiny_task):
    plan = Sequential(max_seeds=5)
    budget = Budget(rates=5, tuning_seeds=1, steps=6)
    return compare(tiny_task(), ["sgd", "adamw"], ["he"], seeds=plan, budget=budget, workers=1)


def test_a_comparison_prints_as_the_sentences_of_its_verdict_and_a_table(comparison):
    lines = str(comparison).splitlines()
    verdict = comparison.verdict
    blank = lines.index("")
    assert lines[:blank] == [verdict.headline, *verdict.details]
    head, *rows = lines[blank + 1 :]
    assert head.split()[:3] == ["final", "validation", "loss"]
    assert [row.split()[0] for row in rows] == [comparison.label(s.cell) for s in comparison.table()]
    for standing, row in zip(comparison.table(), rows, strict=True):
        assert row.split()[1] == f"{standing.value.estimate:.4g}"
    column = head.index("learning rate")
    assert [row[column:].split()[0] for row in rows] == [f"{s.lr:.3g}" for s in comparison.table()]


def test_its_representation_is_one_line(comparison):
    assert repr(comparison) == f"<Comparison of 2 alternatives on tiny: {comparison.verdict.headline}>"
    assert repr(comparison.verdict) == f"<Verdict: {comparison.verdict.headline}>"


def test_a_notebook_shows_both(comparison):
    page = comparison._repr_html_()
    assert page.startswith(comparison.verdict._repr_html_())
    assert comparison.verdict.headline in page
    assert page.count("<tr>") == 3
    assert "<td" in page


def test_what_a_user_typed_is_shown_and_not_run():
    assert "&lt;b&gt;" in Table(["<b>"], [["<b>"]])._repr_html_()
    assert "<b>" not in Table(["<b>"], [["<b>"]])._repr_html_()


def test_a_table_has_aligned_columns():
    assert (
        str(Table(["", "loss"], [["a long name", "1"], ["b", "22"]]))
        == "             loss\na long name  1\nb            22"
    )


def test_the_frame_has_one_row_per_run_with_all_that_can_be_plotted(comparison):
    frame = comparison.to_frame()
    assert len(frame) == len(comparison.runs)
    assert list(frame["loss"]) == [comparison.histories[run].valid_loss[-1] for run in comparison.runs]
    assert list(frame["accuracy"]) == [
        comparison.histories[run].valid_metrics["accuracy"][-1] for run in comparison.runs
    ]
    final = frame[frame["phase"] == "final"]
    assert list(final["steps_to_target"]) == [
        comparison.steps_to_target(run) for cell in comparison.design.cells for run in comparison.final_runs(cell)
    ]
    assert np.isnan(frame[frame["phase"] == "tuning"]["steps_to_target"]).all()
    means = final.groupby("optimizer")["loss"].mean()
    for standing in comparison.table():
        assert math.isclose(means[standing.cell.optimizer], standing.loss)


def test_without_pandas_there_is_the_command_that_installs_it(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(MissingExtra, match=r"pip install 'steepest\[pandas\]'"):
        comparison.to_frame()
