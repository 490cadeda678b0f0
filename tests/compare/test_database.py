import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from tests.compare.stores import IDENTITIES, RUNS, history

from steepest.compare._queue.patience import Patience
from steepest.compare._queue.store import Store
from steepest.errors import StorageError

AWKWARD = ["what?x=1", "p%41q", "a b", "#1", "'quoted\"", "{x}", "é\N{SNOWMAN}", "me:x@y", "\udcff", "x" * 200]


class Told:
    """Listens to what is waited for, and counts the pauses instead of making them."""

    def __init__(self, store, then=lambda: None):
        self.reasons, self.pauses = [], []
        self._then = then
        store.patience.say, store.patience.sleep = self.reasons.append, self._sleep

    def _sleep(self, seconds):
        self.pauses.append(seconds)
        if len(self.pauses) == 3:
            self._then()


def fill(store):
    """Finish one run and claim another."""
    store.enqueue(RUNS[:2])
    store.finish(store.claim(), history())
    return store.claim()


def change(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


@pytest.fixture
def store(path):
    return Store(path, IDENTITIES)


# Where it lies


@pytest.mark.parametrize("name", AWKWARD)
def test_a_folder_may_have_any_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    fill(Store(folder / "study.db", IDENTITIES))
    assert [each.name for each in folder.iterdir()] == ["study.db"]
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert Store(folder / "study.db", IDENTITIES).finished() == {RUNS[0]: history()}


def test_a_task_may_change_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = Store(Path("study.db"), IDENTITIES), Store("sqlite:///other.db", IDENTITIES)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fill(first)
    fill(second)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["elsewhere", "other.db", "study.db"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_path_that_is_too_long_for_sqlite_is_one_line(tmp_path):
    folder = tmp_path.joinpath(*["x" * 100] * 5)
    folder.mkdir(parents=True)
    with pytest.raises(StorageError, match="no path of more than 500 bytes"):
        Store(folder / "study.db", IDENTITIES)


def test_options_of_a_url_are_kept(tmp_path):
    fill(Store(f"sqlite:///{tmp_path}/study.db?timeout=1", IDENTITIES))
    again = Store(f"sqlite:///file:{tmp_path}/study.db?uri=true&mode=rw", IDENTITIES)
    assert again.finished() == {RUNS[0]: history()}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", None])
def test_memory_is_a_storage_too(url):
    store = Store(url, IDENTITIES)
    fill(store)
    assert store.finished() == {RUNS[0]: history()}


# Whose it is


def of_another_program(path):
    change(path, "CREATE TABLE songs (name TEXT)", "INSERT INTO songs VALUES ('La Mer')")


def with_a_view_alone(path):
    change(path, "CREATE VIEW songs AS SELECT 1")


def with_a_table_called_as_one_of_optunas(path):
    change(path, "CREATE TABLE studies (name TEXT)", "INSERT INTO studies VALUES ('of light')")


def in_wal_mode(path):
    change(path, "PRAGMA journal_mode = WAL", "CREATE TABLE songs (name TEXT)")


def notes(path):
    path.write_text("not a database, but somebody's notes\n" * 100)


def one_byte(path):
    path.write_bytes(b"S")


def damaged(path):
    path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)


def older(path):
    Store(path, IDENTITIES)
    change(path, "UPDATE alembic_version SET version_num = 'v2.6.0.a'", "DROP TABLE trial_heartbeats")


def newer(path):
    Store(path, IDENTITIES)
    change(path, "UPDATE alembic_version SET version_num = 'v99.0.0.a'", "DROP TABLE trial_heartbeats")


@pytest.mark.parametrize(
    "made",
    [
        of_another_program,
        with_a_view_alone,
        with_a_table_called_as_one_of_optunas,
        in_wal_mode,
        notes,
        one_byte,
        damaged,
        older,
        newer,
    ],
)
def test_what_is_not_ours_is_refused_in_one_line_and_left_as_it_was(path, made):
    made(path)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="must be a database that Optuna can open") as caught:
        Store(path, IDENTITIES)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_folder_or_a_pipe_is_no_storage(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(StorageError, match="it is not a file"):
            Store(tmp_path / name, IDENTITIES)


def test_an_empty_file_becomes_a_storage(path):
    path.touch()
    fill(Store(path, IDENTITIES))
    assert Store(path, IDENTITIES).finished() == {RUNS[0]: history()}


def test_one_that_was_just_being_made_is_finished(path, store):
    tables = ("trial_heartbeats", "trial_values", "alembic_version")
    change(path, "DELETE FROM studies", "DELETE FROM study_directions", *(f"DROP TABLE {table}" for table in tables))
    fill(Store(path, IDENTITIES))
    assert Store(path, IDENTITIES).finished() == {RUNS[0]: history()}


def test_other_studies_of_optuna_in_it_are_left_alone(path):
    url = f"sqlite:///{path}"
    other = optuna.create_study(storage=url, study_name="other")
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    fill(Store(path, IDENTITIES))
    again = optuna.load_study(storage=url, study_name="other")
    assert [trial.params for trial in again.trials] == [trial.params for trial in other.trials]
    assert set(optuna.get_all_study_names(url)) == {"other", "steepest"}


def test_one_that_was_left_in_the_middle_of_writing_is_opened(path):
    program = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
connection.execute("UPDATE studies SET study_name = 'half'")
connection.execute("CREATE TABLE half AS SELECT randomblob(100000)")
os._exit(0)
"""
    fill(Store(path, IDENTITIES))
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert path.with_name("study.db-journal").stat().st_size > 0
    assert Store(path, IDENTITIES).finished() == {RUNS[0]: history()}


# What happens to it


def deleted(path):
    path.unlink()


def deleted_with_its_folder(path):
    shutil.rmtree(path.parent)


def replaced(path):
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def emptied(path):
    os.truncate(path, 0)


def truncated(path):
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def overwritten(path):
    with path.open("r+b") as file:
        file.write(b"no database any more" * 100)


def robbed_of_its_tables(path):
    change(path, "DROP TABLE trials")


def robbed_of_its_study(path):
    optuna.delete_study(study_name="steepest", storage=f"sqlite:///{path}")


@pytest.mark.parametrize(
    "happen",
    [
        deleted,
        deleted_with_its_folder,
        replaced,
        emptied,
        truncated,
        overwritten,
        robbed_of_its_tables,
        robbed_of_its_study,
    ],
)
def test_what_does_not_pass_stops_at_once_with_one_line(path, store, happen):
    told = Told(store)
    lease = fill(store)
    happen(path)
    left = path.read_bytes() if path.exists() else None
    for act in (store.finished, lambda: store.enqueue(RUNS), lambda: store.renew(lease)):
        with pytest.raises(StorageError, match="must stay as it is") as caught:
            act()
        assert "\n" not in str(caught.value)
    with pytest.raises(StorageError):
        store.finish(lease, history())
    assert (told.reasons, told.pauses) == ([], [])
    assert (path.read_bytes() if path.exists() else None) == left, "nothing is made in its place"


@pytest.mark.parametrize("lasting", [False, True])
def test_a_lock_is_waited_for_with_growing_pauses_and_said(path, lasting, monkeypatch):
    store = Store(f"sqlite:///{path}?timeout=0.01", IDENTITIES)
    lease = fill(store)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        told = Told(store, then=(lambda: None) if lasting else lambda: other.execute("ROLLBACK"))
        now = iter(range(1000, 2000, 10))
        monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
        if lasting:
            with pytest.raises(StorageError, match=r"unavailable for 60 s.*database is locked"):
                store.finish(lease, history(0.25))
        else:
            store.finish(lease, history(0.25))
    assert told.pauses[:3] == [0.25, 0.5, 1.0]
    assert told.reasons[0] == "waiting for the storage, for at most 60 s more: OperationalError: database is locked"
    if lasting:
        assert len(told.pauses) == 6, "a pause each 10 s for a minute"
    else:
        assert told.reasons[-1] == ""
        assert Store(path, IDENTITIES).finished() == {RUNS[0]: history(), RUNS[1]: history(0.25)}


def test_one_that_is_locked_while_it_is_opened_is_waited_for(path, monkeypatch):
    fill(Store(path, IDENTITIES))
    said, attempts = [], []
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        def sleep(_seconds):
            attempts.append(1)
            if len(attempts) == 5:
                other.execute("ROLLBACK")

        monkeypatch.setattr(time, "sleep", sleep)
        store = Store(f"sqlite:///{path}?timeout=0.01", IDENTITIES, say=said.append)
    assert store.finished() == {RUNS[0]: history()}
    assert said[0] == "waiting for the storage, which another program has locked"
    assert said[-1] == ""


def test_several_calls_of_one_operation_share_their_minute():
    patience = Patience("sqlite://")
    patience.sleep = lambda _seconds: None
    patience.seconds = 0.0
    calls = []

    def inner():
        calls.append(1)
        raise OSError("away")

    with pytest.raises(StorageError, match="unavailable for 0 s"):
        patience.call(lambda: patience.call(inner))
    assert len(calls) == 1


def test_after_the_end_nothing_is_waited_for(path):
    store = Store(f"sqlite:///{path}?timeout=0.01", IDENTITIES)
    lease = fill(store)
    told = Told(store)
    store.patience.seconds = 0.0
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError):
            store.give_up(lease)
    assert told.pauses == []


# Rows that nobody wrote like that


CHANGES = [
    "UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'history'",
    "UPDATE trial_user_attributes SET value_json = '\"{\"' WHERE key = 'history'",
    "UPDATE trial_user_attributes SET value_json = '3' WHERE key = 'history'",
    "UPDATE trial_user_attributes SET value_json = '\"{}\"' WHERE key = 'history'",
    "UPDATE trial_user_attributes SET value_json = replace(value_json, 'valid_loss', 'lost')",
    "UPDATE trial_user_attributes SET value_json = replace(value_json, '1.0, 0.5', '\\\"nan\\\", 0.5')",
    "UPDATE trial_user_attributes SET value_json = replace(value_json, '[1.0, 0.5]', '[]')",
    "UPDATE trial_user_attributes SET value_json = replace(value_json, '[1.0, 0.5]', '[0.5]')",
    "UPDATE trial_user_attributes SET value_json = replace(value_json, '[0, 10]', '[0, 1e400]')",
    "UPDATE trial_user_attributes SET value_json = replace(value_json, '[0, 10]', '[0, null]')",
    "UPDATE trial_user_attributes SET value_json = replace(value_json, 'dead_units', 'dead_souls')",
    "UPDATE trial_user_attributes SET value_json = replace(value_json, 'false', '\\\"no\\\"')",
    "UPDATE trial_user_attributes SET value_json = replace(value_json, 'state_bytes', 'state_bits')",
    "DELETE FROM trial_user_attributes WHERE key = 'history'",
    "DELETE FROM trial_user_attributes WHERE key = 'grid_index'",
    "UPDATE trial_user_attributes SET value_json = '\"x\"' WHERE key = 'grid_index'",
    "UPDATE trial_user_attributes SET value_json = '1e3' WHERE key = 'grid_index'",
    "UPDATE trial_user_attributes SET value_json = '99999999' WHERE key = 'grid_index'",
    "DELETE FROM trial_params WHERE param_name = 'seed'",
    "UPDATE trial_params SET param_value = 'x' WHERE param_name = 'seed'",
    "UPDATE trial_params SET param_value = 9e999 WHERE param_name = 'seed'",
    "UPDATE trial_params SET distribution_json = '{}'",
    "UPDATE trials SET state = 'DONE'",
]


@pytest.mark.parametrize(
    "statement",
    # One in three often, the others in the slow tier.
    [pytest.param(change, marks=[pytest.mark.slow] if i % 3 else []) for i, change in enumerate(CHANGES)],
)
def test_a_row_that_was_changed_is_one_line_that_names_the_run(path, statement):
    store = Store(path, IDENTITIES)
    store.enqueue(RUNS[:1])
    store.finish(store.claim(), history())
    change(path, statement)
    with pytest.raises(StorageError, match=r"must be as it was written .*trial 0 \(.*") as caught:
        again = Store(path, IDENTITIES)
        again.finished()
        again.enqueue(RUNS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.slow
def test_a_lock_of_some_seconds_is_waited_for_in_earnest(path, store):
    lease = fill(store)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    threading.Timer(8.0, lambda: (other.execute("ROLLBACK"), other.close())).start()
    began = time.monotonic()
    store.finish(lease, history(0.25))
    assert 7 < time.monotonic() - began < 40
    assert len(Store(path, IDENTITIES).finished()) == 2
