"""Comparisons on a training program of the user's own."""

from __future__ import annotations

import functools
import importlib
import json
import math
import sys
import textwrap
import threading

import pytest
import torch
from torch import nn

from steepest.compare import Budget, Cell, Design, Run, compare
from steepest.compare._notices import program_notices
from steepest.compare._subject import program_at, subject_of
from steepest.errors import ImportFailed, InvalidArgument, TaskError, UnknownName
from steepest.report import write
from steepest.tasks import Task
from steepest.train import Program

SMALL = Budget(rates=5, tuning_seeds=1)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(64, 3, generator=GENERATOR)
Y = X.sum(dim=1, keepdim=True)


def regression(trial):
    """A loop that takes up what is chosen, and draws its batches from the seed."""
    torch.manual_seed(trial.seed)
    model = nn.Linear(3, 1)
    trial.initialize(model)
    optimizer = trial.optimizer(model)
    steps = trial.steps or 6
    scheduler = trial.scheduler(optimizer, steps)
    for step in range(steps + 1):
        if step in (0, steps):
            loss = nn.functional.mse_loss(model(X), Y)
            trial.report(step, loss=loss, closeness=1 / (1 + loss.item()))
        batch = torch.randint(64, (8,))
        optimizer.zero_grad()
        nn.functional.mse_loss(model(X[batch]), Y[batch]).backward()
        if step < steps:
            optimizer.step()
            scheduler.step()


class Quiet:
    """A listener, without which notices would be warnings."""

    def started(self, run): ...
    def known(self, losses, total): ...
    def noticed(self, line): ...
    def waiting(self, reason): ...


def quick(program=regression, optimizers=("sgd", "adamw"), inits=None, **options):
    given = {"seeds": 3, "budget": SMALL, "workers": 1, "listener": Quiet()}
    return compare(program, optimizers, inits, **{**given, **options})


def told(comparison) -> str:
    return " ".join(comparison.notices)


def test_the_runs_of_a_program_are_compared_as_those_of_a_task():
    found = quick()
    assert {cell.init for cell in found.design.cells} == {"default"}
    assert found.task_name == "regression"
    assert found.steps == 6
    assert found.directions == {"closeness": None}
    for cell in found.design.cells:
        histories = found.final_histories(cell)
        assert len(histories) == 3
        assert all(history.valid_loss[-1] < history.valid_loss[0] for history in histories)
    starts = [[h.valid_loss[0] for h in found.final_histories(cell)] for cell in found.design.cells]
    assert starts[0] == starts[1]
    assert "ignores" not in told(found)


@pytest.mark.slow
def test_workers_give_the_same_results_as_this_process():
    here, there = quick(), quick(workers=2)
    assert here.final_values == there.final_values


def test_inits_steps_and_schedule_reach_the_program():
    found = quick(inits=["zero", "he"], budget=Budget(rates=5, tuning_seeds=1, steps=4, schedule="linear", warmup=1))
    assert found.steps == 4
    zero = [run for run in found.runs if run.cell.init == "zero"]
    assert {found.histories[run].valid_loss[0] for run in zero} == {float(Y.square().mean())}
    assert all(found.histories[run].steps == [0, 4] for run in found.runs)


def test_a_schedule_that_nobody_asked_for_is_not_named(tmp_path):
    found = quick()
    assert found.schedule_name == ""
    page = write(found, tmp_path).read_text()
    assert "cosine" not in page
    assert "the schedule of the program" in page
    assert json.loads((tmp_path / "results.json").read_text())["budget"]["schedule"] is None
    assert quick(budget=Budget(rates=5, tuning_seeds=1, schedule="linear")).schedule_name == "linear"


def test_a_program_is_ranked_by_a_metric_that_it_reports():
    found = quick(rank_by="max:closeness")
    assert found.measure.higher_is_better
    best = found.table()[0]
    assert found.final_values[best.cell] == [h.valid_metrics["closeness"][-1] for h in found.final_histories(best.cell)]
    assert found.directions == {"closeness": True}


