import io
import math
import sys
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

from steepest.compare import Cell, Run
from steepest.compare._design import FIRST_SEED
from steepest.compare._progress import Lines, NotebookProgress, RichProgress, listener_for
from steepest.compare._rounds import Rounds

SGD, ADAM = Cell("sgd", "he"), Cell("adam", "he")


def tuning(round_, cell=SGD, seed=0):
    """The runs of a round: five learning rates in the first, one in each later one."""
    rates = range(5) if round_ == 1 else [3 + round_]
    return [Run(cell, 4 * n, seed) for n in rates]


def final(seeds, cell=SGD):
    return [Run(cell, 4, FIRST_SEED + seed) for seed in seeds]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def console(**options):
    return Console(file=io.StringIO(), width=200, **options)


def test_in_a_pipe_a_plain_line_says_where_the_trial_is_once_per_round():
    out = console()
    lines = Lines(out, looks=(2, 4))
    clock = lines._rounds._clock = Clock()
    losses = {}

    def run(runs, total):
        for each in runs:
            lines.known(losses, total)
            lines.started(each)
            clock.now += 2.0
            losses[each] = 1.0 / (1 + len(losses))

    with lines:
        run([*tuning(1), *tuning(1, ADAM)], 16)
        run([*tuning(2), *tuning(2, ADAM)], 16)
        run([*final(range(2)), *final(range(2), ADAM)], 16)
        run(final(range(2, 4)), 18)
    assert out.file.getvalue().splitlines() == [
        "Tuning, round 1: 0 of about 16 runs done.",
        "Tuning, round 2: 10 of about 16 runs done, best 0.1 (adam + he, 1e+02), about 12 s left.",
        "Final runs, seeds 1 to 2: 12 of about 16 runs done, best 0.08333 (adam + he, 3.2e+02), about 8 s left.",
        "Final runs, seeds 3 to 4: 16 of about 18 runs done, best 0.0625 (adam + he, 3.2), about 4 s left.",
    ]


def test_a_trial_that_goes_on_counts_only_its_own_pace():
    clock = Clock()
    rounds = Rounds(clock=clock)
    before = dict.fromkeys(tuning(1), 1.0)
    rounds.known(before, 20)
    assert rounds.state == "5 of about 20 runs done, best 1 (sgd + he, 1)"
    clock.now = 10.0
    rounds.known(before | {tuning(2)[0]: 2.0}, 20)
    assert rounds.state.endswith("about 140 s left")


def test_the_best_run_is_the_one_that_is_ranked_first_and_never_a_diverged_one():
    runs = tuning(1)
    losses = dict(zip(runs, [0.5, math.inf, 0.9, -math.inf, math.nan], strict=True))
    for higher, best in ((False, "best 0.5"), (True, "best 0.9")):
        rounds = Rounds(higher_is_better=higher)
        rounds.known(losses, 5)
        assert rounds.best.startswith(best)


def test_runs_that_another_process_hands_back_begin_no_round_again():
    rounds = Rounds((5, 10))
    assert [rounds.started(run) for run in final([0, 5, 4, 6])] == [True, True, False, False]
    assert rounds.title == "Final runs, seeds 6 to 10"
    assert Rounds().started(final([3])[0])


def test_what_shows_the_progress_fits_the_place(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert isinstance(listener_for(console=console()), Lines)
    assert isinstance(listener_for(console=console(force_terminal=True)), RichProgress)
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert isinstance(listener_for(), NotebookProgress)
    ipython.get_ipython = lambda: SimpleNamespace()  # a terminal's IPython
    assert not isinstance(listener_for(), NotebookProgress)


@pytest.fixture
def outputs(monkeypatch):
    """What a notebook would show: one list of pages per output."""
    shown = []

    def display(page, *, raw, display_id):
        assert raw
        assert display_id
        shown.append([page])
        return SimpleNamespace(update=lambda page, **_: shown[-1].append(page))

    for name in ("IPython", "IPython.display"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["IPython.display"].display = display
    return shown


def test_in_a_notebook_one_output_is_written_again(outputs):
    with NotebookProgress(looks=(5,)) as bar:
        bar.noticed("sgd <b> has a schedule of its own.")
        bar.known({}, 10)
        for i, run in enumerate(tuning(1)):
            bar.started(run)
            bar.known(dict.fromkeys(tuning(1)[: i + 1], 1.0), 10)
    (pages,) = outputs
    last = pages[-1]["text/html"]
    assert '<progress value="5" max="10"' in last
    assert "Tuning, round 1: 5 of about 10 runs done" in last
    assert "sgd &lt;b&gt; has" in last
    assert len(pages) < 6, "an update is a message to the browser"


def test_the_bar_of_a_terminal_names_round_and_best(monkeypatch):
    out = console(force_terminal=True)
    bar = RichProgress(out, looks=(5,))
    bar.known(dict.fromkeys(tuning(1), 0.25), 10)
    bar.started(final([0])[0])
    (task,) = bar._progress.tasks
    assert (task.completed, task.total, task.fields["best"]) == (5, 10, "best 0.25 (sgd + he, 1)")
    assert task.description.startswith("Final runs, seeds 1 to 5: sgd + he")
