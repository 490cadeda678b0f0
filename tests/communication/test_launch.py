"""Workers on this machine: what they return, how their failures are told, and that none is left behind."""

from __future__ import annotations

import functools
import importlib.machinery
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
from tests.communication import lives
from tests.communication.lives import gone, wait_until

from steepest.communication import ParameterServer, Ring, launch
from steepest.errors import CommunicationError, InvalidArgument, SteepestError, WorkerFailed


def test_the_results_come_in_the_order_of_ranks():
    assert launch(lives.ranks, 3, args=(10,)) == [(10, 3, 1.0), (11, 3, 1.0), (12, 3, 1.0)]
    assert launch(lives.ranks, 1) == [(0, 1, 0.0)]


def test_tensors_come_back_by_value():
    assert all(torch.equal(tensor, torch.arange(100_000)) for tensor in launch(lives.a_tensor, 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_separate_server_is_no_rank_and_serves_as_often_as_it_is_asked(workers):
    for rank, (own, world, means) in enumerate(launch(lives.served, workers, ParameterServer(), timeout=60)):
        assert (own, world) == (rank, workers)
        assert means == [step + (workers - 1) / 2 for step in range(20)]


def test_a_workers_error_reaches_the_caller_with_its_traceback():
    with pytest.raises(WorkerFailed, match=r"^worker 1 raised ValueError: a fault of its own\. ") as caught:
        launch(lives.raises_in_one, 3, args=("raise",), timeout=60)
    assert 'raise ValueError("a fault\\nof its own")' in str(caught.value.__cause__)
    assert "lives.py" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("kill", r"^worker 1 was killed by SIGKILL\.$"),
        ("exit", r"^worker 1 ended before its function returned \(got 7\)\.$"),
        ("unsendable", r"^worker 1 raised TypeError: cannot pickle"),
    ],
)
def test_who_failed_first_is_named_although_its_peers_fail_too(kind, said):
    with pytest.raises(WorkerFailed, match=said):
        launch(lives.raises_in_one, 3, args=(kind,), timeout=60)


def test_the_end_of_the_server_ends_all():
    with pytest.raises(WorkerFailed, match=r"^the server raised json\.decoder\.JSONDecodeError"):
        launch(lives.server_dies, 2, ParameterServer(), args=(2,), timeout=60)


