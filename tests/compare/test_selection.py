"""Runs of several identities in one storage: who sees, claims and uses which, and what is said."""

from datetime import datetime

import optuna
import pytest
from optuna.trial import TrialState

from steepest.compare import Budget, Cell, Design, Run
from steepest.compare._identity.identity import Identity
from steepest.compare._identity.reuse import reuse_notices
from steepest.compare._identity.selection import Past
from steepest.compare._queue import store as _store
from steepest.compare._queue.patience import Patience
from steepest.compare._queue.store import Store
from steepest.diagnose import Diagnosis
from steepest.train import History

CELLS = [Cell("sgd", "he"), Cell("adamw", "he")]
RUNS = [Run(CELLS[0], -8, 0), Run(CELLS[0], -8, 1000), Run(CELLS[1], -24, 0)]
PLAN = Design(cells={CELLS[0]: -8, CELLS[1]: -24}, budget=Budget(rates=5, tuning_seeds=1), seeds=3)


def identities(*, steps=10, code="#1", torch="2.6.0", loss=0.5, cells=CELLS):
    """The identities of runs of a task whose code has this digest."""
    return {
        cell: Identity(
            request={"task": "tiny", "optimizer": cell.optimizer, "init": cell.init, "steps": steps},
            content={"code": {"mine.py: function loss": code}, "probe": {"the loss at the start": loss}},
            versions={"torch": torch},
        )
        for cell in cells
    }


def history(loss=0.5):
    return History(
        steps=[0, 10],
        train_loss=[1.0],
        valid_loss=[1.0, loss],
        valid_metrics={"accuracy": [0.1, 0.9]},
        seconds=[0.0, 0.01],
        duration=0.02,
        gradient_steps=[0],
        mean_gradient_norm=[0.3],
        gradient_norm={},
        diagnosis=Diagnosis("healthy", 0.9, (), "", ()),
        diverged=False,
        seconds_per_step=0.001,
        state_bytes=8,
    )


