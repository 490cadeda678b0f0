"""`steepest features`."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from steepest.cli import main
from steepest.linearize import Linearization
from steepest.tasks import curve

SMALL = ["--width", "5", "--depth", "1", "--steps", "3"]

OWN = """
import torch
from torch import nn
from steepest.tasks import Task

generator = torch.Generator().manual_seed(0)
x = torch.randn(30, 3, generator=generator)
y = x.sum(1, keepdim=True)
DATA = dict(train=(x, y), valid=(x[:10], y[:10]), batch_size=10, steps=6, loss=nn.functional.mse_loss)


class Noisy(nn.Linear):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(7, 4), nn.Linear(5, 3)

    def forward(self, words, sizes):
        return self.out(torch.cat([self.embedding(words).mean(1), sizes], 1))


words, sizes = torch.randint(7, (20, 6), generator=generator), torch.rand(20, 1, generator=generator)
named = Task(name="named", model=lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), **DATA)
zero = Task(name="zero", model=lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), init="zero", **DATA)
noisy = Task(model=lambda: Noisy(3, 1), **DATA)
wrong_shape = Task(model=lambda: nn.Linear(4, 1), **DATA)
classes = Task(
    name="words", model=Words, train=(words, sizes, words[:, 0] % 3), valid=(words, sizes, words[:, 0] % 3),
    batch_size=5, steps=4, loss=nn.functional.cross_entropy,
)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module with tasks, importable from the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"tasks_{tmp_path.name}"
    Path(f"{name}.py").write_text(OWN)
    return name