def test_workers_have_the_callers_environment_and_share_its_processors(monkeypatch):
    for value in ("first", "second"):  # A server that forks was started with the first.
        monkeypatch.setenv("STEEPEST_TEST", value)
        assert (
            launch(lives.environment, 2, args=("STEEPEST_TEST",)) == [(value, max((os.cpu_count() or 1) // 2, 1))] * 2
        )


def test_a_lambda_and_a_closure_can_be_launched():
    captured = 5
    assert launch(lambda: captured + 1, 2) == [6, 6]


@pytest.mark.parametrize(
    ("file", "spec"),
    [(None, None), ("<stdin>", None), (__file__, "package.__main__")],
    ids=["a notebook", "standard input", "the main module of a package"],
)
def test_functions_of_a_program_that_workers_cannot_import_reach_them_and_results_come_back(monkeypatch, file, spec):
    main = types.ModuleType("__main__")
    main.__spec__ = None if spec is None else importlib.machinery.ModuleSpec(spec, None)
    if file is not None:
        main.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(lives.PROGRAM, vars(main))
    assert launch(main.rank, 2) == [0, 1]
    assert launch(functools.partial(main.work, 4), 1) == [main.Found(4)]
    assert launch(lives.calls, 1, args=({"key": [main.work]},)) == [main.Found(0)]
    assert getattr(main, "__file__", None) == file


def test_a_program_that_no_worker_can_import_needs_cloudpickle_for_its_own_functions_alone(monkeypatch):
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    exec(lives.PROGRAM, vars(main))
    assert launch(lives.ranks, 1) == [(0, 1, 0.0)]
    with pytest.raises(InvalidArgument, match="Define it at the top of a module, or install cloudpickle"):
        launch(main.rank, 1)


@pytest.mark.slow
def test_a_program_may_come_from_standard_input():
    text = lives.PROGRAM + "print(launch(work, 2, args=(1,)))"
    done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[Found(rank=1), Found(rank=2)]\n", "")


@pytest.mark.parametrize("error", [RuntimeError("no such thing."), FileNotFoundError("no such file.")])
def test_a_returned_value_that_cannot_be_read_names_its_worker(error):
    said = rf"^worker 1 sent what cannot be read here: {type(error).__name__}: {error.args[0]} Let it send, or return, "
    with pytest.raises(WorkerFailed, match=said) as caught:
        launch(lives.unreadable, 2, args=(error,), timeout=20)
    assert type(caught.value.__cause__) is type(error)


def test_what_cannot_be_sent_is_refused_in_words(monkeypatch):
    lock = __import__("threading").Lock()
    said = r"function and args must be such .*\(got .*cannot pickle.*lock.*\)\. .*inside of the function"
    with pytest.raises(InvalidArgument, match=said):
        launch(lives.ranks, 1, args=(lock,))
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(InvalidArgument, match="Define it at the top of a module, or install cloudpickle"):
        launch(lambda: 1, 1)


def test_after_the_timeout_the_workers_are_ended():
    start = time.monotonic()
    with pytest.raises(CommunicationError, match=r"must end within 0\.5 s \(got 'worker 0, worker 1'\)"):
        launch(lives.forever, 2, timeout=0.5)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"function": 3}, "function must be a function"),
        ({"workers": 0}, "workers must be a whole number >= 1"),
        ({"workers": True}, "workers must be a whole number >= 1"),
        ({"scheme": "ring"}, "scheme must be a scheme such as Ring"),
        ({"scheme": ParameterServer(2)}, "server must be a rank of the 2 workers"),
        ({"args": "ab"}, "args must be a tuple or a list"),
        ({"timeout": 0}, "timeout must be a number in"),
        ({"timeout": float("nan")}, "timeout must be a number in"),
    ],
)
def test_arguments_are_checked_before_anything_starts(arguments, said):
    with pytest.raises(InvalidArgument, match=said):
        launch(**({"function": lives.ranks, "workers": 2, "scheme": Ring()} | arguments))


def program(folder: Path, text: str) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(text)
    return subprocess.Popen(
        [sys.executable, "program.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


RUNNING_OR_STOPPED = pytest.mark.parametrize(
    "first", [pytest.param(None, marks=pytest.mark.slow), signal.SIGSTOP], ids=["running", "one is stopped"]
)


def pids_of_workers(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    if not all(lines):
        pytest.fail(finish(process))
    return [int(line.split()[1]) for line in lines]


def finish(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=30)[1]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_starting_processes_while_the_program_is_imported_is_refused(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(SteepestError, match=r'Put the call under `if __name__ == "__main__":`'):
        launch(lives.ranks, 1)


@pytest.mark.slow
def test_a_program_without_its_guard_is_told_so(tmp_path):
    said = finish(program(tmp_path, lives.UNGUARDED))
    assert "a program must not start processes while it is imported" in said
    assert '`if __name__ == "__main__":`' in said.splitlines()[-1]


@RUNNING_OR_STOPPED
def test_an_interrupt_ends_all_processes(tmp_path, first):
    process = program(tmp_path, lives.GUARDED.format(body="time.sleep(600)"))
    pids = pids_of_workers(process)
    if first is not None:
        os.kill(pids[1], first)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
    said = finish(process)
    assert process.returncode not in (0, None)
    assert said.count("Traceback") == 1, said
    assert "KeyboardInterrupt" in said
    wait_until(lambda: all(map(gone, pids)))


@RUNNING_OR_STOPPED
def test_workers_end_when_their_caller_is_killed(tmp_path, first):
    process = program(tmp_path, lives.GUARDED.format(body="time.sleep(600)"))
    pids = pids_of_workers(process)
    if first is not None:
        os.kill(pids[1], first)
    process.kill()
    finish(process)
    wait_until(lambda: all(map(gone, pids)))
