"""What an installation without extras can do, and what it says of the rest."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from steepest._figure import figure
from steepest._importing import require
from steepest.errors import MissingExtra

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/steepest"
SOURCES = sorted(SOURCE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
BASE = {"torch", "numpy", "typing_extensions"}
IMPORTED_AS = {"scikit-learn": "sklearn"}
# Come with another package of the same extra: with jinja2.
BROUGHT_ALONG = {"markupsafe": "jinja2"}
# The packages whose import says what is missing, so that nothing inside of them has to.
SAYS_SO_ITSELF = ("compare", "report", "cli")


def packages_of(extra: str) -> set[str]:
    """What an extra brings, as it is imported, with what the extras in it bring."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        name, inner = re.match(r"([\w-]+)(?:\[([\w,-]+)\])?", requirement).groups()
        if name == "steepest":
            found.update(*map(packages_of, inner.split(",")))
        else:
            found.add(IMPORTED_AS.get(name, name))
    return found


OPTIONAL = packages_of("all")

LIBRARY = """
import sys, numpy, torch
before = {name.partition(".")[0] for name in sys.modules}
import steepest.diagnose, steepest.init, steepest.norms, steepest.optim
print(*{name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names)
"""
TRAINED = """
from torch import nn
model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
steepest.init.initialize(model, "orthogonal", generator=torch.Generator().manual_seed(0))
optimizer = steepest.optim.Muon([model[0].weight], lr=0.1)
before = model[0].weight.detach().clone()
with steepest.diagnose.Monitor(model, optimizer) as monitor:
    loss = model(torch.ones(4, 8)).square().sum()
    loss.backward()
    optimizer.step()
    monitor.record(0, loss)
step = model[0].weight.detach() - before
assert 0.05 < float(steepest.norms.Spectral(exact=True)(step)) < 0.2, step
"""
REFUSALS = """
import sys
from steepest.errors import MissingExtra
for package in ("steepest.compare", "steepest.report"):
    try:
        __import__(package)
    except MissingExtra as error:
        print(error)
sys.argv = ["steepest", "compare"]
import steepest.cli
steepest.cli.main()
"""
REFUSED = r"""steepest
steepest\.compare needs .*optuna.*, which are not installed\. Run pip install 'steepest\[compare\]'\.
steepest\.report needs .*plotly, which (is|are) not installed\. Run pip install 'steepest\[compare\]'\.
"""
COMMAND_REFUSED = (
    r"steepest: The command steepest needs typer, rich, which are not .* Run pip install 'steepest\[compare\]'\.\n"
)
BLIND = f"""
import importlib.machinery, sys
class Blind(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in {sorted(OPTIONAL - {"jinja2", "mpmath"})}:  # these two torch may load itself
            return super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Blind
"""


def in_python(code: str, *, interpreter: str | Path = sys.executable, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False, **options)


def test_without_extras_the_library_loads_torch_and_numpy_alone_and_the_rest_fails_with_the_line_to_install():
    done = in_python(BLIND + LIBRARY + REFUSALS)
    assert re.fullmatch(REFUSED, done.stdout), done.stdout + done.stderr
    assert re.fullmatch(COMMAND_REFUSED, done.stderr)
    assert done.returncode == 2


def distributions(name: str, found: set[str]) -> set[str]:
    """The distribution and what it requires itself."""
    if name not in found:
        found.add(name)
        for requirement in importlib.metadata.requires(name) or []:
            if ";" not in requirement:
                distributions(re.match(r"[\w.-]+", requirement)[0], found)
    return found


@pytest.mark.slow
def test_a_wheel_installed_without_extras_works_and_the_rest_fails_with_the_line_to_install(tmp_path):
    build = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    built = in_python(build, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    for name in {each.replace("_", "-").lower() for base in BASE for each in distributions(base, set())}:
        for top in {file.parts[0] for file in importlib.metadata.files(name)} - {"..", "__pycache__"}:
            (site / top).symlink_to(importlib.metadata.distribution(name).locate_file(top))
    # pip writes the command itself; here it is what its entry point says.
    with zipfile.ZipFile(tmp_path / built.stdout.split()[-1]) as wheel:
        wheel.extractall(site)
    python = tmp_path / "venv/bin/python"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    where = in_python("import steepest; print(steepest.__file__)", interpreter=python, env=clean, cwd=tmp_path)
    assert where.stdout.startswith(str(site)), where.stderr
    done = in_python(LIBRARY + TRAINED + REFUSALS, interpreter=python, env=clean, cwd=tmp_path)
    assert re.fullmatch(REFUSED, done.stdout), done.stdout + done.stderr
    assert re.fullmatch(COMMAND_REFUSED, done.stderr)
    command = [python, "-m", "steepest", "compare"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean, cwd=tmp_path)
    assert re.fullmatch(COMMAND_REFUSED, done.stderr)
    assert (done.returncode, done.stdout) == (2, "")


def test_the_library_loads_torch_and_numpy_alone_where_everything_is_installed():
    assert in_python(LIBRARY).stdout == "steepest\n"


def test_the_citation_has_the_version():
    assert f"\nversion: {importlib.metadata.version('steepest')}\n" in (ROOT / "CITATION.cff").read_text()


def test_a_plain_installation_brings_three_packages():
    assert {re.match(r"[\w-]+", requirement)[0] for requirement in PROJECT["dependencies"]} == BASE


def test_the_lowest_versions_that_are_tested_are_those_declared():
    declared = {
        *PROJECT["dependencies"],
        *(each for extra in EXTRAS if packages_of(extra) <= OPTIONAL for each in EXTRAS[extra]),
    }
    lowest = {each.replace(">=", "==") for each in declared if not each.startswith("steepest")}
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} == lowest


def top_names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return {node.module.partition(".")[0]}
    return {alias.name.partition(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()


def asked_for(node: ast.AST) -> set[str]:
    """The packages of all calls of require in a node whose extra brings them."""
    return {
        argument.value
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("require") and call.keywords
        for argument in call.args[1:]
        if argument.value in packages_of(call.keywords[0].value.value)
    }


def imported(node: ast.AST) -> set[str]:
    """What a node imports when it runs, the functions inside of it aside."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return set()
    inner = (child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.FunctionDef))
    return top_names(node).union(*map(imported, inner))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_what_an_extra_brings_is_asked_for_before_it_is_imported(path):
    ours = {"steepest", *BASE, *sys.stdlib_module_names}
    tree = ast.parse(path.read_text())
    package = path.relative_to(SOURCE).parts[0]
    first = SOURCE / package / "__init__.py"
    whole = asked_for(ast.parse(first.read_text())) if package in SAYS_SO_ITSELF else set()
    for scope in (tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))):
        needed = {BROUGHT_ALONG.get(name, name) for name in imported(scope)} - ours
        assert needed <= OPTIONAL
        assert needed <= whole | (asked_for(scope) if scope is not tree else set())


def test_a_figure_without_plotly_fails_with_the_line_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingExtra, match=r"^A figure needs plotly, .* Run pip install 'steepest\[plot\]'\.$"):
        figure("x", "y")


def test_several_missing_packages_are_named_together_and_those_that_are_there_are_not():
    with pytest.raises(MissingExtra, match=r"^This needs absent, missing, which are not installed\. "):
        require("This", "absent", "numpy", "missing", extra="all")
