import contextlib
import functools
import itertools
import json
import math
import os
import threading
import time
from concurrent.futures import Future

import optuna
import pytest
import torch
from torch import nn

from steepest.compare import Budget, Candidate, compare
from steepest.compare._queue import gather as _gather
from steepest.compare._queue.workers import ThisProcess
from steepest.errors import SteepestError, TaskError
from steepest.report import write
from steepest.report._comparison.tables import _no_formula

SMALL = Budget(rates=5, tuning_seeds=1)


class Told:
    """Keeps what it is told, and does something when a run starts."""

    def __init__(self, then=lambda: None):
        self.lines, self.runs = [], []
        self._then = then

    def started(self, run):
        self.runs.append(run)
        self._then()

    def known(self, losses, total):
        pass

    def noticed(self, line):
        self.lines.append(line)

    def waiting(self, reason):
        self.lines.append(reason)


def hanging(times, folder):
    """Return a loss that hangs in a worker process, in its first training step, so many times."""
    main = os.getpid()

    def loss(output, target):
        if output.requires_grad and os.getpid() != main and len(list(folder.iterdir())) < times:
            (folder / f"{time.monotonic_ns()}").touch()
            time.sleep(600)
        return nn.functional.cross_entropy(output, target)

    return loss


class Hanging(ThisProcess):
    """Stands for worker processes, in which the first runs hang until they are killed."""

    def __init__(self, times):
        super().__init__()
        self.times, self.restarts = times, 0

    def submit(self, fn, /, *args):
        if self.restarts >= self.times:
            return super().submit(fn, *args)
        return Future()

    def seconds(self, future):
        return super().seconds(future) if future.done() else 1000.0 * (self.restarts < self.times)

    def restart(self):
        self.restarts += 1


def hang(monkeypatch, times):
    pools = []

    @contextlib.contextmanager
    def opened(_workers):
        pools.append(Hanging(times))
        yield pools[0]

    monkeypatch.setattr(_gather, "worker_processes", opened)
    monkeypatch.setattr(_gather, "_TICK", 0.0)
    return pools


def test_after_a_run_that_hung_all_that_were_executed_are_executed_again(tiny_task, monkeypatch, tmp_path):
    whole = compare(tiny_task(), ["sgd"], seeds=3, budget=SMALL, workers=1)
    pools, told = hang(monkeypatch, 1), Told()
    options = {"seeds": 3, "budget": SMALL, "storage": tmp_path / "study.db", "workers": 2}
    result = compare(tiny_task(), ["sgd"], run_timeout="10m", listener=told, **options)
    assert pools[0].restarts == 1
    assert len(told.runs) == len(result.runs)
    assert [line for line in told.lines if line] == [
        f"{run} did not end within 10 min: it is tried once more." for run in told.runs[:3]
    ]
    assert [s.loss for s in result.table()] == [s.loss for s in whole.table()]


def test_a_run_that_hung_twice_is_named_and_is_no_loss(tiny_task, monkeypatch, tmp_path):
    hang(monkeypatch, math.inf)
    options = {"seeds": 3, "budget": SMALL, "storage": tmp_path / "study.db"}
    with pytest.raises(SteepestError, match=r"must end within 10 min .*sgd \+ .* hung twice.*--run-timeout"):
        compare(tiny_task(), ["sgd"], workers=2, run_timeout="10m", **options)
    monkeypatch.undo()
    told = Told()
    result = compare(tiny_task(), ["sgd"], workers=1, listener=told, **options)
    assert len(told.runs) == len(result.runs), "nothing of a hung run was kept"


@pytest.mark.slow
def test_a_run_that_hangs_is_tried_once_more_and_does_not_change_the_result(tiny_task, tmp_path):
    (tmp_path / "hung").mkdir()
    told = Told()
    task = tiny_task(loss=hanging(1, tmp_path / "hung"))
    options = {"seeds": 3, "budget": SMALL}
    result = compare(task, ["sgd"], workers=2, run_timeout=20, listener=told, **options)
    assert [line for line in told.lines if "did not end within 20 s: it is tried once more" in line]
    whole = compare(tiny_task(), ["sgd"], workers=1, **options)
    assert [s.loss for s in result.table()] == [s.loss for s in whole.table()]


@pytest.mark.slow
def test_a_run_that_hangs_twice_stops_the_trial_is_named_and_is_no_loss(tiny_task, tmp_path):
    (tmp_path / "hung").mkdir()
    task = tiny_task(loss=hanging(10**6, tmp_path / "hung"))
    options = {"seeds": 3, "budget": SMALL, "storage": tmp_path / "study.db"}
    began = time.monotonic()
    with pytest.raises(SteepestError, match=r"must end within 3 s .*sgd \+ .* hung twice.*--run-timeout"):
        compare(task, ["sgd"], workers=2, run_timeout="3s", **options)
    assert time.monotonic() - began < 120
    told = Told()
    result = compare(tiny_task(), ["sgd"], workers=1, listener=told, **options)
    assert len(told.runs) == len(result.runs), "nothing of a hung run was kept"


