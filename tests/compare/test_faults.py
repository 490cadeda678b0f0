"""What befalls a storage while a trial runs, in earnest: full and read-only disks, servers that restart, containers."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.compare.stores import IDENTITIES, RUNS, history

from steepest.compare import Budget, compare
from steepest.compare._queue.store import Store
from steepest.errors import StorageError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="mounts, namespaces and servers as Linux has them"),
]
SMALL = Budget(rates=5, tuning_seeds=1)


class Told:
    """Keeps what is waited for."""

    def __init__(self):
        self.reasons, self.runs = [], []

    def started(self, run):
        self.runs.append(run)

    def known(self, losses, total):
        pass

    def noticed(self, line):
        pass

    def waiting(self, reason):
        self.reasons.append(reason)


@pytest.fixture
def disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs to be allowed to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def later(seconds, action):
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def fill(disk):
    """Leave no byte free."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def remount(disk, how):
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


@pytest.mark.parametrize("fault", ["full", "read-only"])
@pytest.mark.parametrize("lasting", [False, True])
def test_a_disk_that_takes_nothing_is_waited_for_and_the_result_is_stored_when_it_does(disk, fault, lasting):
    store = Store(disk / "study.db", IDENTITIES)
    store.enqueue(RUNS[:2])
    store.finish(store.claim(), history())
    lease, told = store.claim(), Told()
    store.patience.say = told.waiting
    store.patience.seconds = 4.0 if lasting else 60.0
    fill(disk) if fault == "full" else remount(disk, "ro")
    mend = (disk / "ballast").unlink if fault == "full" else (lambda: remount(disk, "rw"))
    large = history()
    large.observations["many"] = [0.1] * 20_000
    if lasting:
        with pytest.raises(StorageError, match=r"must not be unavailable for 4 s .*(full|readonly|I/O)") as caught:
            store.finish(lease, large)
        assert "\n" not in str(caught.value)
        mend()
        assert Store(disk / "study.db", IDENTITIES).finished() == {RUNS[0]: history()}
        return
    timer = later(3.0, mend)
    store.finish(lease, large)
    timer.join()
    assert told.reasons[0].startswith("waiting for the storage, for at most 60 s more: OperationalError: ")
    assert told.reasons[-1] == ""
    assert Store(disk / "study.db", IDENTITIES).finished() == {RUNS[0]: history(), RUNS[1]: large}


def test_a_trial_goes_on_after_another_program_has_locked_its_storage_for_15_seconds(tiny_task, tmp_path):
    path, told, locked = tmp_path / "study.db", Told(), []

    def lock(output, target):
        if len(told.runs) == 3 and not locked:
            other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            other.execute("BEGIN EXCLUSIVE")
            locked.append(later(15.0, lambda: (other.execute("ROLLBACK"), other.close())))
        return loss(output, target)

    loss = tiny_task().loss
    options = {"seeds": 3, "budget": SMALL, "workers": 1}
    result = compare(tiny_task(loss=lock), ["sgd"], storage=path, listener=told, **options)
    locked[0].join()
    assert any("database is locked" in reason for reason in told.reasons)
    assert len(told.runs) == len(result.runs), "no run was made twice"
    whole = compare(tiny_task(), ["sgd"], **options)
    assert [s.loss for s in result.table()] == [s.loss for s in whole.table()]


def test_a_trial_whose_storage_is_deleted_stops_at_once(tiny_task, tmp_path):
    path, told = tmp_path / "study.db", Told()
    loss = tiny_task().loss

    def delete(output, target):
        if len(told.runs) == 3:
            path.unlink(missing_ok=True)
        return loss(output, target)

    with pytest.raises(StorageError, match=r"study.db was deleted") as caught:
        compare(tiny_task(loss=delete), ["sgd"], seeds=3, budget=SMALL, workers=1, storage=path, listener=told)
    assert "\n" not in str(caught.value)
    assert len(told.runs) == 3
    assert not path.exists()


class Server:
    """A PostgreSQL server of its own, which can be killed and started again."""

    def __init__(self, folder, programs):
        self.folder, self.programs = folder, programs
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self.data = folder / "data"
        shutil.chown(folder, "postgres") if self.user else None
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", "me", "--no-sync")

    def _run(self, program, *arguments):
        subprocess.run(
            [*self.user, str(self.programs / program), *arguments], check=True, capture_output=True, cwd=self.folder
        )

    def start(self):
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def kill(self):
        os.kill(self.pid, signal.SIGQUIT)  # ends at once, and all its connections with it
        while Path(f"/proc/{self.pid}").exists():
            time.sleep(0.05)

    @property
    def pid(self):
        return int((self.data / "postmaster.pid").read_text().splitlines()[0]) if self._runs() else 0

    def _runs(self):
        return (self.data / "postmaster.pid").exists()

    def stop(self):
        if self._runs():
            self._run("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop")


