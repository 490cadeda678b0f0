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

BROKEN = """
def fail():
    raise RuntimeError('no luck')

fail()
"""


@pytest.fixture
def module(tmp_path, monkeypatch, request) -> str:
    """The name of a fresh module in the working folder, forgotten after the test."""
    name = f"own_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / f"{name}_broken.py").write_text(BROKEN)
    (tmp_path / f"{name}_syntax.py").write_text("x = 1\ny = = 2\n")
    (tmp_path / f"{name}_imports.py").write_text("import no_such_module\n")
    (tmp_path / f"{name}_torch.py").write_text(
        "import torch\nfrom torch import nn\n\ny = nn.Linear(2, 3)(torch.ones(4, 5))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield name
    for loaded in [loaded for loaded in sys.modules if name in loaded or f"{loaded}.".startswith("package.")]:
        sys.modules.pop(loaded)


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
        r"Known: digits, mnist5k, curve, or your own as module:attribute or file.py:attribute."
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
        (
            "{module}_missin:task",
            "ModuleNotFoundError: No module named '{module}_missin'.* Did you mean {module}:task",
        ),
        ("{module}:tusk", "module {module} has no attribute 'tusk'.* Did you mean task"),
        ("{module}:Box.tusk", "{module}:Box has no attribute 'tusk'.* Did you mean task"),
        ("{module}:", "module {module} has no attribute ''"),
        (":task", "no module.* Try mine:task"),
        ("{module}_broken:task", "{module}_broken.py, line 3: RuntimeError: no luck. It was raised by loading"),
        ("./{module}_broken.py:task", "{module}_broken.py, line 3: RuntimeError: no luck"),
        ("{module}_syntax:task", r"{module}_syntax.py, line 2: SyntaxError: "),
        ("{module}_imports:task", "{module}_imports.py, line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("{module}_torch:task", "{module}_torch.py, line 4: RuntimeError: mat1 and mat2"),
        ("./{module}.pyy:task", r"there is no such file \(got './{module}.pyy'\). Did you mean {module}.py"),
        ("nowhere/{module}.py:task", r"there is no such file \(got 'nowhere/{module}.py'\)"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_place_of_the_error_or_the_nearest_name(module, path, words):
    path, words = path.format(module=module), words.format(module=module)
    for function in (load, load_attribute):
        with pytest.raises(ImportFailed, match=words):
            function(path)


def test_an_error_of_a_function_that_makes_the_task_is_told_with_its_line(module, tmp_path):
    (tmp_path / f"{module}_late.py").write_text("def make():\n    raise KeyError('no luck')\n")
    with pytest.raises(ImportFailed, match=rf"{module}_late.py, line 2: KeyError: 'no luck'") as raised:
        load(f"{module}_late:make")
    assert isinstance(raised.value.__cause__, KeyError)
    (tmp_path / f"{module}_needs.py").write_text("def make(width): ...\n")
    with pytest.raises(ImportFailed, match=r"must load without an error \(got .*missing 1 required positional"):
        load(f"{module}_needs:make")


@pytest.mark.parametrize("spelling", ["{name}.py", "./{name}.py", "{folder}/{name}.py", "./{name}"])
def test_a_file_is_the_module_of_that_name(module, tmp_path, spelling):
    path = spelling.format(name=module, folder=tmp_path)
    assert load(f"{path}:task").name == "own"
    assert load_attribute(f"{path}:Box") is load_attribute(f"{module}:Box")


def test_a_file_in_another_folder_finds_its_neighbours_and_a_package_its_own(module, tmp_path):
    for folder in ("flat", "package/inner"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "flat" / f"{module}_beside.py").write_text("number = 5\n")
    (tmp_path / "flat" / f"{module}_flat.py").write_text(f"from {module}_beside import number\n")
    assert load_attribute(f"flat/{module}_flat.py:number") == 5
    for folder in ("package", "package/inner"):
        (tmp_path / folder / "__init__.py").write_text("number = 6\n")
    (tmp_path / "package/inner" / f"{module}_deep.py").write_text("from .. import number\n")
    assert load_attribute(f"package/inner/{module}_deep.py:number") == 6
    assert load_attribute(f"package.inner.{module}_deep:number") == 6


def test_a_file_with_the_name_of_another_module_is_refused(module, tmp_path):
    (tmp_path / "random.py").write_text("task = 3\n")
    with pytest.raises(ImportFailed, match=r"another module random.*Rename random.py: that name is taken"):
        load("./random.py:task")


@pytest.mark.parametrize(("name", "meant"), [("mine.task", "mine:task"), ("./mine.py", "./mine.py:task")])
def test_a_name_without_a_colon_is_refused_with_the_right_spelling(name, meant):
    with pytest.raises(UnknownName, match=f"or your own as {meant}."):
        load(name)
