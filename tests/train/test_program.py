"""Training programs of the user's own: what a trial gives them, what it takes from them, and what it refuses."""

from __future__ import annotations

import copy
import functools
import math
import pickle
import random
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from steepest.errors import Diverged, InvalidArgument, NonFiniteGradient, TaskError, UnknownName
from steepest.init import He, initialize
from steepest.train import SCHEDULES, History, Program, run_program


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr)


def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 3, generator=generator)
    return x, x.sum(dim=1, keepdim=True)


def plain(trial, *, every=5):
    """A loop that uses everything that a trial has."""
    torch.manual_seed(trial.seed)
    x, y = batch()
    model = nn.Linear(3, 1).to(trial.device)
    trial.initialize(model)
    optimizer = trial.optimizer(model)
    steps = trial.steps or 10
    scheduler = trial.scheduler(optimizer, steps)
    trial.report(0, loss=nn.functional.mse_loss(model(x), y))
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % every == 0 or step == steps:
            trial.report(step, loss=loss, error=loss.item() ** 0.5)


def run(program=plain, optimizer=sgd, init="default", *, lr=0.1, seed=0, **options) -> History:
    return run_program(program, optimizer, init, lr=lr, seed=seed, **options)


def trains(trial):
    """Only what a program must do, without the report."""
    model = nn.Linear(3, 1)
    optimizer = trial.optimizer(model)
    model(batch()[0]).sum().backward()
    optimizer.step()


def test_the_history_of_a_program_is_that_of_the_same_loop_by_hand():
    torch.manual_seed(3)
    x, y = batch()
    model = nn.Linear(3, 1)
    initialize(model, "he", torch.Generator().manual_seed(3))
    optimizer = sgd(model, 0.1)
    losses = [nn.functional.mse_loss(model(x), y).item()]
    for step in range(20):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * SCHEDULES["cosine"](step / 20)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    found = run(init="he", seed=3, steps=20)
    assert found.steps == [0, 5, 10, 15, 20]
    assert found.valid_loss == pytest.approx([losses[i] for i in found.steps], rel=1e-6)
    assert not found.diverged


def test_a_metric_that_some_reports_lack_is_nan_there():
    found = run(steps=10).valid_metrics
    assert list(found) == ["error"]
    assert math.isnan(found["error"][0])
    assert found["error"][1:] == pytest.approx([loss**0.5 for loss in run(steps=10).valid_loss[1:]])


def test_times_are_those_of_the_reports_since_the_optimizer_was_made():
    found = run(steps=10)
    assert found.seconds == sorted(found.seconds)
    assert 0 <= found.seconds[0] < found.seconds[-1] <= found.duration
    assert 0 < found.seconds_per_step <= found.seconds[-1]


def test_the_size_of_the_state_is_that_of_all_optimizers_of_the_program():
    def two(trial):
        for model in (nn.Linear(3, 1, bias=False), nn.Linear(3, 2, bias=False)):
            optimizer = trial.optimizer(model)
            model(batch()[0]).sum().backward()
            optimizer.step()
        trial.report(1, loss=1.0)

    def momentum(model, lr):
        return torch.optim.SGD(model.parameters(), lr, momentum=0.9)

    assert run(two, momentum).state_bytes == 4 * (3 + 6)


