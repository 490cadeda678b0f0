"""`steepest train`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steepest.cli import main

TASK = """
import dataclasses
import torch
from torch import nn
from steepest.tasks import Task

x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
y = x.sum(dim=1, keepdim=True)

def distance(output, target):
    return (output - target).abs().max()

def task():
    return Task(model=lambda: nn.Linear(3, 1), loss=nn.functional.mse_loss, train=(x, y), valid=(x, y), metric=distance,
                batch_size=8, steps=30, validations=5, name="mine")

def unlucky(output, target):
    raise RuntimeError("no luck")

def errors(output, target):
    return ((output - target).abs() > 0.5).float().mean()

def stepped():
    return dataclasses.replace(task(), loss=errors)

def broken():
    return dataclasses.replace(task(), loss=unlucky)
"""


@pytest.fixture
def trained(tmp_path, monkeypatch, capsys):
    """A function that runs the command on a task of its own, and returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"task_{tmp_path.name}"
    Path(f"{name}.py").write_text(TASK)

    def call(*options, of="task"):
        monkeypatch.setattr(sys, "argv", ["steepest", "train", "--task", f"{name}:{of}", *options])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0, *capsys.readouterr()

    yield call
    sys.modules.pop(name, None)


def test_one_process_trains_and_is_diagnosed(trained):
    status, printed, _ = trained("--optimizer", "sgd", "--lr", "0.1")
    assert status == 0
    assert "mine: validation loss" in printed
    assert "Page: runs/mine/training.html" in printed
    results = json.loads(Path("runs/mine/results.json").read_text())
    assert results["history"]["steps"][-1] == 30
    assert results["history"]["diagnosis"] is not None
    assert "group" not in results
    page = Path("runs/mine/training.html").read_text()
    assert "What was sent" not in page
    assert "Diagnosis" in page


def test_a_loss_without_a_gradient_trains_by_the_score_function(trained):
    for given in ([], ["--gradient", "pathwise"]):
        status, _, said = trained(*given, of="stepped")
        assert status == 2
        assert said.endswith("(--gradient score-function).\n")
    options = "--gradient", "score-function:sigma=0.3,samples=20", "--evaluations", "210", "--optimizer", "sgd"
    status, printed, _ = trained(*options, of="stepped")
    assert status == 0
    assert "after 10 steps (200 evaluations of the loss)" in printed
    results = json.loads(Path("runs/mine/results.json").read_text())
    assert results["settings"]["gradient"] == "ScoreFunction(sigma=0.3, samples=20)"
    assert results["history"]["evaluations"][-1] == 200
    assert results["history"]["diagnosis"] is None
    page = Path("runs/mine/training.html").read_text()
    assert "gradient ScoreFunction(sigma=0.3, samples=20)" in page
    assert "against the evaluations of the loss" in page
    assert "Diagnosis" not in page


def test_a_killed_worker_is_named_and_the_page_shows_what_was_sent(trained):
    options = "--optimizer", "sgd", "--lr", "0.1", "--workers", "3", "--kill", "1@10"
    status, printed, said = trained(*options)
    assert (status, said) == (0, "")
    assert printed.startswith("worker 1 died at step 10; went on with 2 workers\n")
    rows = [line.split() for line in printed.splitlines() if " workers " in line and "died" not in line]
    assert rows == [["3", "workers", "10", "12", "12", "64", "64"], ["2", "workers", "20", "4", "4", "32", "32"]]
    group = json.loads(Path("runs/mine/results.json").read_text())["group"]
    assert [each["step"] for each in group["losses"]] == list(range(30))
    assert {each["divisor"] for each in group["losses"]} == {8}
    assert group["survivors"] == [0, 2]
    assert group["agrees"]
    page = Path("runs/mine/training.html").read_text()
    for heading in ("What was sent", "Who sends what to whom", "Payload per link", "What happened to the group"):
        assert heading in page
    status, printed, _ = trained("--json", *options)
    assert json.loads(printed)["group"]["survivors"] == [0, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scheme", "rings"), "--scheme must be one of ring, parameter-server, all-to-all, all-reduce"),
        (("--scheme", "parameter-server:x"), "must end in a worker's number"),
        (("--scheme", "parameter-server:4", "--workers", "2"), "server"),
        (("--workers", "0"), "workers must be a whole number >= 1"),
        (("--workers", "2", "--kill", "2@3"), "the worker of a fault must be one of 0 to 1 (got 2)"),
        (("--workers", "2", "--kill", "1@30"), "must be less than the number of steps, 30 (got 30)"),
        (("--workers", "2", "--kill", "server@3"), "needs a separate one"),
        (("--workers", "2", "--kill", "soon"), "--kill must be WORKER@STEP (got 'soon'). For example --kill 2@50."),
        (("--workers", "2", "--slow", "server@3"), "a slow worker must have a number"),
        (("--workers", "2", "--optimizer", "sdg"), "there is no such optimizer"),
    ],
)
def test_wrong_options_are_refused_in_one_line(trained, options, message):
    status, printed, said = trained(*options)
    assert (status, printed) == (2, "")
    assert message in said
    assert said.count("\n") == 1
    assert not list(Path().glob("runs/*"))


