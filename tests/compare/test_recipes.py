"""The recipes of docs/compare.md are run; those of Lightning and Transformers in tests/train/test_frameworks.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.recipes import blocks, read

from steepest.compare import Budget, compare

QUICK = Budget(rates=5, tuning_seeds=1, steps=4)
ALL = blocks()
ELSEWHERE = ("Recipes", "Lightning", "Transformers")


def trained(subject, optimizers=("sgd", "adamw"), budget=QUICK):
    found = compare(subject, optimizers, seeds=3, budget=budget, workers=1)
    histories = [history for cell in found.design.cells for history in found.final_histories(cell)]
    assert all(history.valid_loss[-1] != history.valid_loss[0] for history in histories)
    assert not any(history.diverged for history in histories)
    return found


def test_every_recipe_is_run():
    asked = ("Fine-tuning", "Texts of different lengths", "Transformers", "Lightning", "Weight decay groups")
    assert {*asked, "Clipping", "Warm-up", "Accumulation"} <= {*ALL}
    run = {"Fine-tuning", "Texts of different lengths", "Weight decay groups", "Clipping", "Warm-up", "Accumulation"}
    assert {*ALL} == run | {*ELSEWHERE}


@pytest.fixture(autouse=True)
def global_generator():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_fine_tuning_starts_from_the_trained_weights_and_leaves_the_frozen_ones():
    recipe = read("Recipes", "Fine-tuning")
    model = recipe["task"].build(seed=5)
    assert all(torch.equal(p, recipe["trained"][name]) for name, p in model.named_parameters())
    assert not model.get_parameter("0.weight").requires_grad
    trained(recipe["task"])


def test_texts_of_different_lengths_are_padded():
    recipe = read("Recipes", "Texts of different lengths")
    texts, labels = recipe["pad"]([recipe["Texts"]()[i] for i in range(5)])
    assert (texts.shape, labels.shape) == ((5, 7), (5,))
    trained(recipe["task"])


def test_weight_decay_groups_are_an_alternative():
    recipe = read("Recipes", "Clipping", "Weight decay groups")
    found = trained(recipe["task"], recipe["optimizers"])
    assert {cell.optimizer for cell in found.design.cells} == {"adamw", "adamw with groups"}


def test_gradients_are_clipped():
    recipe = read("Recipes", "Clipping")
    assert recipe["task"].clip_norm == 1.0
    trained(recipe["task"])


@pytest.mark.parametrize("name", ["budget", "own"])
def test_a_schedule_is_warmed_up(name):
    recipe = read("Recipes", "Clipping", "Warm-up")
    trained(recipe["task"], ["sgd"], replace(recipe[name], rates=5, tuning_seeds=1, steps=20))


def test_a_program_accumulates_gradients():
    found = trained(read("Recipes", "Accumulation")["run"])
    assert found.directions == {"accuracy": None}