@pytest.fixture(params=["memory", pytest.param("sqlite", marks=pytest.mark.slow)])
def url(request, tmp_path, monkeypatch):
    """A storage that several may open: in memory, which is fast, or as people have it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    memory = optuna.storages.InMemoryStorage()

    def opened(*_arguments):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return optuna.create_study(storage=memory, study_name="steepest", load_if_exists=True), Patience("memory")

    monkeypatch.setattr(_store, "open_study", opened)
    return memory


def finish(url, runs=RUNS, loss=0.5, **options):
    """Execute runs under an identity, as a comparison does."""
    store = Store(url, identities(**options))
    store.enqueue(runs)
    for _ in runs:
        store.finish(store.claim(), history(loss))
    return store


def notices(store, design=PLAN):
    return reuse_notices(design, store.past(), store.selection)


def today(url):
    ended = optuna.load_study(study_name="steepest", storage=url).get_trials()[-1].datetime_complete
    return f"{ended:%Y-%m-%d %H:%M}"


@pytest.mark.parametrize("other", [{"steps": 20}, {"code": "#2"}, {"loss": 0.6}], ids=str)
def test_finished_runs_of_another_identity_are_not_used(url, other):
    finish(url)
    assert Store(url, identities()).finished().keys() == set(RUNS)
    assert Store(url, identities(**other)).finished() == {}


def test_waiting_and_running_runs_of_another_identity_are_left_to_it(url):
    before = Store(url, identities())
    before.enqueue(RUNS)
    before.claim()
    after = Store(url, identities(code="#2"))
    assert after.enqueue(RUNS[:1]) == 1
    lease = after.claim()
    assert (lease.run, lease.trial.number) == (RUNS[0], len(RUNS))
    assert after.claim() is None
    assert before.claim().run == RUNS[1]


def test_a_killed_run_comes_back_only_to_its_own_identity(url):
    before = Store(url, identities())
    before.enqueue(RUNS[:1])
    lease = before.claim()
    before.selection.register(CELLS[0])
    lease.trial.set_user_attr("owner", {**lease.trial.user_attrs["owner"], "seen": 0, "host": "gone", "token": "gone"})
    Store(url, identities(code="#2")).enqueue([])
    trials = optuna.load_study(study_name="steepest", storage=url).get_trials()
    assert [trial.state for trial in trials] == [TrialState.RUNNING]


def test_machines_that_differ_in_the_last_bits_share_their_work(url):
    finish(url, RUNS[:1])
    there = Store(url, identities(loss=0.5 * (1 + 5e-5)))
    assert there.finished().keys() == {RUNS[0]}
    there.enqueue(RUNS)
    here = Store(url, identities())
    assert here.claim() is None  # it has not looked yet
    assert here.enqueue(RUNS) == 2
    assert here.claim().run == RUNS[1]
    there.finish(there.claim(), history())
    assert here.finished().keys() == {RUNS[0], RUNS[2]}


def test_two_that_begin_at_once_with_other_bits_make_each_run_once(url):
    here, there = Store(url, identities()), Store(url, identities(loss=0.5 * (1 + 5e-5)))
    here.enqueue(RUNS)
    assert there.enqueue(RUNS) == len(RUNS)
    claims = [here.claim(), there.claim(), here.claim()]
    assert [lease.run for lease in claims] == RUNS
    assert len(optuna.load_study(study_name="steepest", storage=url).get_trials()) == len(RUNS)


def test_another_optimizer_later_uses_the_runs_of_the_first(url):
    finish(url, RUNS[:2], cells=CELLS[:1])
    store = Store(url, identities())
    assert store.finished().keys() == set(RUNS[:2])
    store.enqueue(RUNS[2:])
    assert store.claim().run == RUNS[2]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda record: {**record, "request": None},
        lambda record: {**record, "versions": {"torch": "2"}},
        lambda record: {**record, "parts": {}},
        lambda record: {**record, "parts": {"code": "#nowhere"}},
        lambda record: {**record, "accepts": 3},
        str,
    ],
)
def test_runs_of_an_earlier_version_and_damaged_identities_are_not_used(url, damaged):
    finish(url)
    study = optuna.load_study(study_name="steepest", storage=url)
    key = study.get_trials()[0].user_attrs["identity"]
    study.set_user_attr(f"identity {key}", damaged(study.user_attrs[f"identity {key}"]))
    study.add_trial(
        optuna.trial.create_trial(value=1.0, params={}, distributions={}, user_attrs={"grid_index": 0, "history": "{}"})
    )
    study.add_trial(
        optuna.trial.create_trial(
            value=1.0, params={}, distributions={}, user_attrs={"grid_index": 0, "identity": ["x"]}
        )
    )
    assert Store(url, identities()).finished().keys() == {RUNS[2]}


def test_a_finished_run_is_said_to_be_used_again_and_from_when(url):
    store = finish(url)
    assert notices(Store(url, identities())) == [f"3 finished runs of {today(url)} are used again."]
    fewer = Design(cells={CELLS[0]: -8}, budget=PLAN.budget, seeds=3)
    assert notices(store, fewer) == [f"2 finished runs of {today(url)} are used again."]


def test_runs_of_several_days_are_said_with_the_first_and_the_last(url):
    store = finish(url)
    key = store.past()[0].key
    past = [Past(RUNS[0], key, datetime(2026, 11, 26, 10, 0)), Past(RUNS[1], key, datetime(2026, 11, 27, 21, 14))]
    assert reuse_notices(PLAN, past, store.selection) == [
        "2 finished runs of 2026-11-26 10:00 to 2026-11-27 21:14 are used again."
    ]


def test_seeds_that_are_not_asked_for_are_not_counted(url):
    finish(url, [*RUNS, Run(CELLS[0], -8, 1003), Run(CELLS[0], -8, 1)])
    assert notices(Store(url, identities())) == [f"3 finished runs of {today(url)} are used again."]


def test_another_version_of_torch_is_a_word_and_the_runs_are_used(url):
    finish(url)
    store = Store(url, identities(torch="2.7.0"))
    assert store.finished().keys() == set(RUNS)
    assert notices(store) == [
        f"3 finished runs of {today(url)} are used again.",
        "3 of the runs used again were made with torch 2.6.0; this is torch 2.7.0.",
    ]


def test_after_an_edit_it_is_said_what_differs_and_the_old_runs_are_left(url):
    finish(url)
    assert notices(Store(url, identities(code="#2"))) == [
        f"mine.py: function loss changed: new runs are made. 3 finished runs of {today(url)} are left alone; "
        "--accept-edits (accept_edits=True) uses them."
    ]


def test_an_edit_of_one_alternative_names_it_and_the_others_runs_are_used(url):
    finish(url)
    mixed = {**identities(), CELLS[1]: identities(code="#2")[CELLS[1]]}
    store = Store(url, mixed)
    assert store.finished().keys() == set(RUNS[:2])
    used, left = notices(store)
    assert used == f"2 finished runs of {today(url)} are used again."
    assert left.startswith(
        f"mine.py: function loss changed: new runs are made. 1 finished run of {today(url)} of adamw is left alone"
    )


def test_once_there_are_runs_after_the_edit_the_old_ones_are_not_spoken_of(url):
    finish(url)
    finish(url, code="#2")
    assert notices(Store(url, identities(code="#2"))) == [f"3 finished runs of {today(url)} are used again."]


def test_another_number_of_steps_is_no_edit_and_cannot_be_accepted(url):
    finish(url)
    store = Store(url, identities(steps=20), accept_edits=True)
    assert store.finished() == {}
    assert notices(store) == []


def test_many_differences_are_told_in_part(url):
    finish(url)
    parts = {cell: {f"mine.py: function f{i}": "#1" for i in range(6)} for cell in CELLS}
    many = {
        cell: Identity(request=old.request, content={"code": parts[cell]}, versions=old.versions)
        for cell, old in identities().items()
    }
    (line,) = notices(Store(url, many))
    assert line.startswith("mine.py: function f0 is new, mine.py: function f1 is new, ")
    assert ", and 3 more: new runs are made." in line


def test_accepted_edits_use_the_old_runs_and_say_so(url):
    finish(url)
    store = Store(url, identities(code="#2"), accept_edits=True)
    assert store.finished().keys() == set(RUNS)
    assert notices(store) == [
        f"3 finished runs of {today(url)} are used again, edits being accepted: mine.py: function loss changed."
    ]


def test_accepted_edits_do_not_claim_what_the_old_code_left_waiting(url):
    Store(url, identities()).enqueue(RUNS)
    finish(url, RUNS[:1])
    store = Store(url, identities(code="#2"), accept_edits=True)
    assert store.enqueue(RUNS[1:]) == 2
    assert store.claim().trial.number == len(RUNS)


def test_of_an_own_and_an_accepted_result_the_own_one_stands(url):
    finish(url, RUNS, loss=0.5)
    finish(url, RUNS[:1], loss=0.7, code="#2")
    losses = {
        run: each.valid_loss[-1]
        for run, each in Store(url, identities(code="#2"), accept_edits=True).finished().items()
    }
    assert losses == {RUNS[0]: 0.7, RUNS[1]: 0.5, RUNS[2]: 0.5}
    assert Store(url, identities(code="#2")).finished().keys() == {RUNS[0]}


def test_two_edits_that_nobody_called_the_same_are_never_mixed(url):
    finish(url, RUNS, loss=0.5)
    finish(url, RUNS[:1], loss=0.7, code="#2")  # not accepted
    store = Store(url, identities(code="#3"), accept_edits=True)
    assert {run: each.valid_loss[-1] for run, each in store.finished().items() if run.cell == CELLS[0]} == {
        RUNS[0]: 0.7
    }


def test_an_edit_after_an_accepted_edit_takes_both_along(url):
    finish(url, RUNS[:2], loss=0.5)
    second = Store(url, identities(code="#2"), accept_edits=True)
    second.enqueue([RUNS[2], Run(CELLS[0], -8, 1001)])
    second.finish(second.claim(), history(0.7))
    second.finish(second.claim(), history(0.7))
    finish(url, [Run(CELLS[0], -8, 1002)], loss=0.8, code="#2")  # the acceptance is not forgotten by a run without it
    third = Store(url, identities(code="#3"), accept_edits=True).finished()
    assert {run: each.valid_loss[-1] for run, each in third.items()} == {
        RUNS[0]: 0.5,
        RUNS[1]: 0.5,
        RUNS[2]: 0.7,
        Run(CELLS[0], -8, 1001): 0.7,
        Run(CELLS[0], -8, 1002): 0.8,
    }
