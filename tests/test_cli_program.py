"""`steepest compare --program`."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from steepest.cli import main

PROGRAM = """
import torch
from torch import nn

x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
y = x.sum(dim=1, keepdim=True)

def run(trial):
    torch.manual_seed(trial.seed)
    model = nn.Linear(3, 1)
    trial.initialize(model)
    optimizer = trial.optimizer(model)
    for step in range(1, (trial.steps or 4) + 1):
        batch = torch.randint(64, (8,))
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[batch]), y[batch]).backward()
        optimizer.step()
    loss = nn.functional.mse_loss(model(x), y)
    trial.report(step, loss=loss, closeness=1 / (1 + loss.item()))
"""
QUICK = ["--optimizers", "sgd", "--seeds", "3", "--quick", "--workers", "1"]


@pytest.fixture
def compared(tmp_path, monkeypatch, capsys):
    """A function that runs the command on a program of its own, and returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"program_{tmp_path.name}"
    Path(f"{name}.py").write_text(PROGRAM)

    def call(*options, of="run"):
        monkeypatch.setattr(sys, "argv", ["steepest", "compare", "--program", f"{name}:{of}", *QUICK, *options])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0, *capsys.readouterr()

    yield call
    sys.modules.pop(name, None)


def test_a_program_is_compared_and_its_results_are_written(compared):
    status, printed, _ = compared("--inits", "he,zero", "--steps", "6", "--rank-by", "max:closeness", "--workers", "2")
    assert status == 0
    folder = next(Path("runs").iterdir())
    assert f"Report: {folder}/report.html" in printed
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert {(row["optimizer"], row["init"]) for row in rows} == {("sgd", "he"), ("sgd", "zero")}
    assert all(
        float(row["final_valid_metric"]) == pytest.approx(1 / (1 + float(row["final_valid_loss"]))) for row in rows
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--task", "digits"), "--program must come without --task (got '--task digits'). Pass one of them."),
        (("--schedule", "cosine"), "no step of trial.scheduler(optimizer)"),
        (("--warmup", "1"), "no step of trial.scheduler(optimizer)"),
        (("--rank-by", "closeness"), "Pass --rank-by max:closeness"),
        (("--rank-by", "max:accuracy"), "must have the metric by which it is ranked, accuracy (got 'closeness')"),
    ],
)
def test_what_a_program_cannot_do_is_refused_in_one_line(compared, options, said):
    status, _, told = compared(*options, "--out", "o")
    assert status == 2
    assert said in told.splitlines()[-1]