def run(monkeypatch, *arguments, page=False):
    """Run the command in this process; return its exit status. Drawing the page takes most of the time."""
    if not page:
        monkeypatch.setattr("steepest.report._write.write_features_page", lambda _, path, *__: path)
    monkeypatch.setattr(sys, "argv", ["steepest", "features", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0


def results(folder="o"):
    return json.loads(Path(folder, "results.json").read_text())


def test_it_prints_what_happened_and_writes_a_page_and_the_numbers(own, monkeypatch, capsys):
    assert run(monkeypatch, *SMALL, "--out", "o", page=True) == 0
    shown = capsys.readouterr()
    found = results()
    assert found["headline"] in shown.out
    assert "Page: o/features.html" in shown.out
    assert shown.err == "", "quiet where there is no terminal"
    assert {path.name for path in Path("o").iterdir()} == {"features.html", "results.json"}
    assert found["command"] == "steepest features --width 5 --depth 1 --steps 3 --out o"
    assert [each["step"] for each in found["snapshots"]] == [0, 1, 2, 3]


def test_the_start_is_the_tasks_own_network_in_float64(own, monkeypatch):
    run(monkeypatch, *SMALL, "--seed", "3", "--out", "o")
    found = results()
    task = curve(5, 1)
    x, y = (tensor.double() for tensor in task.train)
    linearization = Linearization(task.build(3).double(), x)
    start = found["snapshots"][0]
    svd = linearization.svd()
    assert found["precision"] == "float64"
    assert (found["rows"], found["features"]) == (200, 16)
    assert (start["rank"], start["threshold"]) == (svd.rank, svd.threshold)
    assert start["singular_values"] == svd.singular_values.tolist()
    assert start["kernel_change"] == 0
    assert start["target_alignment"] == linearization.alignment(y).value


def test_the_end_is_that_of_a_bare_loop_with_sgd(own, monkeypatch):
    run(monkeypatch, *SMALL, "--lr", "0.05", "--out", "o")
    task = curve(5, 1)
    model = task.build(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _, batch in zip(range(3), task.batches(torch.Generator().manual_seed(0)), strict=False):
        optimizer.zero_grad()
        task.training_loss(model, batch).backward()
        optimizer.step()
    assert results()["snapshots"][-1]["loss"] == task.evaluate(model)[0]
    singular = Linearization(model.double(), task.train[0].double()).svd().singular_values
    assert results()["snapshots"][-1]["singular_values"] == singular.tolist()


def test_json_is_all_that_is_printed_when_asked_for(own, monkeypatch, capsys):
    assert run(monkeypatch, *SMALL, "--out", "o", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == results()
    assert shown.err == ""


def test_the_same_seed_gives_the_same_numbers(own, monkeypatch):
    run(monkeypatch, *SMALL, "--out", "o")
    first = results()
    run(monkeypatch, *SMALL, "--out", "o")
    assert results() == first


def test_examples_are_spread_over_the_data(own, monkeypatch):
    run(monkeypatch, *SMALL, "--examples", "8", "--out", "o")
    x = curve(5, 1).train[0].double()[::25]
    svd = Linearization(curve(5, 1).build(0).double(), x).svd()
    assert results()["snapshots"][0]["singular_values"] == svd.singular_values.tolist()


def test_the_default_is_the_courses_net(own, monkeypatch):
    assert run(monkeypatch, "--steps", "1", "--examples", "5") == 0
    assert results("runs/curve")["features"] == 1761


@pytest.mark.slow
def test_the_page_of_the_courses_net_is_of_modest_size(own, monkeypatch):
    assert run(monkeypatch, "--steps", "15", "--out", "o", page=True) == 0
    assert Path("o/features.html").stat().st_size < 2.4e6


def test_digits_are_linearised_up_to_a_thousand_outputs_and_have_no_functions_of_x(own, monkeypatch):
    small = "--width", "6", "--depth", "1", "--steps", "2"
    assert run(monkeypatch, "--task", "digits", *small, "--out", "o", page=True) == 0
    found = results()
    assert (found["examples"], found["outputs"], found["rows"]) == (100, 10, 1000)
    assert all(0 < each["target_alignment"] < 1 for each in found["snapshots"])
    page = Path("o/features.html").read_text()
    assert 'data-figure="spectrum"' in page
    assert 'data-figure="change"' in page
    for figure in ("function", "principal-1", "layer-1-1", "learning"):
        assert f'data-figure="{figure}"' not in page


def test_an_own_task_has_its_own_model_steps_and_name(own, monkeypatch):
    assert run(monkeypatch, "--task", f"{own}:named") == 0
    found = results("runs/named")
    assert found["snapshots"][-1]["step"] == 6
    assert found["features"] == 21
    assert found["paths"] == dict.fromkeys(["0.weight", "0.bias", "2.weight", "2.bias"], "linear")


def test_inputs_may_be_words_and_several_and_targets_classes(own, monkeypatch):
    assert run(monkeypatch, "--task", f"{own}:classes", "--out", "o") == 0
    found = results()
    assert (found["examples"], found["outputs"], found["precision"]) == (20, 3, "float64")
    assert found["snapshots"][0]["target_alignment"] > 0


def test_a_network_that_starts_at_zero_has_one_feature_and_no_relative_change(own, monkeypatch):
    assert run(monkeypatch, "--task", f"{own}:zero", "--out", "o") == 0
    start, *_, end = results()["snapshots"]
    assert start["rank"] == 1
    assert end["rank"] == 1
    assert end["parameter_change"] is None


def test_a_run_that_diverges_shows_what_was_before(own, monkeypatch, capsys):
    assert run(monkeypatch, *SMALL, "--lr", "1e9", "--out", "o") == 0
    found = results()
    assert found["diverged"] is True
    assert all(math.isfinite(each["loss"]) for each in found["snapshots"])
    assert "diverged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--width", "0"], "width must be a whole number >= 1 (got 0)"),
        (["--depth", "-2"], "depth must be a whole number >= 1 (got -2)"),
        (["--steps", "-1"], "steps must be a whole number >= 1 (got -1)"),
        (["--lr", "0"], "lr must be a number in (0, inf) (got 0.0)"),
        (["--lr", "nan"], "lr must be a number in (0, inf) (got nan)"),
        (["--seed", "-1"], "seed must be a whole number >= 0 (got -1)"),
        (["--examples", "0"], "examples must be a whole number from 1 to 200 (got 0)"),
        (["--examples", "201"], "examples must be a whole number from 1 to 200 (got 201)"),
        (["--task", "curv"], "Did you mean curve"),
        (["--task", "OWN:nothing"], "has no attribute 'nothing'"),
        (["--task", "OWN:named", "--width", "3"], "width must be left out"),
        (["--task", "OWN:wrong_shape"], "(10, 3)"),
        (["--task", "OWN:noisy"], "the model must give the same outputs whenever it is called"),
        (["--out", "file"], "file"),
        (["--out", "file/below"], "file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_status_2_before_any_training(own, monkeypatch, capsys, arguments, says):
    def step(*_):
        raise AssertionError("a step was made")

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    Path("file").write_text("somebody's")
    before = {path for path in Path().rglob("*") if "__pycache__" not in str(path)}
    given = [argument.replace("OWN", own) for argument in arguments]
    rest = [] if "--task" in given else ["--steps", "3"] if "--steps" not in given else []
    out = [] if "--out" in given else ["--out", "o"]
    assert run(monkeypatch, *given, *rest, *out) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("steepest: ")
    assert says in shown.err
    assert {path for path in Path().rglob("*") if "__pycache__" not in str(path)} == before
    assert Path("file").read_text() == "somebody's"


def test_ctrl_c_ends_with_one_line_and_leaves_nothing(own, monkeypatch, capsys):
    def step(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    assert run(monkeypatch, *SMALL, "--out", "o") == 130
    assert capsys.readouterr().err == "Stopped; nothing was written.\n"
    assert not Path("o").exists()
