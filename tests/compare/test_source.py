"""Which code is the user's, and what of it counts."""

import importlib.util
import json
import sys
import sysconfig
import types
from pathlib import Path

import numpy
import pytest
import torch

import steepest
from steepest.compare._identity.source import (
    code_digest,
    definitions,
    file_of,
    is_own_file,
    module_code,
    own_modules,
    reachable,
)

SOURCE = '''
"""A module."""
import os
from a.b import c as d
X = 1
Y, Z = 2, 3
W: int = 4
X += 1
V = U = 5
@decorate
def f(a, *, b=1):
    """A docstring."""
    return a + b  # a comment
class C(B):
    """Another."""
    k = 1
    def m(self): return self.k
if X:
    print(X)
if __name__ == "__main__":
    f(1)
'''


def test_every_definition_has_its_name():
    assert list(definitions(SOURCE)) == [
        "import os",
        "from a.b import c as d",
        "X",
        "statements",
        "W",
        "V, U",
        "function f",
        "class C",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A docstring.", "b"),
        ("Another.", "b"),
        ("A module.", "b"),
        ("# a comment", "# b"),
        ("def f(a, *, b=1):", "def f(\n    a,\n    *,\n    b=1,\n):"),
        ("    f(1)", "    f(2)"),
        ("X = 1\nY, Z = 2, 3", "Y, Z = 2, 3\nX = 1"),
        ("import os\nfrom a.b import c as d", "from a.b import c as d\nimport os"),
    ],
)
def test_what_does_not_count(old, new):
    assert old in SOURCE
    assert definitions(SOURCE.replace(old, new)) == definitions(SOURCE)


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("X = 1", "X = 2", "X"),
        ("X += 1", "X += 2", "X"),
        ("2, 3", "2, 4", "statements"),
        ("W: int = 4", "W: int = 5", "W"),
        ("V = U = 5", "V = U = 6", "V, U"),
        ("@decorate\n", "", "function f"),
        ("b=1", "b=2", "function f"),
        ("return a + b", "return a - b", "function f"),
        ("return a + b", "return b + a", "function f"),
        ("class C(B)", "class C(A)", "class C"),
        ("k = 1", "k = 2", "class C"),
        ("return self.k", "return -self.k", "class C"),
        ("print(X)", "print(-X)", "statements"),
        ("if X:", "if not X:", "statements"),
    ],
)
def test_what_counts_counts_for_its_definition_alone(old, new, name):
    before, after = definitions(SOURCE), definitions(SOURCE.replace(old, new, 1))
    assert {each for each in after if after[each] != before.get(each)} == {name}


def test_text_that_is_no_python_counts_as_it_stands():
    assert definitions("not python") == definitions("not python") != definitions("not python!")
    deep = f"x = {'-' * 3000}1"
    assert definitions(deep) != definitions(deep + "0")


def test_a_bad_escape_warns_nobody_again():
    definitions("x = '\\d'")


def code(text):
    variables = {}
    exec(compile(text, "<typed>", "exec"), variables)
    return variables["f"].__code__


@pytest.mark.parametrize(
    ("other", "alike"),
    [
        ("def f(a): return a + 1", True),
        ("\n\n\ndef f(a):\n    # why\n    return a + 1", True),
        ("def f(a): return a + 2", False),
        ("def f(a): return a - 1", False),
        ("def f(b): return b + 1", False),
        ("def f(a, b=1): return a + 1", False),
        ("def f(a, /): return a + 1", False),
        ("def f(*, a): return a + 1", False),
        ("def f(a): return g(a) + 1", False),
        ("def f(a): return (lambda: a)() + 1", False),
        ("def f(a):\n    try:\n        return a + 1\n    except E:\n        pass", False),
    ],
)
def test_code_objects_count_without_their_positions(other, alike):
    assert (code_digest(code("def f(a): return a + 1")) == code_digest(code(other))) == alike


def test_functions_in_functions_and_sets_count():
    def digest(text):
        return code_digest(code(text))

    assert digest("def f(a): return lambda: a + 1") != digest("def f(a): return lambda: a + 2")
    assert digest("def f(a): return a in {1, 2}") != digest("def f(a): return a in {1, 3}")
    assert digest("def f(a): return a in (1, (2, 3))") != digest("def f(a): return a in (1, (2, 4))")


