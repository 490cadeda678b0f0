"""What the package shows to the outside: every public name is there, in order, and explained."""

from __future__ import annotations

import ast
import importlib
import inspect
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import steepest

ROOT = Path(steepest.__file__).parent
PUBLIC = ["steepest", *sorted(
    f"steepest.{path.stem}"
    for path in ROOT.iterdir()
    if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").exists())
)]  # fmt: skip
PACKAGES = [name for name in PUBLIC[1:] if (ROOT / name.removeprefix("steepest.")).is_dir()]
ALL = sorted(
    ".".join(("steepest", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.name not in ("__main__.py", "_version.py")
)


def by_kind(name: str) -> tuple[int, str]:
    """CONSTANTS first, then Classes, then functions; each kind by its letters."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def explained_constants(module: ModuleType) -> set[str]:
    """The names whose assignment is followed by a string that explains them."""
    body = ast.parse(inspect.getsource(module)).body
    explained = set()
    for statement, follower in pairwise(body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        is_text = isinstance(follower, ast.Expr) and isinstance(follower.value, ast.Constant)
        if is_text and isinstance(follower.value.value, str):
            explained |= {target.id for target in targets if isinstance(target, ast.Name)}
    return explained


def home_of_constant(name: str, package: str) -> ModuleType:
    """The private module of a package that defines a constant."""
    for candidate in ALL:
        if candidate.startswith(package):
            module = importlib.import_module(candidate)
            tree = ast.parse(inspect.getsource(module)).body
            assigned = [s for s in tree if isinstance(s, (ast.Assign, ast.AnnAssign))]
            targets = [t for s in assigned for t in (s.targets if isinstance(s, ast.Assign) else [s.target])]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return module
    raise LookupError(f"{package} exports {name}, which none of its modules defines")


@pytest.mark.parametrize("name", ALL)
def test_every_module_explains_itself_and_lists_its_names_in_order(name):
    module = importlib.import_module(name)
    assert module.__doc__
    exported = getattr(module, "__all__", None)
    if exported is None:  # the file of a private sub-package that consists of its modules
        assert len(ast.parse(inspect.getsource(module)).body) == 1
        return
    assert sorted(set(exported), key=by_kind) == exported
    assert [missing for missing in exported if not hasattr(module, missing)] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_explained(name):
    module = importlib.import_module(name)
    unexplained = []
    for public in module.__all__:
        value = getattr(module, public)
        if public == "__version__":
            continue
        if inspect.isclass(value) or inspect.isroutine(value):
            explained = bool(value.__doc__) and not value.__doc__.startswith(f"{public}(")  # dataclass's own text
        else:
            explained = public in explained_constants(home_of_constant(public, name))
        if not explained:
            unexplained.append(public)
    assert unexplained == []


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_method_is_explained(name):
    module = importlib.import_module(name)
    unexplained = [
        f"{public}.{method}"
        for public in module.__all__
        if inspect.isclass(getattr(module, public))
        for method, value in vars(getattr(module, public)).items()
        if not method.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
        if not inspect.getdoc(getattr(getattr(module, public), method))
    ]
    assert unexplained == []


def test_the_packages_and_their_public_doors_are_known():
    packages = [
        "norms",
        "optim",
        "init",
        "diagnose",
        "implicit_bias",
        "communication",
        "estimators",
        "linearize",
        "tasks",
        "train",
        "features",
        "compare",
        "report",
    ]
    assert {"steepest", "steepest.errors", *(f"steepest.{package}" for package in packages)} <= set(PUBLIC)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_room_shows_at_its_door_nothing_else_by_name(name):
    module = importlib.import_module(name)
    shown = {key for key, value in vars(module).items() if not key.startswith("_") and not inspect.ismodule(value)}
    assert shown <= set(module.__all__)


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert steepest.__version__ == version("steepest")
