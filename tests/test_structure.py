"""What holds for all files of the library: their place in the graph of imports, their length, what they load."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import steepest

ROOT = Path(steepest.__file__).parent
CONTRACTS = tomllib.loads((ROOT.parent.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_every_package_and_every_foundation_file_has_its_place_in_the_contracts():
    named = " ".join(layer for contract in CONTRACTS for layer in contract.get("layers", [])).split()
    named += [name for contract in CONTRACTS for name in contract.get("source_modules", [])]
    here = {path.stem for path in ROOT.iterdir() if path.name not in ("__init__.py", "__main__.py", "__pycache__")}
    assert {f"steepest.{name}" for name in here - {"py", "_version"}} <= {*named}


def test_imports_are_absolute():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.ImportFrom) or node.level == 0, path


def test_importing_the_library_loads_nothing_that_only_a_trial_needs():
    packages = ["optim", "implicit_bias", "linearize", "communication", "estimators", "train"]
    modules = ["steepest", *(f"steepest.{package}" for package in packages)]
    names = ", ".join(modules)
    code = f"import sys, torch; before = set(sys.modules); import {names}; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {*modules} <= {*loaded}
    assert not {"optuna", "sklearn", "plotly", "scipy", "rich", "typer", "pandas", "msgspec", "torch._dynamo"} & {
        *loaded
    }


def test_no_file_holds_more_than_400_lines():
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_every_benchmark_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(ROOT.parent.parent)
    for path in sorted((ROOT.parent.parent / "benchmarks").glob("[a-z]*.py")):
        assert importlib.import_module(f"benchmarks.{path.stem}").__doc__, path
