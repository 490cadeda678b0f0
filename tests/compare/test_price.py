import math
import re
import time

import pytest
import torch
from torch import nn

from steepest.compare import Budget, Cell, Design, Run, Sequential, compare, price
from steepest.compare._candidates import resolve_candidate
from steepest.compare._price import Price, price_of, runs_left, seconds_per_run
from steepest.compare._progress import Silent
from steepest.compare._run import RunContext
from steepest.errors import InvalidArgument
from steepest.init import resolve_scheme
from steepest.train import History

A, B = Cell("sgd", "default"), Cell("adamw", "default")


def design(**options):
    given = {"seeds": Sequential(max_seeds=20), "budget": Budget(rates=7, tuning_seeds=3)}
    return Design(cells={A: -4, B: -12}, **{**given, **options})


def history(loss, duration=2.0):
    return History(
        steps=[0, 1],
        valid_loss=[1.0, loss],
        valid_metrics={},
        seconds=[0.0, duration],
        duration=duration,
        diverged=math.isinf(loss),
        seconds_per_step=duration,
        state_bytes=0,
    )


def tuned(rates=(-12, -8, -4, 0, 4, -6, -5)):
    """All tuning runs of A and B with a best rate in the middle."""
    return {
        Run(cell, n + shift, seed): history(0.5 + abs(n + 4) / 8)
        for cell, shift in ((A, 0), (B, -8))
        for n in rates
        for seed in range(3)
    }


def test_before_the_first_run_the_budget_is_the_fewest_and_twice_of_it_the_most():
    tuning, final = runs_left(design(), {})
    assert tuning == dict.fromkeys((A, B), (21, 42))
    assert final == dict.fromkeys((A, B), (5, 20))


def test_with_a_fixed_number_of_seeds_there_is_one_number_of_final_runs():
    _, final = runs_left(design(seeds=Sequential(looks=(10,))), {})
    assert final == dict.fromkeys((A, B), (10, 10))


def test_finished_runs_are_not_paid_again():
    histories = tuned()
    some = dict(list(histories.items())[:10])
    tuning, _ = runs_left(design(), some)
    assert sum(fewest for fewest, _ in tuning.values()) == 42 - 10
    tuning, final = runs_left(design(), histories)
    assert tuning == dict.fromkeys((A, B), (0, 0))
    assert final == dict.fromkeys((A, B), (5, 20))
    finals = {
        Run(cell, n, 1000 + seed): history(0.5 + seed / 10) for cell, n in ((A, -4), (B, -12)) for seed in range(5)
    }
    _, final = runs_left(design(), histories | finals)
    assert final == dict.fromkeys((A, B), (5, 15)), "to the second look, to the last"


def test_what_is_finished_costs_nothing():
    histories = tuned() | {
        Run(cell, n, 1000 + seed): history(loss + n * seed / 100)
        for cell, n, loss in ((A, -4, 1.0), (B, -12, 9.0))
        for seed in range(5)
    }
    assert runs_left(design(), histories) == (dict.fromkeys((A, B), (0, 0)),) * 2


def test_the_price_is_one_sentence():
    cost = Price(
        tuning=(42, 84),
        final=(10, 40),
        finished=0,
        seconds=(59.0, 150.0),
        seconds_per_run={"a": 1.0, "b": 3.0},
        workers=2,
    )
    assert (
        str(cost) == "Price: 42 to 84 tuning runs and 10 to 40 final runs on 2 workers, "
        "about 59 s to 150 s of training (1 to 3 s per run)."
    )
    cost = Price(tuning=(0, 0), final=(10, 10), finished=42, seconds=None, seconds_per_run={}, workers=1)
    assert str(cost) == (
        "Price: 10 final runs on 1 worker, whose time is known after the first run; 42 finished runs are used again."
    )
    cost = Price(tuning=(0, 0), final=(0, 0), finished=52, seconds=None, seconds_per_run={}, workers=1)
    assert str(cost) == "Price: nothing is left to run; 52 finished runs are used again."