def slow_once(seconds):
    """Return a loss that sleeps in the first training step after the event that is returned with it is set."""
    armed = threading.Event()

    def loss(output, target):
        if output.requires_grad and armed.is_set():
            armed.clear()
            time.sleep(seconds)
        return nn.functional.cross_entropy(output, target)

    return loss, armed


def armed_by_the_first_run(armed):
    """Return a listener that sets the event when the first run starts: checks train a step before."""
    told = Told()
    told._then = lambda: armed.set() if len(told.runs) == 1 else None
    return told


def test_one_worker_in_this_process_says_that_a_run_hangs(tiny_task):
    loss, armed = slow_once(0.3)
    told = armed_by_the_first_run(armed)
    compare(tiny_task(loss=loss), ["sgd"], seeds=3, budget=SMALL, workers=1, run_timeout=0.2, listener=told)
    assert any("has not ended within 0.2 s" in line and "--workers 2" in line for line in told.lines)


def test_one_worker_in_this_process_keeps_its_run_while_it_trains(tiny_task, monkeypatch, tmp_path):
    monkeypatch.setattr(_gather, "LEASE_SECONDS", 0.12)
    loss, armed = slow_once(1.0)
    told = armed_by_the_first_run(armed)
    path = tmp_path / "study.db"
    compare(tiny_task(loss=loss), ["sgd"], seeds=3, budget=SMALL, workers=1, storage=path, listener=told)
    trials = optuna.load_study(study_name="steepest", storage=f"sqlite:///{path}").trials
    renewals = [trial.user_attrs["owner"]["renewals"] for trial in trials]
    gaps = [b - a for a, b in itertools.pairwise(renewals)]
    # From one run to the next there is one signature; while the slow one trained there were more.
    assert max([renewals[0], *gaps]) > 3


@pytest.mark.parametrize("thing", [threading.Lock(), (x for x in ())], ids=["lock", "generator"])
def test_a_task_that_cannot_be_sent_to_others_is_one_line_that_says_workers_1(tiny_task, thing):
    def loss(output, target):
        assert thing is not None
        return nn.functional.cross_entropy(output, target)

    with pytest.raises(TaskError, match="--workers 1") as caught:
        compare(tiny_task(loss=loss), ["sgd"], seeds=3, budget=SMALL, workers=2)
    assert "\n" not in str(caught.value)
    assert len(compare(tiny_task(loss=loss), ["sgd"], seeds=3, budget=SMALL, workers=1).table()) == 1


class OnlyHere:
    """Can be sent, and cannot be received."""

    def __init__(self):
        self.scale = 1.0

    def __reduce__(self):
        return functools.partial(_refuse, os.getpid()), ()


def _refuse(pid):
    if os.getpid() != pid:
        raise RuntimeError("not here")
    return OnlyHere()


@pytest.mark.slow
def test_a_task_that_cannot_be_received_says_so_too(tiny_task):
    thing = OnlyHere()

    def loss(output, target):
        return nn.functional.cross_entropy(output, target) * thing.scale

    with pytest.raises(TaskError, match=r"RuntimeError: not here.*--workers 1"):
        compare(tiny_task(loss=loss), ["sgd"], seeds=3, budget=SMALL, workers=2)


@pytest.mark.slow
def test_a_worker_that_ends_itself_is_told(tiny_task):
    main = os.getpid()

    def loss(output, target):
        if output.requires_grad and os.getpid() != main:
            os._exit(7)
        return nn.functional.cross_entropy(output, target)

    with pytest.raises(SteepestError, match="worker processes must not die") as caught:
        compare(tiny_task(loss=loss), ["sgd"], seeds=3, budget=SMALL, workers=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "'", "\N{FULLWIDTH EQUALS SIGN}"])
def test_a_name_that_a_spreadsheet_would_run_has_an_apostrophe_in_front(start):
    assert _no_formula(f"{start}SUM(A1)") == f"'{start}SUM(A1)"
    assert _no_formula(f"SUM{start}") == f"SUM{start}"


def test_such_names_are_written_so_into_both_tables_and_as_they_are_into_json(tiny_task, tmp_path):
    name = '=HYPERLINK("http://x","y")'
    odd = Candidate(name, lambda model, lr: torch.optim.SGD(model.parameters(), lr), 0.1)
    write(compare(tiny_task(), [odd], seeds=3, budget=SMALL, workers=1), tmp_path)
    for table in ("results.csv", "timing.csv"):
        rows = (tmp_path / table).read_text().splitlines()[1:]
        assert all(',"\'=HYPERLINK(""http' in row for row in rows)
    ranking = json.loads((tmp_path / "results.json").read_text())["ranking"]
    assert ranking[0]["cell"]["optimizer"] == name
    assert math.isfinite(ranking[0]["value"]["estimate"])