def test_a_diverged_run_has_no_metric_and_is_a_bad_result():
    def diverges(trial):
        if trial.lr > 0.5:
            trial.optimizer(nn.Linear(1, 1))
            trial.report(0, loss=math.nan)
        regression(trial)

    found = quick(diverges, ["sgd"], rank_by="max:closeness")
    assert any(history.diverged for history in found.histories.values())
    assert not any(history.diverged for history in found.final_histories(next(iter(found.design.cells))))


# What is refused


@pytest.mark.parametrize(
    ("rank_by", "said"),
    [
        ("closeness", "must be ranked by loss, max:NAME or min:NAME (got 'closeness'). Pass --rank-by max:closeness"),
        ("metric", "must be ranked by loss, max:NAME or min:NAME"),
        ("max:accuracy", "must have the metric by which it is ranked, accuracy (got 'closeness')"),
        ("max:loss", "a higher loss must not be better"),
    ],
)
def test_a_metric_without_a_direction_or_that_is_not_reported_is_refused(rank_by, said):
    with pytest.raises((InvalidArgument, TaskError)) as error:
        quick(rank_by=rank_by)
    assert said in str(error.value)


def plain(trial, report=True):
    """Only what a program must do."""
    torch.manual_seed(trial.seed)
    model = nn.Linear(3, 1)
    optimizer = trial.optimizer(model)
    nn.functional.mse_loss(model(X), Y).backward()
    optimizer.step()
    if report:
        trial.report(1, loss=nn.functional.mse_loss(model(X), Y))


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"inits": ["zero", "he"]}, "call of trial.initialize(model)"),
        ({"budget": Budget(rates=5, tuning_seeds=1, steps=3)}, "use of trial.steps"),
        ({"budget": Budget(rates=5, tuning_seeds=1, schedule="constant")}, "step of trial.scheduler(optimizer)"),
        ({"budget": Budget(rates=5, tuning_seeds=1, warmup=1)}, "step of trial.scheduler(optimizer)"),
    ],
)
def test_an_option_that_a_program_never_takes_up_is_refused_after_its_first_run(options, missing):
    calls = []

    def counted(trial):
        calls.append(trial)
        plain(trial)

    with pytest.raises(TaskError) as error:
        quick(counted, **options)
    assert f"no {missing}" in str(error.value)
    assert len(calls) == 1
    quick(plain)


def test_a_program_that_fails_is_named_with_the_run_and_its_error():
    def fails(trial):
        raise RuntimeError("no luck")

    with pytest.raises(
        TaskError, match=r"a run must train without an error: sgd \+ default.*RuntimeError: no luck \("
    ) as found:
        quick(fails)
    line = fails.__code__.co_firstlineno + 1
    assert f"test_program.py, line {line})" in str(found.value)


def test_a_program_that_never_reports_or_ends_python_is_refused():
    with pytest.raises(TaskError, match="must report its validation loss"):
        quick(functools.partial(plain, report=False))
    with pytest.raises(TaskError, match="must not end the program"):
        quick(lambda trial: sys.exit(trial.seed))


def test_a_program_that_cannot_be_pickled_needs_one_worker():
    lock = threading.Lock()

    def locked(trial):
        with lock:
            plain(trial)

    with pytest.raises(TaskError, match=r"program for more than one worker must be picklable.*workers=1"):
        quick(locked, workers=2)
    assert len(quick(locked).table()) == 2


def test_observers_are_refused_as_a_program_tells_them_nothing():
    with pytest.raises(InvalidArgument, match="observers must be left out for a program"):
        quick(observers={"mine": list})


@pytest.mark.parametrize("given", [None, 3, Task, int, lambda: None, [plain]])
def test_what_is_neither_task_nor_program_is_refused(given):
    with pytest.raises(InvalidArgument):
        quick(given)


# Seeds


def test_a_program_that_ignores_its_seed_is_told_so():
    drawn = iter(range(10_000))

    def unseeded(trial):
        plain(trial)
        trial.report(2, loss=1 + (next(drawn) * 0.618034) % 1)

    assert "The program ignores its seed: two runs of sgd + default" in told(quick(unseeded))


