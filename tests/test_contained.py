"""A user's own code can neither end the program nor move it to another folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from steepest._contained import contained
from steepest._importing import load_attribute
from steepest.errors import ImportFailed, TaskError
from steepest.tasks import Task, load
from steepest.train import train

X = torch.linspace(-1, 1, 12)[:, None]


class Stop(BaseException):
    """Is no Exception, as KeyboardInterrupt is none."""


def task(**changes):
    return Task(
        **{
            "model": lambda: nn.Linear(1, 1),
            "loss": nn.functional.mse_loss,
            "train": (X, X),
            "valid": (X, X),
            "batch_size": 4,
            "steps": 3,
            **changes,
        }
    )


class Data(Dataset):
    def __init__(self, act):
        self.act = act

    def __len__(self):
        return 12

    def __getitem__(self, index):
        self.act()
        return X[index], X[index]


def parts(act):
    """A task for each piece of its code, which acts."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 1)

        def forward(self, x):
            act()
            return self.linear(x)

    return {
        "model": task(model=lambda: (act(), nn.Linear(1, 1))[1]),
        "forward": task(model=Net),
        "loss": task(loss=lambda output, target: (act(), nn.functional.mse_loss(output, target))[1]),
        "metric": task(metric=lambda *_: (act(), 1.0)[1]),
        "train": task(train=Data(act)),
        "valid": task(valid=Data(act)),
    }


def sgd(model, lr):
    return torch.optim.SGD(model.parameters(), lr)


def leave(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit(1), SystemExit(), Stop("now")], ids=repr)
@pytest.mark.parametrize("part", parts(None))
def test_what_would_end_the_program_is_an_error_of_the_task(part, error):
    made = parts(leave(error))[part]
    word = f"{type(error).__name__}" + (f": {error.args[0]}" if error.args else "")
    with pytest.raises(TaskError, match=rf"must not end the program \(got '{word}'\)"):
        made.check()
    with pytest.raises(TaskError, match=rf"must not end the program \(got '{word}'\)") as raised:
        train(made, sgd, "default", lr=0.1, seed=0)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("part", parts(None))
def test_ctrl_c_is_not_held_back(part):
    made = parts(leave(KeyboardInterrupt()))[part]
    with pytest.raises(KeyboardInterrupt):
        made.check()
    with pytest.raises(KeyboardInterrupt):
        train(made, sgd, "default", lr=0.1, seed=0)


def test_an_optimizer_an_init_and_an_observer_cannot_end_the_program_either():
    for options in ({"optimizer": lambda *_: sys.exit(0)}, {"observe": lambda *_: sys.exit(0)}):
        given = {"optimizer": sgd, "init": "he", "lr": 0.1, "seed": 0, **options}
        with pytest.raises(TaskError, match="must not end the program"):
            train(task(), **given)


@pytest.mark.parametrize("part", parts(None))
def test_the_working_folder_is_restored_after_a_run_and_a_check(part, tmp_path):
    (tmp_path / "data").mkdir()
    start = Path.cwd()
    made = parts(lambda: os.chdir(tmp_path / "data"))[part]
    made.check()
    assert Path.cwd() == start
    train(made, sgd, "default", lr=0.1, seed=0)
    assert Path.cwd() == start
    failing = parts(lambda: (os.chdir(tmp_path / "data"), 1 / 0))[part]
    with pytest.raises((TaskError, ZeroDivisionError)):
        failing.check()
    assert Path.cwd() == start


def test_a_folder_that_is_gone_is_no_error(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with contained("a task"):
        pass
    os.chdir(tmp_path)


@pytest.mark.parametrize("line", ["raise SystemExit(0)", "import sys; sys.exit('done')", "quit()"])
def test_a_module_that_ends_the_program_when_loaded_cannot_be_imported(tmp_path, monkeypatch, line):
    name = f"leaving_{abs(hash(line))}"
    (tmp_path / f"{name}.py").write_text(f"{line}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for function in (load, load_attribute):
        with pytest.raises(
            ImportFailed, match=rf"the module of {name}:task must not end the program \(got 'SystemExit"
        ):
            function(f"{name}:task")


def test_a_function_that_should_make_a_task_cannot_end_the_program(tmp_path, monkeypatch):
    (tmp_path / "leaving_function.py").write_text("import sys\ndef make(): sys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportFailed, match=r"the function leaving_function:make must not end the program"):
        load("leaving_function:make")