class Slow(nn.Module):
    """A model whose forward pass takes a known time, a different one for validation."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        time.sleep(0.004 if self.training else 0.02)
        return self.linear(x)


def context(task, **options):
    candidates = {name: resolve_candidate(name) for name in ("sgd", "adamw")}
    given = {"steps": task.steps, "schedule": "cosine", "device": "cpu"}
    return RunContext(
        task=task, candidates=candidates, inits={"default": resolve_scheme("default")}, **{**given, **options}
    )


def test_the_time_of_a_run_follows_from_a_few_steps_and_one_validation(tiny_task):
    calls = []

    def loss(output, target):
        calls.append(0)
        return nn.functional.cross_entropy(output, target)

    task = tiny_task(model=Slow, loss=loss, steps=300)
    batches = len(list(task.validation_batches()))
    found = seconds_per_run(context(task), design(), {})
    assert len(calls) == 2 * (3 * batches + 21), "those at steps 0, 10 and 20 of all"
    least = 300 * 0.004 + 31 * batches * 0.02
    assert all(least <= seconds < 10 * least for seconds in found.values())


def test_a_run_shorter_than_the_timed_steps_is_timed_whole(tiny_task):
    found = seconds_per_run(context(tiny_task(model=Slow, steps=3)), design(), {})
    assert all(0.08 < seconds < 1.0 for seconds in found.values())


def test_timing_is_bounded_but_takes_two_steps_of_each(tiny_task):
    steps = []

    def loss(output, target):
        steps.append(0)
        return nn.functional.cross_entropy(output, target)

    task = tiny_task(loss=loss, steps=100, valid=tuple(t[:4] for t in tiny_task().valid))
    seconds_per_run(context(task), design(), {}, limit=0.0)
    assert len(steps) == 2 * (1 + 2), "one validation and two steps"


def test_timing_leaves_torch_as_it_was(tiny_task):
    torch.manual_seed(3)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(3)
    seconds_per_run(context(tiny_task()), design(), {})
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads


def test_finished_runs_tell_the_time_without_timing_anything():
    histories = {
        Run(A, -4, 0): history(0.5, 3.0),
        Run(A, -4, 1): history(math.inf, 0.1),
        Run(B, -12, 0): history(0.5, 5.0),
    }
    found = price_of(context_without_task(), design(seeds=Sequential(looks=(10,))), histories, workers=4)
    assert found.seconds_per_run == {"sgd + default": 3.0, "adamw + default": 5.0}
    assert found.seconds[0] == pytest.approx(((19 + 10) * 3.0 + (20 + 10) * 5.0) / 4)
    assert found.finished == 3


def context_without_task():
    return RunContext(task=None, candidates={}, inits={}, steps=1, schedule="cosine", device="cpu")


def test_what_cannot_be_timed_has_no_time():
    assert price_of(context_without_task(), design(), {}, workers=1).seconds is None


def test_a_task_that_cannot_be_timed_has_no_time(tiny_task):
    def failing(output, target):
        raise RuntimeError("no")

    assert seconds_per_run(context(tiny_task(loss=failing)), design(), {}) == {}


@pytest.mark.parametrize("as_url", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_price_creates_no_storage_is_kept_and_is_nothing_at_the_end(tiny_task, tmp_path, as_url):
    file = tmp_path / "trial.db"
    storage = f"sqlite:///{file}" if as_url else file
    trial = {"seeds": 3, "budget": Budget(rates=5, tuning_seeds=1), "workers": 1, "storage": storage}
    before = price(tiny_task(), ["sgd", "adamw"], **trial)
    assert not file.exists()
    comparison = compare(tiny_task(), ["sgd", "adamw"], **trial)
    fewest, most = (before.tuning[end] + before.final[end] for end in (0, 1))
    assert fewest <= len(comparison.histories) <= most
    after = price(tiny_task(), ["sgd", "adamw"], **trial)
    assert (after.tuning, after.final, after.finished) == ((0, 0), (0, 0), len(comparison.histories))
    more = price(tiny_task(), ["sgd", "adamw", "sign"], **trial)
    assert more.finished == after.finished
    assert more.tuning[0] < before.tuning[0]


def test_progress_says_the_price_first_and_then_each_round(tiny_task, capsys):
    compare(tiny_task(), ["sgd"], seeds=3, budget=Budget(rates=5, tuning_seeds=1), workers=1, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Price: 5 to 10 tuning runs and 3 final runs on 1 worker")
    assert lines[1].startswith("Tuning, round 1: 0 of about")
    assert lines[-1].startswith("Final runs, seeds 1 to 3:")
    done, total = re.search(r"(\d+) of about (\d+) runs done", lines[-1]).groups()
    assert int(total) == int(done) + 3


def test_progress_and_a_listener_are_one_too_many(tiny_task):
    with pytest.raises(InvalidArgument, match="progress must be left out with a listener"):
        compare(tiny_task(), ["sgd"], progress=True, listener=Silent())