def test_the_global_generators_are_seeded_by_the_seed_and_restored(rng_untouched):
    drawn = []

    def draws(trial):
        drawn.append((float(torch.rand(())), float(np.random.rand()), random.random()))
        trains(trial)
        trial.report(1, loss=1.0)

    python = random.getstate()
    with rng_untouched():
        for seed in (4, 4, 5):
            run(draws, seed=seed)
    assert random.getstate() == python
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"schedule": "constant"}, [1.0, 1.0, 1.0, 1.0]),
        ({"schedule": "linear", "warmup": 2}, [0.5, 1.0, 1.0, 0.5]),
        ({"schedule": lambda progress: 1 - progress**2}, [1.0, 1 - 1 / 16, 3 / 4, 1 - 9 / 16]),
        ({"schedule": "linear", "warmup": "50%"}, [0.5, 1.0, 1.0, 0.5]),
        ({}, [1.0, (1 + math.cos(math.pi / 4)) / 2, 0.5, (1 - math.cos(math.pi / 4)) / 2]),
    ],
)
def test_the_scheduler_follows_the_schedule_that_was_chosen(options, expected):
    rates = []

    def scheduled(trial):
        model = nn.Linear(3, 1)
        optimizer = trial.optimizer(model)
        scheduler = trial.scheduler(optimizer)
        for _ in range(trial.steps):
            rates.append(scheduler.get_last_lr()[0])
            model(batch()[0]).sum().backward()
            optimizer.step()
            scheduler.step()
        trial.report(trial.steps, loss=1.0)

    run(scheduled, lr=2.0, steps=4, **options)
    assert rates == pytest.approx([2.0 * each for each in expected])


def test_the_schedule_ends_at_its_own_steps_and_stays_there():
    def scheduled(trial):
        optimizer = trial.optimizer(nn.Linear(3, 1))
        scheduler = trial.scheduler(optimizer, steps=2)
        rates = []
        for _ in range(4):
            optimizer.step()
            scheduler.step()
            rates.append(scheduler.get_last_lr()[0])
        trial.report(4, loss=1.0)
        assert rates == pytest.approx([0.5, 0.0, 0.0, 0.0])

    run(scheduled, lr=1.0)


def test_watching_puts_the_diagnosis_and_the_gradients_into_the_history():
    def watched(trial):
        x, y = batch()
        model = nn.Linear(3, 1)
        nn.init.zeros_(model.weight)
        model.weight.requires_grad_(False)
        optimizer = trial.optimizer(model)
        with trial.watch(model, optimizer, every=2) as monitor:
            for step in range(6):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(x), y)
                loss.backward()
                optimizer.step()
                monitor.record(step, loss)
        trial.report(6, loss=loss)

    found = run(watched)
    assert found.gradient_steps == [0, 2, 4]
    assert len(found.train_loss) == len(found.gradient_norm["bias"]) == 3
    assert found.diagnosis is not None
    assert found.diagnosis.cause in ("healthy", "disconnected_parameters")
    assert History.from_json(found.to_json()) == found


def test_without_steps_the_program_decides():
    assert run().steps[-1] == 10


# Divergence


def diverging(trial, loss=math.nan):
    trains(trial)
    trial.report(0, loss=1.0, error=1.0)
    trial.report(5, loss=loss)
    raise AssertionError("it went on")


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, torch.tensor(math.nan), np.float32("inf"), 10**400])
def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(loss):
    found = run(functools.partial(diverging, loss=loss))
    assert found.diverged
    assert (found.steps, found.valid_loss) == ([0, 5], [1.0, math.inf])
    assert found.valid_metrics["error"][0] == 1.0
    assert math.isnan(found.valid_metrics["error"][1])


def test_a_program_that_hides_its_divergence_has_diverged_anyway():
    def hides(trial):
        for step in (0, 5, 6):
            try:
                trial.report(step, loss=math.nan if step == 5 else 1.0)
            except Diverged:
                continue

    found = run(hides)
    assert found.diverged
    assert (found.steps, found.valid_loss) == ([0, 5], [1.0, math.inf])


@pytest.mark.parametrize("error", [NonFiniteGradient("nan"), torch.linalg.LinAlgError("nan")])
def test_a_step_that_has_no_finite_gradient_ends_the_run_as_diverged(error):
    def stops(trial):
        trial.report(3, loss=1.0)
        raise error

    found = run(stops, steps=10, schedule="cosine")
    assert found.diverged
    assert (found.steps, found.valid_loss) == ([3, 4], [1.0, math.inf])