@pytest.mark.parametrize(
    ("path", "own"),
    [
        (__file__, True),
        ("/home/me/project/mine.py", True),
        ("/home/me/project/.venv/lib/python3.12/site-packages/pkg/a.py", False),
        ("/usr/lib/python3/dist-packages/pkg/a.py", False),
        (json.__file__, False),
        (f"{sysconfig.get_paths()['stdlib']}/new.py", False),
        (torch.__file__, False),
        (steepest.__file__, False),
        (steepest.compare._design.__file__, False),
    ],
)
def test_the_users_own_files_are_told_from_others(path, own):
    assert is_own_file(path) == own


def test_own_modules_hold_neither_installed_nor_standard_ones_nor_the_script_nor_an_editors():
    names = own_modules()
    assert __name__ in names
    assert not {"json", "torch", "numpy", "steepest", "steepest.compare", "pytest", "__main__"} & set(names)


def test_an_editors_debugger_is_not_the_users(monkeypatch):
    for name in ("pydevd_file", "debugpy.x", "sitecustomize", "mine_file"):
        module = types.ModuleType(name)
        module.__file__ = f"/home/me/{name}.py"
        monkeypatch.setitem(sys.modules, name, module)
    assert "mine_file" in own_modules()
    assert not {"pydevd_file", "debugpy.x", "sitecustomize"} & set(own_modules())


def test_what_only_acts_as_a_module_has_no_file():
    assert file_of(torch.classes) is None
    assert file_of(None) is None
    assert file_of(numpy) == numpy.__file__


def load(path, name="mine"):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = """
X = 1

class A:
    @staticmethod
    def f():
        return X

    @property
    def g(self): return 1
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "mine.py"
    path.write_text(MODULE)
    return path


def test_a_module_that_was_edited_after_it_was_loaded_counts_as_it_was_loaded(file):
    module = load(file)
    fresh, edited = module_code([("mine", module)])
    assert (set(fresh), edited) == ({"mine.py: X", "mine.py: class A"}, [])
    for old, new in (("return X", "return -X"), ("return 1", "return 2")):
        text = file.read_text()
        file.write_text(text.replace(old, new))
        stale, edited = module_code([("mine", module)])
        assert (set(stale), edited) == (
            {"mine.py: function A.f as loaded", "mine.py: function A.g as loaded"},
            ["mine.py"],
        )
        file.write_text(text)
    file.write_text("# moved down\n" + file.read_text())
    assert module_code([("mine", module)]) == (fresh, [])
    file.unlink()
    gone, edited = module_code([("mine", module)])
    assert (gone, edited) == (stale, ["mine.py"])


def test_a_module_of_very_many_definitions_counts_as_a_whole(file):
    file.write_text("\n".join(f"def f{i}(): return {i}" for i in range(300)))
    before, _ = module_code([("mine", load(file))])
    assert list(before) == ["mine.py"]
    file.write_text(file.read_text().replace("return 299", "return 0"))
    assert module_code([("mine", load(file))])[0] != before


def test_of_an_extension_module_the_file_counts(tmp_path):
    module = types.ModuleType("fast")
    module.__file__ = str(tmp_path / "fast.so")
    Path(module.__file__).write_bytes(b"\x7fELF1")
    before, edited = module_code([("fast", module)])
    assert (list(before), edited) == (["fast.so"], [])
    Path(module.__file__).write_bytes(b"\x7fELF2")
    assert module_code([("fast", module)])[0] != before
    Path(module.__file__).unlink()
    assert module_code([("fast", module)])[0] == {"fast.so": "a file that is gone"}


def test_modules_are_reached_by_what_they_hold():
    names = ["top", "pkg", "pkg.a", "held", "late", "other"]
    modules = {name: types.ModuleType(name) for name in names}
    modules["top"].a = modules["pkg.a"]
    modules["pkg"].f = type("F", (), {"__module__": "held"})
    namespace = {"__name__": "held"}
    exec(compile("def g():\n    import late\n    return late", "held.py", "exec"), namespace)
    modules["held"].__file__ = "held.py"
    modules["held"].g = namespace["g"]
    assert reachable(["top"], modules, by_name=False) == {"top", "pkg.a", "pkg", "held"}
    assert reachable(["top"], modules, by_name=True) == {"top", "pkg.a", "pkg", "held", "late"}
    assert reachable(["nothing"], modules, by_name=True) == set()