def test_the_traceback_of_a_worker_is_shown(trained):
    status, _, said = trained("--workers", "2", of="broken")
    assert status == 2
    assert "in unlucky" in said
    assert said.splitlines()[-1].startswith("steepest: worker ")
    assert "RuntimeError: no luck" in said.splitlines()[-1]


def start(folder, *options):
    code = "from steepest.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def left_of(session: int) -> list[int]:
    """The processes of a session that do not end; the servers of forks end when they see that their caller has."""
    end = time.monotonic() + 10  # those that load batches look every five seconds whether their parent lives
    while (found := of_session(session)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def of_session(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["ring", "parameter-server", "parameter-server:2", "all-to-all"])
def test_a_death_costs_at_most_half_a_point_of_accuracy_and_leaves_no_process(tmp_path, scheme):
    accuracy = {}
    for name, fault in {"undisturbed": [], "killed": ["--kill", "2@50"], "stopped": ["--stop", "2@50"]}.items():
        process = start(tmp_path, "--workers", "4", "--scheme", scheme, "--out", name, *fault)
        printed, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert left_of(process.pid) == []
        results = json.loads((tmp_path / name / "results.json").read_text())
        accuracy[name] = results["history"]["valid_metrics"]["accuracy"][-1]
        if name == "killed":
            assert "worker 2 died at step 50; went on with 3 workers" in printed
        if name == "stopped":
            assert "worker 2 was left out at step 50; went on with 3 workers" in printed
        for row in results["group"]["traffic"]:
            assert (row["messages"], row["bytes"]) == (row["expected_messages"], row["expected_bytes"])
    assert max(accuracy.values()) - min(accuracy.values()) <= 0.005


LOADS = """
import torch
from torch import nn
from torch.utils.data import Dataset
from steepest.tasks import Task

class Rows(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, number):
        return torch.tensor([number / 60]), torch.tensor([number / 30])

def fails(output, target):
    if target.max() > 0:
        raise RuntimeError("no luck")

def task(loss=nn.functional.mse_loss):
    return Task(model=lambda: nn.Linear(1, 1), loss=loss, train=Rows(), valid=Rows(), batch_size=6, steps=20,
                validations=2, num_workers=2)

def broken():
    return task(fails)
"""


@pytest.mark.slow
@pytest.mark.parametrize("of", ["task", "broken"])
def test_processes_that_load_batches_end_with_their_worker(tmp_path, of):
    (tmp_path / "loads.py").write_text(LOADS)
    process = start(tmp_path, "--task", f"./loads.py:{of}", "--workers", "2", "--kill", "1@5")
    printed, said = process.communicate(timeout=120)
    assert left_of(process.pid) == []
    if of == "task":
        assert process.returncode == 0, said
        assert "worker 1 died at step 5; went on with 1 worker" in printed
    else:
        assert process.returncode == 2
        assert said.splitlines()[-1].endswith(
            "raised RuntimeError: no luck. The traceback of that process stands above."
        )


@pytest.mark.slow
def test_ctrl_c_ends_all_processes(tmp_path):
    process = start(tmp_path, "--workers", "3", "--steps", "100000", "--out", "mine")
    try:
        end = time.monotonic() + 60
        while len(of_session(process.pid)) < 6 and time.monotonic() < end:  # itself, the server of forks, its tracker
            time.sleep(0.1)
        time.sleep(2)
        process.send_signal(2)
        printed, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (printed, said) == ("", "Stopped; nothing was written.\n")
    assert left_of(process.pid) == []
    assert not (tmp_path / "mine").exists()


DIES = """
import os, signal
from pathlib import Path
import mine

def dies(output, target):
    flag = Path("died")
    if os.environ["RANK"] == "1" and len(list(Path("dying/checkpoints").glob("*/step-*"))) >= 2 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mine.nn.functional.mse_loss(output, target)

def task():
    return mine.dataclasses.replace(mine.task(), loss=dies)
"""


@pytest.mark.slow
def test_under_torchrun_a_death_restarts_from_a_checkpoint(tmp_path):
    (tmp_path / "mine.py").write_text(TASK)
    (tmp_path / "dying.py").write_text(DIES)
    results = {}
    for module in ("mine", "dying"):
        code = "import sys; sys.path.insert(0, '.'); from steepest.cli import main; main()"
        worker = [
            sys.executable,
            "-c",
            code,
            "train",
            "--task",
            f"{module}:task",
            "--out",
            module,
            "--scheme",
            "all-to-all",
        ]
        agent = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
        # Otherwise the workers' group meets in the agent's own store again, where it finds the addresses of before.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        done = subprocess.run(
            [sys.executable, *agent, "--no-python", *worker],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        results[module] = json.loads((tmp_path / module / "results.json").read_text())
    assert (tmp_path / "died").exists()
    before, after = (results[module]["history"] for module in ("mine", "dying"))
    assert after["steps"][-1] == before["steps"][-1] == 30
    assert after["valid_loss"][-1] == before["valid_loss"][-1]  # to the bit: the same workers take the same shares
    assert 0 < len(results["dying"]["group"]["losses"]) < 30  # of the second attempt
    assert "Continued after step" in after["remarks"][0]