def test_a_run_that_diverges_before_its_first_report_has_one_loss():
    def stops(trial):
        raise NonFiniteGradient("nan")

    found = run(stops)
    assert (found.steps, found.valid_loss, found.diverged) == ([0], [math.inf], True)


def test_a_metric_that_is_not_finite_is_no_divergence():
    def program(trial):
        trains(trial)
        trial.report(1, loss=1.0, auc=math.nan)

    found = run(program)
    assert not found.diverged
    assert math.isnan(found.valid_metrics["auc"][0])


# What is refused


def refusal(program, kind=InvalidArgument, **options) -> str:
    with pytest.raises(kind) as error:
        run(program, **options)
    return str(error.value)


def test_a_program_that_never_reports_is_refused():
    assert "must report its validation loss (got 'no report')" in str(refusal(trains, TaskError))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((0, 5, 5), "a step must be reported once (got '5 again')"),
        ((0, 5, 3), "the steps of reports must ascend (got '3 after 5')"),
        ((-1,), "step must be a whole number >= 0 (got -1)"),
        ((2.5,), "step must be a whole number >= 0 (got 2.5)"),
        ((21,), "must come within the 20 steps that were chosen (got 'step 21')"),
    ],
)
@pytest.mark.parametrize("hides", [False, True])
def test_a_step_out_of_order_is_refused_even_if_the_program_hides_it(steps, said, hides):
    def program(trial):
        _ = trial.steps
        trains(trial)
        for step in steps:
            try:
                trial.report(step, loss=1.0)
            except InvalidArgument as error:
                if not hides:
                    raise ValueError("wrapped") from error

    assert said in refusal(program, steps=20)


@pytest.mark.parametrize("loss", ["1.0", None, True, 1j, [1.0], torch.ones(2), object()])
def test_a_loss_that_is_no_number_is_refused(loss):
    assert "loss must be a number" in refusal(lambda trial: trial.report(0, loss=loss))
    assert "the metric auc must be a number" in refusal(lambda trial: trial.report(0, loss=1.0, auc=loss))


def test_a_report_after_the_program_has_returned_is_refused():
    kept = []

    def keeps(trial):
        kept.append(trial)
        trains(trial)
        trial.report(1, loss=1.0)

    run(keeps)
    said = []

    def late():
        try:
            kept[0].report(2, loss=1.0)
        except InvalidArgument as error:
            said.append(str(error))

    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    assert said == [
        "a report must come before the program returns (got 'one after 2 steps'). "
        "Wait for the threads and processes that report."
    ]


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"init": "he"}, "no call of trial.initialize(model)"),
        ({"steps": 5}, "no use of trial.steps"),
        ({"schedule": "cosine"}, "no step of trial.scheduler(optimizer)"),
        ({"schedule": "constant"}, "no step of trial.scheduler(optimizer)"),
        ({"warmup": 2}, "no step of trial.scheduler(optimizer)"),
        ({"device": "cpu:0"}, "no use of trial.device"),
    ],
)
def test_a_choice_that_the_program_never_takes_up_is_refused(options, missing):
    def ignores(trial):
        trains(trial)
        trial.report(1, loss=1.0)

    assert missing in refusal(ignores, TaskError, **options)
    run(plain, **options)


def test_a_scheduler_that_never_steps_is_not_taken_up():
    def makes_one(trial):
        optimizer = trial.optimizer(nn.Linear(3, 1))
        trial.scheduler(optimizer, 10)
        optimizer.step()
        trial.report(1, loss=1.0)

    assert "no step of trial.scheduler(optimizer)" in refusal(makes_one, TaskError, schedule="cosine")


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")
@pytest.mark.parametrize("asks", [False, True])
def test_a_program_that_trains_with_another_optimizer_is_refused(asks):
    def own(trial):
        model = nn.Linear(3, 1)
        if asks:
            trial.optimizer(model)
        optimizer = sgd(model, trial.lr)
        optimizer.step()
        trial.report(1, loss=1.0)

    assert "must use the optimizer of the trial (got 'no step of trial.optimizer(model)')" in refusal(own, TaskError)


