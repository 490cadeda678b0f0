"""What a user reads is run."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The reader's folder, with the files that the README has them write."""
    for block in BLOCK.finditer(README):
        if block["file"]:
            (tmp_path / block["file"]).write_text(block["code"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.mark.parametrize(
    "code", [block["code"] for block in BLOCK.finditer(README) if block["language"] == "python"], ids=range(7)
)
def test_python_blocks_run(mine, code):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_the_python_use_is_five_lines(mine):
    block = next(b["code"] for b in BLOCK.finditer(README) if "write(comparison" in b["code"])
    assert len([line for line in block.splitlines() if line.strip()]) <= 5


def test_a_script_of_20_lines_becomes_a_program_by_changing_at_most_six(tmp_path, monkeypatch, capsys):
    from steepest.compare import CANDIDATES
    from steepest.train import run_program

    lines = next(b["code"] for b in BLOCK.finditer(README) if b["language"] == "diff").splitlines()
    before, after = ([line[1:] for line in lines if line[:1] != mark] for mark in "+-")
    assert len(before) == 20
    assert max(sum(line[:1] == mark for line in lines) for mark in "+-") <= 6
    exec(compile("\n".join(before), "script.py", "exec"), {"__name__": "__main__"})
    printed = float(capsys.readouterr().out)
    (tmp_path / "script.py").write_text("\n".join(after))
    monkeypatch.syspath_prepend(tmp_path)
    program = importlib.import_module("script").main
    sys.modules.pop("script")
    assert run_program(program, CANDIDATES["adamw"].build, lr=1e-3, seed=0).valid_loss == [pytest.approx(printed)]


@pytest.mark.slow
def test_the_command_line_block_runs(mine):
    command = next(
        line
        for b in BLOCK.finditer(README)
        if b["language"] == "sh"
        for line in b["code"].splitlines()
        if line.startswith("steepest compare")
    )
    quick = ["--seeds", "3", "--steps", "5", "--rates", "5"]
    done = subprocess.run([sys.executable, "-m", *command.split(), *quick], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (mine / "runs/task/report.html").exists()


def test_make_knows_every_command_that_is_named():
    makefile = (ROOT / "Makefile").read_text()
    for document in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"`?make (\w+)`?", (ROOT / document).read_text()):
            if target in ("demo", "test", "bench", "docs", "format"):
                assert f"\n{target}:" in makefile


def test_files_that_are_linked_exist():
    for document in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / document).read_text()):
            assert (ROOT / link).exists(), f"{document} links to {link}"


def test_the_code_map_names_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path in (ROOT / "src/steepest").iterdir():
        if path.name not in ("__init__.py", "__main__.py", "_version.py", "py.typed", "__pycache__"):
            assert path.name in text, path
    for package in ("communication", "compare", "estimators", "implicit_bias", "linearize", "norms", "optim"):
        for path in (ROOT / "src/steepest" / package).glob("_[a-z]*.py"):
            assert path.name in text, path


@pytest.mark.slow
def test_the_example_trains(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    task = importlib.import_module("examples.own_task").task
    task.check()
    from steepest.compare import Budget, compare

    comparison = compare(task, ["adamw"], seeds=3, budget=Budget(rates=5, tuning_seeds=1, steps=15), workers=1)
    start, end = (
        comparison.final_histories(cell)[0].valid_loss[i] for cell in comparison.design.cells for i in (0, -1)
    )
    assert end < start


@pytest.mark.slow
def test_the_transformer_learns_with_muon_through_route(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    transformer = importlib.import_module("examples.transformer")
    before, after = transformer.train("muon", steps=40, lr=0.02)
    assert after < 0.7 * before
    qkv = transformer.routing(transformer.Transformer(10))["blocks.0.qkv.weight"].norm
    assert (type(qkv).__name__, qkv.parts) == ("Split", 3)
