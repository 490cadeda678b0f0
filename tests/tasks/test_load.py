from __future__ import annotations

import sys

import pytest

from steepest._importing import load_attribute
from steepest.errors import ImportFailed, InvalidArgument, UnknownName
from steepest.tasks import TASKS, Task, curve, load

SOURCE = """
import torch
from torch import nn
from steepest.tasks import Task

x = torch.linspace(-1, 1, 20)[:, None]


def make(steps=7):
    return Task(model=lambda: nn.Linear(1, 1), loss=nn.functional.mse_loss, train=(x, x), valid=(x, x),
                batch_size=5, steps=steps, name="own")


class Box:
    task = make(steps=9)


task = make()
number = 3


def wrong():
    return "not a task"
"""


@pytest.fixture
def module(tmp_path, monkeypatch, request) -> str:
    """The name of a fresh module in the working folder, forgotten after the test."""
    name = f"own_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / f"{name}_broken.py").write_text("raise RuntimeError('no luck')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield name
    for loaded in (name, f"{name}_broken"):
        sys.modules.pop(loaded, None)


@pytest.mark.parametrize("name", ["digits", "curve"])
def test_a_built_in_task_is_found_by_name(name):
    assert load(name).name == name
    assert load(name).fingerprint() == TASKS[name]().fingerprint()


@pytest.mark.parametrize(("attribute", "steps"), [("task", 7), ("make", 7), ("Box.task", 9)])
def test_a_task_or_a_function_that_returns_one_is_found_in_the_working_folder(module, attribute, steps):
    task = load(f"{module}:{attribute}")
    assert isinstance(task, Task)
    assert (task.name, task.steps) == ("own", steps)


def test_the_working_folder_is_looked_at_once(module):
    load(f"{module}:task")
    length = len(sys.path)
    load(f"{module}:task")
    assert len(sys.path) == length


def test_an_attribute_of_an_installed_module_is_imported():
    assert load_attribute("steepest.tasks:curve") is curve
    assert load_attribute("steepest.tasks:Task.check") is Task.check


def test_an_unknown_task_is_refused_with_the_nearest_known_one():
    message = (
        r"no such task \(got 'digit'\). Did you mean digits\? "
        r"Known: digits, mnist5k, curve, or your own as module:attribute."
    )
    with pytest.raises(UnknownName, match=message):
        load("digit")


@pytest.mark.parametrize(("attribute", "kind"), [("number", "int"), ("wrong", "str"), ("Box", "Box")])
def test_what_is_not_a_task_is_refused(module, attribute, kind):
    message = rf"{module}:{attribute} must be a steepest.tasks.Task or a function that returns one \(got '{kind}'\)"
    with pytest.raises(InvalidArgument, match=message):
        load(f"{module}:{attribute}")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{module}_missing:task", "ModuleNotFoundError: No module named '{module}_missing'"),
        ("{module}:tusk", "AttributeError: .*tusk"),
        ("{module}:Box.tusk", "AttributeError: .*tusk"),
        ("{module}:", "AttributeError"),
        (":task", "ValueError: Empty module name"),
        ("{module}_broken:task", "RuntimeError: no luck"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_words_of_the_import(module, path, words):
    path, words = path.format(module=module), words.format(module=module)
    for function in (load, load_attribute):
        with pytest.raises(ImportFailed, match=rf"must be importable .* It said: {words}") as raised:
            function(path)
        assert raised.value.got == path
        assert raised.value.__cause__ is not None
