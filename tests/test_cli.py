import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from steepest import __version__
from steepest.cli import main
from steepest.errors import InvalidArgument

TASK = """
import torch
from torch import nn
from steepest.tasks import Task, accuracy

generator = torch.Generator().manual_seed(0)
y = torch.arange(144) % 3
x = torch.randn(144, 4, generator=generator) + 1.5 * torch.eye(4)[y]
DATA = dict(train=(x[:96], y[:96]), valid=(x[96:], y[96:]), batch_size=16)
LOSS = nn.functional.cross_entropy
MODEL = lambda: nn.Linear(4, 3)

task = Task(name="own", model=MODEL, loss=LOSS, metric=accuracy, steps={steps}, **DATA)
vector_loss = Task(model=MODEL, loss=lambda o, t: LOSS(o, t, reduction="none"), **DATA)
nan_loss = Task(model=MODEL, loss=lambda o, t: LOSS(o, t) / 0, **DATA)
wrong_shape = Task(model=lambda: nn.Linear(5, 3), loss=LOSS, **DATA)
not_a_task = 3
"""
PRINTING = """
import os

def MODEL():
    print("printed")
    os.write(1, b" written ")
    return nn.Linear(4, 3)
"""
ONE = ["--optimizers", "sgd", "--seeds", "3", "--rates", "5", "--workers", "1"]
QUICK = ["--optimizers", "sgd,adamw", "--seeds", "3", "--rates", "5", "--workers", "1"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"own_{tmp_path.name}"  # every test imports a module of its own
    Path(f"{name}.py").write_text(TASK.format(steps=10))
    return name


def run(monkeypatch, *arguments):
    """Run the command line in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["steepest", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0


def start(*arguments, cwd, output=subprocess.DEVNULL):
    """Start the command line in a process group of its own."""
    command = [sys.executable, "-m", "steepest", *arguments]
    return subprocess.Popen(command, stdout=output, stderr=output, text=True, cwd=cwd, start_new_session=True)


def test_a_schedule_and_its_warm_up_are_taken_from_the_command_line(folder, monkeypatch):
    Path(f"{folder}_schedule.py").write_text("def fall(progress):\n    return (1 - progress) ** 2\n")

    seen = []

    def compared(*_arguments, budget, **_options):
        seen.append((budget.schedule_name, budget.warmup, budget.schedule))
        raise InvalidArgument("stop")

    monkeypatch.setattr("steepest.compare.compare", compared)
    for options in ((), ("--schedule", "wsd", "--warmup", "5%"), ("--schedule", f"{folder}_schedule:fall")):
        assert run(monkeypatch, "compare", "--task", f"{folder}:task", *options, *ONE, "--out", "o") == 2
    assert [each[:2] for each in seen] == [("cosine", 0), ("wsd", 0.05), ("fall", 0)]
    assert seen[2][2](0.5) == 0.25


def test_a_module_that_changes_the_folder_does_not_move_the_storage(folder, monkeypatch, tmp_path):
    module = Path(f"{folder}.py")
    (tmp_path / "elsewhere").mkdir()
    module.write_text(f"import os\nos.chdir('elsewhere')\n{module.read_text()}")
    storage = ["--storage", "sqlite:///trial.db", "--out", "o"]
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", *storage, *ONE) == 0
    assert (tmp_path / "trial.db").exists()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_dry_run_says_the_price_and_leaves_nothing(folder, monkeypatch, capsys):
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", *QUICK, "--dry-run") == 0
    assert capsys.readouterr().out.startswith("Price: 30 to 60 tuning runs and 6 final runs on 1 worker, about ")
    assert not Path("o").exists()


def test_a_comparison_prints_its_verdict_and_writes_its_files(folder, monkeypatch, capsys):
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", *QUICK) == 0
    shown = capsys.readouterr()
    assert "adamw" in shown.out
    assert "Report: o/report.html" in shown.out
    price, *rounds = shown.err.splitlines()
    assert price.startswith("Price: 30 to 60 tuning runs and 6 final runs on 1 worker, about ")
    titles = [line.partition(":")[0] for line in rounds]
    assert (titles[0], titles[-1]) == ("Tuning, round 1", "Final runs, seeds 1 to 3")
    assert {path.name for path in Path("o").iterdir()} == {
        "report.html",
        "results.csv",
        "results.json",
        "study.db",
        "timing.csv",
    }


@pytest.mark.slow
def test_the_default_folder_is_named_for_the_task(folder, monkeypatch):
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", *ONE) == 0
    assert Path("runs/own/report.html").exists()


def test_json_is_all_that_is_printed_when_asked_for(folder, monkeypatch, capsys):
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", "--json", *ONE) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path("o/results.json").read_text())
    assert printed["command"].startswith("steepest compare --task")
    assert {"verdict", "choice", "regret", "next", "ranking", "pairs", "target", "environment"} <= printed.keys()


@pytest.mark.slow
def test_no_file_holds_the_storages_password(folder, monkeypatch):
    # SQLite takes no password, but ignores what it does not know.
    url = "sqlite:///file:study.db?uri=true&mode=rwc&password=secret"
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", "--storage", url, *ONE) == 0
    for name in ("report.html", "results.json", "results.csv"):
        text = Path("o", name).read_text()
        assert "secret" not in text[: text.find("plotly")] + text[-20_000:]
    assert "password=***" in Path("o/results.json").read_text()


def test_the_storage_comes_from_the_environment_too_and_its_password_is_not_shown(folder, monkeypatch, capsys):
    url = "sqlite:///file:other.db?uri=true&mode=rwc&password=secret"
    monkeypatch.setenv("STEEPEST_STORAGE", url)
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", *ONE) == 0
    assert Path("other.db").exists()
    assert not Path("o/study.db").exists()
    assert "secret" not in Path("o/results.json").read_text()
    monkeypatch.setenv("STEEPEST_STORAGE", "postgresql://me:secret@host:port/trial")
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", *ONE) == 2
    assert "***@host:port/trial" in capsys.readouterr().err
    assert run(monkeypatch, "compare", "--help") == 0
    assert "STEEPEST_STORAGE" in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--storage", "URL"], ["--storage=URL"]])
def test_the_line_after_ctrl_c_does_not_show_the_password(folder, monkeypatch, capsys, option):
    def stopped(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("steepest.compare.compare", stopped)
    given = [word.replace("URL", "postgresql://me:secret@host/trial?sslpassword=other") for word in option]
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", *given) == 130
    said = capsys.readouterr().err
    assert "to resume: steepest compare --task" in said
    assert "postgresql://me:***@host/trial?sslpassword=***" in said
    assert "secret" not in said


def test_the_folder_may_have_any_name_and_all_files_are_in_it(folder, monkeypatch, capsys):
    name = "what?x=1 p%41q #'{x}\udcff"
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", name, *ONE) == 0
    assert len(list(Path(name).iterdir())) == 5
    assert {path.name for path in Path().iterdir()} - {"__pycache__"} == {name, f"{folder}.py"}
    assert "Report: " in capsys.readouterr().out


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_what_a_task_prints_is_not_mixed_with_json(folder, monkeypatch, capfd, workers):
    source = Path(f"{folder}.py").read_text().replace("MODEL = lambda: nn.Linear(4, 3)", PRINTING)
    Path(f"{folder}.py").write_text("print('loaded')\n" + source)
    options = [*ONE[:-1], workers, "--json"]
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", *options) == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out)["task"] == "own"
    assert {"loaded", "printed", "written"} <= set(shown.err.split())


def test_the_results_table_has_one_row_a_run_and_the_costs_stand_apart(folder, monkeypatch):
    run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", *ONE)
    results, timing = (Path(f"o/{name}.csv").read_text().splitlines() for name in ("results", "timing"))
    assert len(results) == len(timing)
    assert sum(line.startswith("final,") for line in results) == 3
    assert "seconds_per_step" not in results[0]
    assert "seconds_per_step" in timing[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task", "digitz"], "Did you mean digits"),
        (["--task", "OWN:nothing"], "has no attribute 'nothing'"),
        (["--task", "no_such_module:task"], "No module named 'no_such_module'"),
        (["--task", "OWN:not_a_task"], "must be a steepest.tasks.Task"),
        (["--task", "OWN:vector_loss"], "loss must be a scalar"),
        (["--task", "OWN:nan_loss"], "loss must be finite"),
        (["--task", "OWN:wrong_shape"], "(16, 4)"),
        (["--optimizers", "adammw"], "Did you mean adamw"),
        (["--optimizers", "torch.optim:Nope"], "Nope"),
        (["--inits", "hee"], "Did you mean he"),
        (["--seeds", "2"], "seeds must be a whole number"),
        (["--steps", "0"], "steps must be a whole number >= 1"),
        (["--schedule", "cosin"], "Did you mean cosine"),
        (["--schedule", "OWN:nothing"], "has no attribute 'nothing'"),
        (["--warmup", "120%"], "warmup must be a whole number of steps, or a share of the run"),
        (["--warmup", "10", "--task", "OWN:task"], "warmup must be shorter than the run (got '10 of 10 steps')"),
        (["--gradient", "score-functio"], "Did you mean score-function"),
        (["--gradient", "score-function:sigmas=1"], "sigmas"),
        (["--gradient", "OWN:nothing"], "has no attribute 'nothing'"),
        (["--gradient", "score-function", "--evaluations", "49"], "evaluations must be enough for a step"),
        (["--steps", "5", "--evaluations", "5"], "steps or evaluations, not both"),
        (["--workers", "0"], "workers must be a whole number >= 1"),
        (["--baseline", "muon"], "baseline"),
        (["--storage", "sqlite:////no/such/folder/x.db"], "database"),
        (["--storage", "me:secret@host/trial"], "***@host/trial"),
        (["--out", "file/below"], "file"),
        (["--out", ""], "a folder must have a name"),
        (["--storage", ""], "must be a URL"),
        (["--optimizers", "sgd,,adamw"], "names separated by commas (got 'sgd,,adamw')"),
        (["--optimizers", ""], "names separated by commas"),
        (["--inits", " "], "--inits must be names"),
        (["--task", ""], "task"),
        (["--baseline", ""], "baseline"),
        (["--device", ""], "device"),
        (["--seeds", "nan"], "--seeds"),
        (["--workers", "2.5"], "--workers"),
        (["--run-timeout", "nan"], "run_timeout must be a time > 0"),
        (["--run-timeout", "inf"], "run_timeout must be a time > 0"),
        (["--run-timeout", "-3"], "run_timeout must be a time > 0"),
        (["--run-timeout", "soon"], "run_timeout must be a time > 0"),
        (["--no-such-option", "1"], "--no-such-option"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_writes_nothing(folder, monkeypatch, capsys, arguments, says):
    Path("file").write_text("somebody's")
    before = set(Path().rglob("*"))
    given = [argument.replace("OWN", folder) for argument in arguments]
    task = [] if "--task" in given else ["--task", f"{folder}:task"]
    out = [] if "--out" in given else ["--out", "o"]
    rest = [x for pair in zip(QUICK[::2], QUICK[1::2], strict=True) if pair[0] not in given for x in pair]
    assert run(monkeypatch, "compare", *task, *given, *out, *rest) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("steepest: ")
    assert says in shown.err
    after = {path for path in Path().rglob("*") if "__pycache__" not in str(path)}
    assert after == before
    assert Path("file").read_text() == "somebody's"


@pytest.mark.slow
def test_another_comparison_in_the_same_folder_uses_no_run_of_the_first_one_whose_runs_stay(
    folder, monkeypatch, capsys
):
    arguments = ["compare", "--task", f"{folder}:task", "--out", "o", *QUICK]
    assert run(monkeypatch, *arguments) == 0
    first, count = Path("o/results.csv").read_bytes(), len(finished("o/study.db"))
    assert run(monkeypatch, *arguments, "--steps", "5") == 0
    assert Path("o/results.csv").read_bytes() != first
    assert len(finished("o/study.db")) > 1.5 * count
    after = len(finished("o/study.db"))
    capsys.readouterr()
    assert run(monkeypatch, *arguments) == 0
    assert f"{count} finished runs" in capsys.readouterr().err
    assert Path("o/results.csv").read_bytes() == first
    assert len(finished("o/study.db")) == after


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the check of a file in the way runs for all")
def test_a_folder_without_write_permission_is_refused(folder, monkeypatch, capsys):
    Path("o").mkdir(mode=0o500)
    assert run(monkeypatch, "compare", "--task", f"{folder}:task", "--out", "o", *QUICK) == 2
    assert "writable" in capsys.readouterr().err


def test_version_and_help(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == __version__
    assert run(monkeypatch, "compare", "--help") == 0
    assert "--optimizers" in capsys.readouterr().out
    for command in ("train", "compare"):
        assert run(monkeypatch, command, "--help") == 0
        said = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
        assert "sigma=0.05,samples=20, or MODULE:ATTR or FILE.py:ATTR" in said


def finished(database):
    """Return the runs that a study holds as finished, with duplicates."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        if not connection.execute("SELECT name FROM sqlite_master WHERE name = 'trial_user_attributes'").fetchall():
            return []  # just being made
        rows = connection.execute(
            "SELECT t.number, p.param_name, p.param_value FROM trials t JOIN trial_params p USING (trial_id) "
            "WHERE t.state = 'COMPLETE' UNION ALL "
            "SELECT t.number, a.key, a.value_json FROM trials t JOIN trial_user_attributes a USING (trial_id) "
            "WHERE t.state = 'COMPLETE' AND a.key IN ('optimizer', 'init', 'identity')"
        ).fetchall()
    runs = {}
    for number, name, value in rows:
        runs.setdefault(number, {})[name] = value
    return [tuple(sorted(run.items())) for run in runs.values()]


def states(database):
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return {state for (state,) in connection.execute("SELECT state FROM trials")}


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
def test_killed_three_times_it_ends_with_the_same_bytes_and_repeats_and_loses_nothing(tmp_path):
    (tmp_path / "own.py").write_text(TASK.format(steps=150))
    arguments = ["compare", "--task", "own:task", "--optimizers", "sgd,adamw,muon", "--seeds", "4", "--rates", "5"]
    whole = start(*arguments, "--out", "whole", cwd=tmp_path)
    assert whole.wait(timeout=300) == 0
    database = tmp_path / "killed" / "study.db"
    moments = random.Random(0)
    seen = []
    for _ in range(3):
        process = start(*arguments, "--out", "killed", cwd=tmp_path)
        goal = len(seen) + moments.randint(3, 12)
        wait_until(lambda goal=goal: database.exists() and database.stat().st_size and len(finished(database)) >= goal)
        workers = children(process.pid)
        assert len(workers) >= 2
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        wait_until(lambda workers=workers: all(is_gone(pid) for pid in workers), seconds=20)
        now = finished(database)
        assert set(seen) <= set(now), "a finished run was lost"
        seen = now
    last = start(*arguments, "--out", "killed", cwd=tmp_path)
    assert last.wait(timeout=300) == 0
    assert set(seen) <= set(finished(database))
    assert len(finished(database)) == len(set(finished(database))), "a finished run was repeated"
    assert (tmp_path / "killed/results.csv").read_bytes() == (tmp_path / "whole/results.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path, workers):
    (tmp_path / "own.py").write_text(TASK.format(steps=150))
    process = start(
        "compare", "--task", "own:task", "--out", "o", "--workers", workers, cwd=tmp_path, output=subprocess.PIPE
    )
    database = tmp_path / "o" / "study.db"
    wait_until(lambda: database.exists() and database.stat().st_size and len(finished(database)) >= 3)
    processes = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the whole group
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out == ""
    *rounds, last = err.splitlines()
    assert all(line.startswith(("Price: ", "Tuning, round 1: ")) for line in rounds), err
    command = f"steepest compare --task own:task --out o --workers {workers}"
    assert last == f"Stopped. Finished runs are kept; to resume: {command}"
    wait_until(lambda: all(is_gone(pid) for pid in processes), seconds=20)
    assert not states(database) & {"RUNNING"}


@pytest.mark.slow
def test_after_an_edit_new_runs_are_made_and_it_says_what_differs(folder, monkeypatch, capsys):
    def lines(*options):
        sys.modules.pop(folder, None)
        assert (
            run(
                monkeypatch,
                "compare",
                "--task",
                f"{folder}:task",
                "--out",
                "o",
                *QUICK,
                "--optimizers",
                "sgd",
                *options,
            )
            == 0
        )
        table = Path("o/results.csv").read_text()
        said = capsys.readouterr().err.splitlines()
        return table, [line for line in said if "finished runs" in line and not line.startswith("Price: ")]

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before, none = lines()
    assert none == []
    again, said = lines()
    assert again == before
    assert [line.partition(" of ")[0] for line in said] == [f"{len(before.splitlines()) - 1} finished runs"]
    path = Path(f"{folder}.py")
    path.write_text(path.read_text().replace("metric=accuracy", "metric=lambda o, t: 2 * accuracy(o, t)"))
    edited, (line,) = lines()
    assert edited != before
    assert line.startswith(f"{folder}.py: task changed")
    assert "--accept-edits" in line
    path.write_text(path.read_text().replace("2 * accuracy", "3 * accuracy"))
    accepted, (line,) = lines("--accept-edits")
    assert accepted == edited
    assert "edits being accepted" in line


@pytest.mark.slow
def test_two_that_share_a_storage_share_the_runs_and_come_to_the_same_results(tmp_path):
    (tmp_path / "own.py").write_text(TASK.format(steps=150))
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    arguments = [
        "compare",
        "--task",
        "own:task",
        "--seeds",
        "4",
        "--rates",
        "5",
        "--workers",
        "1",
        "--storage",
        storage,
    ]
    both = [start(*arguments, "--out", out, cwd=tmp_path) for out in ("a", "b")]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    assert (tmp_path / "a/results.csv").read_bytes() == (tmp_path / "b/results.csv").read_bytes()
    runs = finished(tmp_path / "shared.db")
    assert len(runs) == len(set(runs)), "a run was made twice"