@pytest.fixture
def server():
    psycopg = pytest.importorskip("psycopg")
    found = sorted(place for place in Path("/usr/lib/postgresql").glob("*/bin") if (place / "initdb").exists())
    if not found or (os.geteuid() == 0 and shutil.which("runuser") is None):
        pytest.skip("needs the programs of a PostgreSQL server")
    with tempfile.TemporaryDirectory(prefix="steepest-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = Server(Path(folder), found[-1])
        server.start()
        try:
            with psycopg.connect(
                host="127.0.0.1", port=server.port, user="me", dbname="postgres", autocommit=True
            ) as c:
                c.execute("CREATE DATABASE trial")
            yield server
        finally:
            server.stop()


def test_a_server_that_is_killed_and_started_again_is_waited_for(tiny_task, server):
    told, killed = Told(), []
    url = f"postgresql+psycopg://me:secret@127.0.0.1:{server.port}/trial"
    loss = tiny_task().loss

    def kill(output, target):
        if len(told.runs) == 3 and not killed:
            server.kill()
            killed.append(later(4.0, server.start))
        return loss(output, target)

    options = {"seeds": 3, "budget": SMALL, "workers": 1}
    result = compare(tiny_task(loss=kill), ["sgd"], storage=url, listener=told, **options)
    killed[0].join()
    assert told.reasons[0].startswith("waiting for the storage, for at most 60 s more: OperationalError: ")
    assert told.reasons[-1] == ""
    assert "secret" not in str(told.reasons)
    assert len(told.runs) == len(result.runs), "no run was made twice"
    whole = compare(tiny_task(), ["sgd"], **options)
    assert [s.loss for s in result.table()] == [s.loss for s in whole.table()]


def test_a_server_that_stays_away_ends_the_trial_in_one_line_and_finished_runs_stay(server):
    url = f"postgresql+psycopg://me:secret@127.0.0.1:{server.port}/trial"
    store = Store(url, IDENTITIES)
    store.enqueue(RUNS[:2])
    store.finish(store.claim(), history())
    lease, store.patience.seconds = store.claim(), 3.0
    server.kill()
    with pytest.raises(StorageError, match=r"must not be unavailable for 3 s .*me:\*\*\*@127") as caught:
        store.finish(lease, history())
    assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="must be a database that Optuna can open") as caught:
        Store(url, IDENTITIES)
    assert "\n" not in str(caught.value)
    server.start()
    with closing(store.patience):
        again = Store(url, IDENTITIES)
    with closing(again.patience):
        assert again.finished() == {RUNS[0]: history()}


def test_a_database_of_another_program_gets_no_tables(server):
    import psycopg

    with psycopg.connect(host="127.0.0.1", port=server.port, user="me", dbname="trial", autocommit=True) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
        with pytest.raises(StorageError, match="it holds songs of another program"):
            Store(f"postgresql+psycopg://me@127.0.0.1:{server.port}/trial", IDENTITIES)
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        assert connection.execute(query).fetchall() == [("songs",)]


PROGRAM = """
import json, os, sys, time
from pathlib import Path
import torch
from torch import nn
from steepest.compare import Budget, compare
from tests.compare.tiny import tiny_task

class Told:
    runs = []
    reasons = []
    def started(self, run): self.runs.append(str(run))
    def known(self, losses, total): pass
    def noticed(self, line): pass
    def waiting(self, reason): self.reasons.append(reason)

def slow(output, target):
    if output.requires_grad:
        time.sleep(0.05)
    return nn.functional.cross_entropy(output, target)

folder, own = Path(sys.argv[1]), sys.argv[2]
told = Told()
(folder / f"ready-{own}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.05)
result = compare(tiny_task(loss=slow), ["sgd"], seeds=4, budget=Budget(rates=5, tuning_seeds=1),
                 workers=1, storage=folder / "study.db", listener=told)
(folder / f"{own}.json").write_text(json.dumps([os.getpid(), len(result.runs), told.runs, told.reasons]))
"""


def test_two_containers_with_one_host_name_and_one_process_number_leave_each_others_runs_alone(tmp_path):
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("needs to be allowed to make a PID namespace")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "OMP_NUM_THREADS": "1"}
    command = [*apart, sys.executable, "-c", PROGRAM, str(tmp_path)]
    both = [subprocess.Popen([*command, name], env=environment, cwd=root) for name in ("a", "b")]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    (pid_a, needed, runs_a, _), (pid_b, _, runs_b, _) = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("a", "b")
    )
    assert pid_a == pid_b == 1
    assert runs_a, "both took part"
    assert runs_b, "both took part"
    assert len(runs_a) + len(runs_b) == needed, "a run was made twice"
    assert len({*runs_a, *runs_b}) == needed
