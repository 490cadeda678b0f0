"""The examples of estimators."""

import importlib
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"examples.{name}")


def test_the_inventory_is_controlled_nearly_as_well_as_by_the_best_levels(example):
    black_box = example("black_box")
    found = black_box.train(steps=100).round()
    fresh = black_box.days(torch.Generator().manual_seed(1), 2000)
    start, end, best = black_box.cost(torch.stack([torch.tensor([5.0, 15.0]), found, torch.tensor([7.0, 30.0])]), fresh)
    assert end < start - 7
    assert end < best + 0.5


@pytest.mark.slow
def test_the_questions_are_printed_and_drawn(example, tmp_path, capsys):
    page = tmp_path / "page.html"
    example("estimator_questions").main(page)
    printed = capsys.readouterr().out
    assert "backpropagation: 100%, 0.0%" in printed
    assert page.read_text().count("plotly-graph-div") >= 6
