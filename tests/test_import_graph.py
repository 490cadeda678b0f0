"""The house has a direction: imports run downwards only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import steepest

ROOT = Path(steepest.__file__).parent
FOUNDATION = {
    "errors",
    "_check",
    "_contained",
    "_shapes",
    "_figure",
    "_frozen",
    "_importing",
    "_random",
    "_schedule",
    "_schedules",
    "_series",
    "_sharding",
    "_version",
}
ALLOWED = {
    "norms": set(),
    "init": set(),
    "diagnose": set(),
    "tasks": set(),
    "linearize": set(),
    "optim": {"norms"},
    "implicit_bias": {"norms", "optim"},
    "train": {"diagnose", "init", "tasks"},
    "compare": {"train", "norms", "optim", "init", "linearize", "tasks", "diagnose"},
    "report": {"compare", "linearize"},
    "cli": {"compare", "implicit_bias", "linearize", "report", "tasks", "train"},
    "__main__": {"cli"},
    "__init__": set(),
    **{key: set() for key in FOUNDATION},
}
# A result can write its own page, and a room can be run as its command: imports that go up, made only when called.
UPWARDS = {("compare", "report"), ("implicit_bias", "cli")}


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Return (room, whether at the top of the module) of everything imported from steepest."""
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "steepest" and len(parts) > 1:
                yield parts[1], id(node) in top


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards_only(path):
    room = room_of(path)
    for imported, at_top in imports(path):
        if (room, imported) in UPWARDS:
            assert not at_top
        else:
            assert imported in ALLOWED[room] | FOUNDATION | {room}


def test_every_room_has_its_place_in_the_graph():
    assert {room_of(path) for path in ROOT.rglob("*.py")} == set(ALLOWED)


def test_importing_the_library_loads_nothing_that_only_a_trial_needs():
    modules = ["steepest", "steepest.optim", "steepest.implicit_bias", "steepest.linearize", "steepest.train"]
    names = ", ".join(modules)
    code = f"import sys, torch; before = set(sys.modules); import {names}; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {*modules} <= {*loaded}
    assert not {"optuna", "sklearn", "plotly", "scipy", "rich", "typer", "pandas"} & {*loaded}


def test_no_file_holds_more_than_400_lines():
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
