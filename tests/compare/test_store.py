import os
import socket

import optuna
import pytest
from optuna.trial import TrialState
from tests.compare.stores import CELLS, IDENTITIES, RUNS, history

from steepest.compare import Run
from steepest.compare._queue.store import Store
from steepest.errors import StorageError


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def trials(url, *states):
    study = optuna.load_study(study_name="steepest", storage=url)
    return study.get_trials(states=states or None)


def test_runs_are_claimed_in_the_order_in_which_they_were_queued_and_each_once(url):
    store = Store(url, IDENTITIES)
    store.enqueue(RUNS)
    assert [store.claim().run for _ in RUNS] == RUNS
    assert store.claim() is None


def test_a_finished_run_comes_back_bit_for_bit_also_when_it_diverged(url):
    store = Store(url, IDENTITIES)
    store.enqueue(RUNS[:2])
    store.finish(store.claim(), history())
    store.finish(store.claim(), history(float("inf")))
    again = Store(url, IDENTITIES)
    assert again.finished() == {RUNS[0]: history(), RUNS[1]: history(float("inf"))}


def test_nothing_that_is_queued_claimed_or_finished_is_queued_again(url):
    store = Store(url, IDENTITIES)
    store.enqueue(RUNS)
    store.finish(store.claim(), history())
    store.claim()
    store.enqueue(RUNS)
    assert len(trials(url)) == len(RUNS)


def test_a_run_that_two_processes_queued_at_once_is_made_once(url):
    first, second = Store(url, IDENTITIES), Store(url, IDENTITIES)
    first.enqueue(RUNS[:1])
    second._trials = lambda *_states: []  # what the second saw before the first wrote
    second.enqueue(RUNS[:1])
    del second._trials
    assert first.claim().run == RUNS[0]
    assert second.claim() is None


def test_the_queue_stays_short(url):
    store = Store(url, IDENTITIES)
    many = [Run(CELLS[0], grid_index, 0) for grid_index in range(40)]
    assert store.enqueue(many) == len(trials(url)) == 16


def test_a_run_given_up_is_queued_again(url):
    store = Store(url, IDENTITIES)
    store.enqueue(RUNS[:1])
    store.give_up(store.claim())
    assert store.claim() is None
    store.enqueue(RUNS[:1])
    assert store.claim().run == RUNS[0]


@pytest.mark.parametrize("gone", [False, True])
def test_a_claimed_run_is_queued_again_when_its_owner_is_gone(url, monkeypatch, gone):
    first, second = Store(url, IDENTITIES), Store(url, IDENTITIES)
    first.enqueue(RUNS[:1])
    first.claim()
    monkeypatch.setattr(second._owner, "is_abandoned", lambda _trial: gone)
    second.enqueue(RUNS[:1])
    assert (second.claim() is not None) == gone


def test_of_two_that_took_the_same_run_the_last_to_sign_has_it(url, monkeypatch):
    first, second = Store(url, IDENTITIES), Store(url, IDENTITIES)
    first.enqueue(RUNS[:1])
    sign = first.renew

    def both_sign(lease):
        sign(lease)
        second.renew(lease)

    monkeypatch.setattr(first, "renew", both_sign)
    assert first.claim() is None
    (trial,) = trials(url, TrialState.RUNNING)
    assert second._owner.is_mine(trial)


def test_a_run_claimed_by_a_living_process_is_left_to_it(url):
    first, second = Store(url, IDENTITIES), Store(url, IDENTITIES)
    first.enqueue(RUNS[:1])
    first.claim()
    second.enqueue(RUNS[:1])
    assert second.claim() is None
    said = second.waits_for()
    assert f"waiting for {RUNS[0]}: process {os.getpid()} on {socket.gethostname()}" in said


def test_the_result_of_a_run_that_was_taken_over_does_not_disturb(url):
    store = Store(url, IDENTITIES)
    store.enqueue(RUNS[:1])
    late = store.claim()
    store.give_up(late)
    store.enqueue(RUNS[:1])
    store.finish(store.claim(), history())
    store.finish(late, history(0.7))
    store.renew(late)
    store.give_up(late)
    assert store.finished() == {RUNS[0]: history()}
    assert [t.state for t in trials(url)] == [TrialState.FAIL, TrialState.COMPLETE]


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/study.db", "nonsense", "postgresql://me:secret@localhost/x"]
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_the_password(url):
    with pytest.raises(StorageError) as caught:
        Store(url, IDENTITIES)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "study.db"
    path.write_text("not a database, but somebody's notes\n" * 100)
    with pytest.raises(StorageError, match="database"):
        Store(f"sqlite:///{path}", IDENTITIES)
    assert path.read_text().startswith("not a database")


def test_optunas_logging_is_left_as_it_was(url):
    before = optuna.logging.get_verbosity()
    Store(url, IDENTITIES)
    assert optuna.logging.get_verbosity() == before