def test_noise_below_a_tenth_of_the_spread_is_none():
    cell = Cell("sgd", "default")
    design = Design(cells={cell: 0}, budget=SMALL, seeds=3, repeat=True)
    scores = {Run(cell, 0, 1000 + seed): float(seed) for seed in range(3)}  # a standard deviation of 1
    for difference, lines in ((0.09, 0), (0.11, 1)):
        assert len(program_notices(design, scores | {Run(cell, 0, 1000, repeat=True): difference})) == lines
    assert program_notices(design, scores | {Run(cell, 0, 1000, repeat=True): math.inf}) == []
    assert program_notices(design, scores) == []


def test_results_that_do_not_depend_on_the_seed_give_no_verdict():
    def fixed(trial):
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        optimizer = trial.optimizer(model)
        nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()
        trial.report(1, loss=nn.functional.mse_loss(model(X), Y))

    found = quick(fixed)
    assert "No verdict" in found.verdict.headline
    assert all(difference.better is None and difference.seedless for difference in found.analysis.differences)
    assert "ignores" not in told(found)


def test_an_optimizer_of_which_no_rate_makes_a_difference_is_named():
    def own_rate(trial):
        torch.manual_seed(trial.seed)
        model = nn.Linear(3, 1)
        optimizer = trial.optimizer(model)
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        nn.functional.mse_loss(model(X), Y).backward()
        optimizer.step()
        trial.report(1, loss=nn.functional.mse_loss(model(X), Y))

    assert "sgd ends alike at every learning rate" in told(quick(own_rate))


# By name, and again


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's, and a function that writes it anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = ("program_of_mine", "helper_of_mine")

    def write(**files):
        for name in names:
            sys.modules.pop(name, None)
        for name, text in files.items():
            (tmp_path / f"{name}_of_mine.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()

    yield write
    for name in names:
        sys.modules.pop(name, None)


PROGRAM = """
    import torch
    from torch import nn
    SCALE = 1.0

    def run(trial):
        from helper_of_mine import target
        torch.manual_seed(trial.seed)
        model = nn.Linear(1, 1)
        optimizer = trial.optimizer(model)
        x = torch.linspace(-1, 1, 16)[:, None]
        for step in range(3):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), SCALE * target(x)).backward()
            optimizer.step()
        trial.report(3, loss=nn.functional.mse_loss(model(x), SCALE * target(x)))
"""
HELPER = "def target(x): return 2 * x"


def test_a_program_is_found_by_its_name(mine):
    mine(program=PROGRAM, helper=HELPER)
    assert program_at("program_of_mine:run").name == "program_of_mine"
    assert isinstance(subject_of("program_of_mine:run"), Program)
    assert quick("program_of_mine:run").task_name == "program_of_mine"
    assert isinstance(subject_of("digits"), Task)
    with pytest.raises(UnknownName):
        subject_of("digit")
    with pytest.raises(InvalidArgument, match="module:attribute"):
        program_at("run")
    with pytest.raises(ImportFailed):
        program_at("program_of_mine:walk")
    with pytest.raises(InvalidArgument, match="Pass --task program_of_mine:task"):
        mine(program="from steepest.tasks import curve\ntask = curve()")
        program_at("program_of_mine:task")


@pytest.mark.slow
def test_after_an_edit_of_the_program_or_of_what_it_imports_later_its_runs_are_not_used(mine, tmp_path):
    def again(**changed):
        mine(**{"program": PROGRAM, "helper": HELPER, **changed})
        return quick("program_of_mine:run", ["sgd"], storage=tmp_path / "study.db")

    first = again()
    second = again()
    assert f"{len(first.histories)} finished runs" in told(second)
    assert second.histories == first.histories
    for changed, said in (
        ({"program": PROGRAM.replace("SCALE = 1.0", "SCALE = 2.0")}, "SCALE is 2 instead of 1"),
        ({"helper": HELPER.replace("2 * x", "3 * x")}, "helper_of_mine.py: function target changed"),
    ):
        edited = again(**changed)
        assert said in told(edited)
        assert "left alone" in told(edited)
        assert not any(edited.histories.get(run) == history for run, history in first.histories.items())