def test_a_schedule_without_a_number_of_steps_is_refused():
    assert "where nobody has chosen the steps of the run" in refusal(
        lambda trial: trial.scheduler(trial.optimizer(nn.Linear(1, 1)))
    )


def test_a_program_that_calls_sys_exit_is_refused():
    assert "run(trial) must not end the program (got 'SystemExit: 3')" in refusal(lambda _: sys.exit(3), TaskError)


def test_an_error_of_the_program_comes_through():
    def fails(trial):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(fails)


@pytest.mark.parametrize(
    "function", [None, 3, "mine", lambda: None, lambda a, b: a + b, lambda *, trial: trial, [plain]]
)
def test_a_program_is_a_function_of_one_argument(function):
    with pytest.raises(InvalidArgument, match="a function of one argument, the trial"):
        Program(function)
    with pytest.raises(InvalidArgument, match="a function of one argument, the trial"):
        run(function)


def test_a_program_has_the_name_of_its_function_or_of_the_module_of_run():
    assert Program(plain).name == "plain"
    assert Program(type(plain)(trains.__code__, {"__name__": "pkg.mine"}, "run")).name == "mine"
    assert Program(functools.partial(plain, every=2), name="mine").name == "mine"
    assert Program(functools.partial(plain, every=2)).name == "partial"


def test_unknown_names_are_refused():
    with pytest.raises(UnknownName, match="cosine"):
        run(schedule="cosin")
    with pytest.raises(UnknownName, match="he"):
        run(init="hee")


def test_the_working_folder_is_restored(tmp_path, monkeypatch):
    here = Path.cwd()

    def moves(trial):
        monkeypatch.chdir(tmp_path)
        trains(trial)
        trial.report(1, loss=1.0)

    run(moves)
    assert Path.cwd() == here


# Other processes


def test_a_trial_in_another_process_is_the_same_trial_with_the_same_reports(monkeypatch):
    def sends(trial):
        sent = pickle.dumps(trial)
        monkeypatch.setattr(sys, "path", sys.path[:1])
        trial.report(0, loss=2.0)
        other = pickle.loads(sent)
        assert (other.seed, other.lr, other.steps) == (trial.seed, trial.lr, trial.steps)
        trains(other)
        other.initialize(nn.Linear(3, 1))
        with pytest.raises(InvalidArgument, match="once"):
            other.report(0, loss=2.0)
        other.report(1, loss=1.0)
        with pytest.raises(InvalidArgument, match="once"):
            trial.report(1, loss=1.0)

    with pytest.raises(InvalidArgument, match="once"):
        run(sends, init=He(), lr=0.3, seed=7, steps=9)


def test_a_copy_of_a_trial_reports_too():
    def copies(trial):
        trains(copy.deepcopy(trial))
        copy.deepcopy(trial).report(1, loss=1.0)

    assert run(copies, lambda model, lr: sgd(model, lr)).valid_loss == [1.0]


def test_a_trial_whose_optimizer_cannot_be_pickled_says_so():
    lock = threading.Lock()

    def locked(model, lr):
        with lock:
            return sgd(model, lr)

    with pytest.raises(TaskError, match="must be picklable by cloudpickle"):
        run(lambda trial: pickle.dumps(trial), locked)


def test_of_several_ranks_the_first_reports(monkeypatch):
    def rank_1(trial):
        trains(trial)
        trial.report(1, loss=1.0)
        with monkeypatch.context() as patch:
            patch.setenv("TORCHELASTIC_RUN_ID", "1")
            patch.setenv("RANK", "1")
            trial.report(2, loss=math.nan)
        trial.report(3, loss=0.5)

    assert run(rank_1).steps == [1, 3]
