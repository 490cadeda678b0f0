"""The library of planted faults: a row is a sane recipe, one thing that is wrong with it, and the cause to be named.

A new fault is a new row; a new kind of fault is a function in plants.py besides. `check_faults.py` shows that a row
is what it claims to be: its symptom is there, and is not in its sane twin, the same row with nothing planted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.diagnose import plants
from tests.diagnose.runs import Recipe, Run, forked, make_parts, seed_of

RECIPE_PLANTS: dict[str, Callable[..., Recipe]] = {
    "deep_sigmoid": plants.network,
    "deep_plain": plants.network,
    "deep_tanh": plants.network,
}


@dataclass(frozen=True)
class Fault:
    """A fault to plant: where, what (a function in plants.py and its options), and what the diagnosis should be."""

    family: str
    size: str
    name: str
    cause: str
    plant: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        options = " ".join(f"{k}={v}" for k, v in [*self.plant.items(), *self.recipe.items()])
        return f"{self.cause}: {self.name} in {self.size} {self.family} ({options})"


def build(fault: Fault, split: str = "dev", seed: int = 0, planted: bool = True) -> Run:
    """The run of a row; planted=False: its sane twin, with the same seeds."""
    number = seed_of(fault.label, split, seed)
    with forked(number):
        recipe = Recipe(fault.family, fault.size, **fault.recipe)
        if planted and fault.name in RECIPE_PLANTS:
            recipe = RECIPE_PLANTS[fault.name](recipe, **fault.plant)
        parts = make_parts(recipe, split, number)
        if planted and fault.name not in RECIPE_PLANTS:
            getattr(plants, fault.name)(parts, **fault.plant)
        return parts.run(number)


def rows(cause: str, *given: tuple[Any, ...]) -> list[Fault]:
    """Rows of one cause from (family, size, name, options of the plant, the recipe)."""
    return [Fault(family, size, name, cause, plant, recipe) for family, size, name, plant, recipe in given]


def r(**options: Any) -> dict[str, Any]:
    """Options of a recipe or of a plant."""
    return options


MLP, CONV, TRANSFORMER, SMALL, LARGE = "mlp", "conv", "transformer", "small", "large"

FAULTS: list[Fault] = [
    *rows(
        "zero_gradients",
        (MLP, SMALL, "zero_weights", r(), r(optimizer="sgd")),
        (MLP, SMALL, "zero_weights", r(), r(task="mse", act="tanh")),
        (MLP, LARGE, "zero_weights", r(), r(optimizer="adamw", norm="batch", style="sequential")),
        (MLP, LARGE, "zero_weights", r(), r(optimizer="momentum", act="gelu", style="functional", bias=False)),
        (CONV, SMALL, "zero_weights", r(), r(optimizer="momentum")),
        (CONV, SMALL, "zero_weights", r(), r(task="bce", style="sequential", bias=False)),
        (CONV, LARGE, "zero_weights", r(), r(norm="batch", style="functional")),
        (CONV, LARGE, "zero_weights", r(), r(task="mse", optimizer="adamw")),
        (TRANSFORMER, SMALL, "zero_weights", r(), r(style="torch")),
        (TRANSFORMER, SMALL, "zero_weights", r(), r(task="class", optimizer="sgd")),
        (TRANSFORMER, LARGE, "zero_weights", r(), r(style="functional", act="gelu", optimizer="adamw")),
        (TRANSFORMER, LARGE, "zero_weights", r(), r(style="torch", dropout=0.1, bias=False)),
    ),
    *rows(
        "symmetric_units",
        (MLP, SMALL, "constant_weights", r(), r(optimizer="sgd")),
        (MLP, SMALL, "constant_weights", r(value=0.01), r(act="tanh", style="functional")),
        (MLP, SMALL, "copied_units", r(share=0.75), r(task="mse")),
        (MLP, LARGE, "constant_weights", r(), r(norm="batch", style="sequential")),
        (MLP, LARGE, "copied_units", r(groups=16), r(optimizer="momentum", task="bce")),
        (MLP, LARGE, "constant_weights", r(value=0.01), r(act="sigmoid", depth=2, lr=0.01)),
        (CONV, SMALL, "constant_weights", r(), r(task="bce")),
        (CONV, SMALL, "copied_units", r(share=0.75), r(optimizer="sgd", style="sequential")),
        (CONV, LARGE, "constant_weights", r(), r(optimizer="adamw", norm="batch")),
        (CONV, LARGE, "copied_units", r(share=0.625, which="middle"), r(style="functional")),
        (TRANSFORMER, SMALL, "constant_weights", r(value=0.02, bias=0.1), r(style="torch")),
        (TRANSFORMER, SMALL, "copied_units", r(share=0.75), r(optimizer="momentum")),
        (TRANSFORMER, LARGE, "constant_weights", r(bias=0.1, ends=False), r(task="class", optimizer="adamw")),
        (TRANSFORMER, LARGE, "copied_units", r(groups=2), r(act="gelu", style="functional")),
    ),
    *rows(
        "dead_units",
        (MLP, SMALL, "negative_bias", r(), r(optimizer="sgd")),
        (MLP, SMALL, "negative_weights", r(), r(task="mse", style="functional")),
        (MLP, SMALL, "negative_bias", r(value=30, which="first"), r(task="bce", style="sequential")),
        (MLP, LARGE, "negative_bias", r(value=10, which="middle", norm=True), r(norm="batch", optimizer="adamw")),
        (MLP, LARGE, "negative_bias", r(which="last"), r(optimizer="momentum")),
        (CONV, SMALL, "negative_bias", r(which="first"), r(optimizer="momentum")),
        (CONV, SMALL, "negative_weights", r(), r(style="sequential")),
        (CONV, LARGE, "negative_bias", r(value=10, norm=True), r(norm="batch", style="functional")),
        (CONV, LARGE, "negative_bias", r(value=50), r(task="mse", optimizer="adamw")),
        (TRANSFORMER, SMALL, "negative_bias", r(), r(style="torch")),
        (TRANSFORMER, SMALL, "negative_bias", r(value=30, which="last"), r(task="class", optimizer="sgd")),
        (TRANSFORMER, LARGE, "negative_bias", r(value=30), r(style="functional", act="gelu", optimizer="adamw")),
        (TRANSFORMER, LARGE, "negative_bias", r(), r(task="class", style="torch", optimizer="momentum")),
    ),
    *rows(
        "saturated_units",
        (MLP, SMALL, "scaled_weights", r(scale=50, which="hidden"), r(act="tanh", optimizer="sgd")),
        (MLP, SMALL, "scaled_inputs", r(scale=1000.0), r(act="tanh", task="mse", style="functional")),
        (MLP, SMALL, "scaled_weights", r(scale=200, which="hidden"), r(act="sigmoid", depth=2, lr=0.01)),
        (MLP, LARGE, "scaled_weights", r(scale=200, which="middle"), r(act="tanh", style="sequential")),
        (
            MLP,
            LARGE,
            "scaled_weights",
            r(scale=50, which="hidden"),
            r(act="tanh", task="mse", optimizer="adamw", depth=4),
        ),
        (CONV, SMALL, "scaled_inputs", r(scale=1000.0), r(act="tanh", optimizer="momentum")),
        (CONV, SMALL, "scaled_weights", r(scale=300, which="hidden"), r(act="sigmoid", depth=2, lr=0.01)),
        (CONV, LARGE, "scaled_weights", r(scale=100, which="middle"), r(act="tanh", style="functional")),
        (CONV, LARGE, "scaled_weights", r(scale=100, which="middle"), r(act="hardtanh", optimizer="sgd", task="mse")),
        (TRANSFORMER, SMALL, "scaled_weights", r(scale=200, which="hidden"), r(act="tanh", style="torch")),
        (TRANSFORMER, SMALL, "scaled_weights", r(scale=300, which="hidden"), r(act="sigmoid", optimizer="momentum")),
        (TRANSFORMER, LARGE, "scaled_weights", r(scale=200, which="hidden"), r(act="tanh", optimizer="adamw")),
        (TRANSFORMER, LARGE, "scaled_weights", r(scale=300, which="hidden"), r(act="sigmoid", task="class")),
    ),
    *rows(
        "vanishing_gradients",
        (MLP, SMALL, "deep_sigmoid", r(depth=10, act="sigmoid", init="default"), r(optimizer="sgd")),
        (MLP, SMALL, "scaled_weights", r(scale=0.02, biases=True), r(task="mse", optimizer="momentum")),
        (MLP, LARGE, "deep_plain", r(depth=24, init="default"), r(optimizer="momentum")),
        (MLP, LARGE, "scaled_weights", r(scale=0.05, biases=True), r(optimizer="sgd", style="functional")),
        (MLP, LARGE, "deep_sigmoid", r(depth=14, act="sigmoid", init="default"), r(task="bce", style="functional")),
        (CONV, SMALL, "deep_sigmoid", r(depth=10, act="sigmoid", init="default"), r(optimizer="momentum")),
        (CONV, SMALL, "scaled_weights", r(scale=0.02, biases=True), r(optimizer="sgd")),
        (CONV, LARGE, "deep_plain", r(depth=16, init="default"), r(optimizer="sgd")),
        (CONV, LARGE, "scaled_weights", r(scale=0.01, biases=True), r(style="sequential", task="mse")),
        (TRANSFORMER, SMALL, "deep_plain", r(depth=6, skip=False, norm="none"), r(optimizer="momentum")),
        (TRANSFORMER, SMALL, "deep_sigmoid", r(depth=6, act="sigmoid", skip=False, norm="none"), r(optimizer="adam")),
        (TRANSFORMER, LARGE, "deep_plain", r(depth=8, skip=False, norm="none"), r(act="gelu", optimizer="adamw")),
        (TRANSFORMER, LARGE, "deep_plain", r(depth=6, skip=False, norm="none"), r(task="class", optimizer="adamw")),
    ),
    *rows(
        "exploding_gradients",
        (MLP, SMALL, "scaled_weights", r(scale=10), r(optimizer="sgd")),
        (MLP, SMALL, "scaled_inputs", r(), r(task="mse", style="functional")),
        (MLP, LARGE, "scaled_weights", r(scale=4), r(optimizer="adamw", style="sequential")),
        (MLP, LARGE, "scaled_weights", r(scale=3), r(tied=True, depth=12, task="mse", optimizer="momentum")),
        (CONV, SMALL, "scaled_inputs", r(), r(optimizer="momentum")),
        (CONV, SMALL, "scaled_weights", r(scale=10), r(task="bce")),
        (CONV, LARGE, "scaled_weights", r(scale=5), r(optimizer="sgd", style="functional")),
        (CONV, LARGE, "scaled_weights", r(scale=4), r(tied=True, width=16, depth=9, optimizer="adamw")),
        (TRANSFORMER, SMALL, "scaled_weights", r(scale=10), r(norm="none", optimizer="momentum", lr=0.05)),
        (TRANSFORMER, SMALL, "scaled_inputs", r(), r(task="mse", norm="none")),
        (TRANSFORMER, LARGE, "scaled_weights", r(scale=8), r(norm="none", optimizer="adamw", lr=1e-3)),
        (TRANSFORMER, LARGE, "scaled_weights", r(scale=8), r(tied=True, norm="none", task="class", lr=1e-3)),
    ),
    *rows(
        "learning_rate_too_high",
        (MLP, SMALL, "learning_rate", r(factor=100), r(optimizer="sgd")),
        (MLP, SMALL, "learning_rate", r(factor=300), r(task="mse", act="tanh")),
        (MLP, SMALL, "learning_rate", r(factor=50), r(task="mse", optimizer="sgd", style="functional")),
        (MLP, LARGE, "learning_rate", r(factor=100), r(style="sequential", task="bce")),
        (MLP, LARGE, "learning_rate", r(factor=300), r(optimizer="adamw", style="functional")),
        (MLP, LARGE, "learning_rate", r(factor=1000), r(optimizer="momentum", norm="batch")),
        (CONV, SMALL, "learning_rate", r(factor=100), r(optimizer="momentum")),
        (CONV, SMALL, "learning_rate", r(factor=200), r(style="sequential")),
        (CONV, LARGE, "learning_rate", r(factor=100), r(optimizer="adamw")),
        (CONV, LARGE, "learning_rate", r(factor=60), r(optimizer="sgd", task="mse", style="functional")),
        (TRANSFORMER, SMALL, "learning_rate", r(factor=300), r(style="torch")),
        (TRANSFORMER, SMALL, "learning_rate", r(factor=300), r(optimizer="sgd")),
        (TRANSFORMER, LARGE, "learning_rate", r(factor=100), r(optimizer="adamw", act="gelu")),
        (TRANSFORMER, LARGE, "learning_rate", r(factor=300), r(optimizer="momentum", task="class")),
    ),
    *rows(
        "learning_rate_too_low",
        (MLP, SMALL, "learning_rate", r(factor=3e-4), r(optimizer="sgd")),
        (MLP, SMALL, "learning_rate", r(factor=1e-3), r(task="mse", act="tanh")),
        (MLP, LARGE, "learning_rate", r(factor=1e-3), r(optimizer="adamw", style="sequential")),
        (MLP, LARGE, "learning_rate", r(factor=1e-4), r(optimizer="momentum", norm="batch", style="functional")),
        (MLP, LARGE, "learning_rate", r(factor=1e-3), r(task="mse100", lr=0.01)),
        (CONV, SMALL, "learning_rate", r(factor=1e-3), r(optimizer="momentum")),
        (CONV, SMALL, "learning_rate", r(factor=1e-3), r(task="bce", style="sequential")),
        (CONV, LARGE, "learning_rate", r(factor=1e-3), r(optimizer="sgd", style="functional")),
        (CONV, LARGE, "learning_rate", r(factor=1e-3), r(norm="batch", optimizer="adamw")),
        (TRANSFORMER, SMALL, "learning_rate", r(factor=1e-3), r(style="torch")),
        (TRANSFORMER, SMALL, "learning_rate", r(factor=1e-3), r(optimizer="sgd")),
        (TRANSFORMER, LARGE, "learning_rate", r(factor=1e-3), r(optimizer="adamw", act="gelu")),
        (TRANSFORMER, LARGE, "learning_rate", r(factor=1e-3), r(optimizer="momentum", task="class")),
    ),
    *rows(
        "disconnected_parameters",
        (MLP, SMALL, "detach", r(place="features"), r(optimizer="sgd")),
        (MLP, SMALL, "layers_in_a_list", r(), r(task="mse")),
        (MLP, SMALL, "unused_branch", r(), r(task="bce")),
        (MLP, LARGE, "frozen", r(which="backbone"), r(optimizer="adamw")),
        (MLP, LARGE, "not_in_optimizer", r(which="backbone"), r(optimizer="momentum", style="sequential")),
        (MLP, LARGE, "detach", r(how="data"), r(task="mse", act="gelu", style="functional")),
        (CONV, SMALL, "detach", r(how="numpy"), r(optimizer="momentum")),
        (CONV, SMALL, "replaced_head", r(), r(style="sequential")),
        (CONV, LARGE, "not_in_optimizer", r(which="head"), r(norm="batch", optimizer="adamw")),
        (CONV, LARGE, "frozen", r(which="middle"), r(optimizer="sgd", style="functional")),
        (CONV, LARGE, "unused_branch", r(), r(task="mse")),
        (TRANSFORMER, SMALL, "detach", r(how="clone"), r(style="torch")),
        (TRANSFORMER, SMALL, "unused_branch", r(), r(optimizer="sgd")),
        (TRANSFORMER, SMALL, "replaced_head", r(), r(task="class")),
        (TRANSFORMER, LARGE, "frozen", r(which="backbone"), r(optimizer="adamw", dropout=0.1)),
        (TRANSFORMER, LARGE, "not_in_optimizer", r(which="backbone"), r(task="class", optimizer="momentum")),
    ),
    *rows(
        "non_finite",
        (MLP, SMALL, "nan_inputs", r(), r(optimizer="sgd")),
        (MLP, SMALL, "root_of_zero", r(), r(task="mse")),
        (MLP, SMALL, "naive_log_sigmoid", r(), r(task="bce", style="functional")),
        (MLP, LARGE, "log_of_zero", r(), r(optimizer="adamw")),
        (MLP, LARGE, "half_overflow", r(), r(task="mse", optimizer="momentum")),
        (MLP, LARGE, "nan_inputs", r(value=math.inf), r(task="mse", style="sequential")),
        (CONV, SMALL, "zero_deviation", r(), r(optimizer="momentum")),
        (CONV, SMALL, "divergence_of_one_hot", r(), r(style="sequential")),
        (CONV, LARGE, "nan_inputs", r(share=0.005), r(norm="batch", optimizer="adamw")),
        (CONV, LARGE, "mean_of_none", r(), r(optimizer="sgd", style="functional", batch=24)),
        (CONV, LARGE, "exponential_output", r(), r(task="mse")),
        (TRANSFORMER, SMALL, "mask_of_everything", r(), r(optimizer="sgd")),
        (TRANSFORMER, SMALL, "naive_softmax", r(), r(style="torch")),
        (TRANSFORMER, LARGE, "pair_distances", r(), r(task="class", optimizer="adamw")),
        (TRANSFORMER, LARGE, "divergence_of_one_hot", r(), r(act="gelu", optimizer="momentum")),
        (TRANSFORMER, LARGE, "half_overflow", r(place="middle"), r(style="torch", dropout=0.1)),
    ),
    *rows(
        "constant_output",
        (MLP, SMALL, "softmax_of_one", r(), r(task="mse", optimizer="sgd")),
        (MLP, SMALL, "saturated_output", r(bias=60.0), r(task="bce", lr=1e-3)),
        (MLP, SMALL, "zeroed", r(), r(style="sequential")),
        (MLP, LARGE, "batch_mean", r(), r(optimizer="momentum")),
        (MLP, LARGE, "clamped", r(low=100.0, high=200.0), r(task="mse", style="functional")),
        (MLP, LARGE, "norm_of_one", r(), r(task="mse", optimizer="adamw", act="gelu")),
        (CONV, SMALL, "integer_pixels", r(), r(init="default", optimizer="adamw")),
        (CONV, SMALL, "saturated_output", r(bias=60.0), r(task="bce", optimizer="momentum")),
        (CONV, LARGE, "zeroed", r(), r(norm="batch", optimizer="adamw")),
        (CONV, LARGE, "saturated_output", r(bias=-50.0, end="relu"), r(task="mse")),
        (CONV, LARGE, "softmax_of_one", r(), r(task="bce", style="sequential", optimizer="adamw")),
        (TRANSFORMER, SMALL, "batch_mean", r(), r(optimizer="momentum")),
        (TRANSFORMER, SMALL, "zeroed", r(place="input"), r(style="torch")),
        (TRANSFORMER, LARGE, "clamped", r(low=20.0, high=30.0), r(act="gelu", optimizer="adamw")),
        (TRANSFORMER, LARGE, "saturated_output", r(bias=-40.0, end="tanh"), r(task="mse", optimizer="sgd", lr=0.05)),
        (TRANSFORMER, LARGE, "zeroed", r(), r(task="class")),
    ),
    *rows(
        "data_unrelated_to_target",
        (MLP, SMALL, "shuffled_targets", r(), r(optimizer="sgd")),
        (MLP, SMALL, "random_targets", r(), r(task="mse", act="tanh", init="default", lr=1e-3, steps=100)),
        (MLP, SMALL, "stale_targets", r(), r(task="bce", style="sequential", lr=1e-3)),
        (MLP, LARGE, "noise_inputs", r(), r(optimizer="adamw", lr=1e-3)),
        (
            MLP,
            LARGE,
            "shuffled_targets",
            r(),
            r(optimizer="momentum", task="mse", style="functional", lr=2e-3, steps=100),
        ),
        (CONV, SMALL, "stale_targets", r(), r(optimizer="momentum")),
        (CONV, SMALL, "random_targets", r(), r(lr=1e-3)),
        (CONV, LARGE, "shuffled_targets", r(), r(task="mse", lr=1e-3)),
        (CONV, LARGE, "noise_inputs", r(), r(optimizer="adamw", lr=1e-3, style="functional")),
        (TRANSFORMER, SMALL, "shuffled_targets", r(), r(style="torch")),
        (TRANSFORMER, SMALL, "noise_inputs", r(), r(optimizer="sgd")),
        (TRANSFORMER, LARGE, "random_targets", r(), r(task="class", lr=1e-3)),
        (TRANSFORMER, LARGE, "stale_targets", r(), r(act="gelu", optimizer="adamw", lr=1e-3)),
    ),
]
