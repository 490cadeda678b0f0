"""The library of planted faults against the rules, on data and seeds on which the rules were not tuned."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

import pytest
from tests.diagnose.faults import FAULTS, Fault, build
from tests.diagnose.healthy import HEALTHY, build_healthy
from tests.diagnose.learning_rates import CASES, Case, sweep
from tests.diagnose.runs import Run

from steepest.diagnose import CAUSES, Diagnosis, Monitor

SEED = 0
T = TypeVar("T")


# What is wrong from the first step on is seen in a few; where a run ends is not.
SLOWLY = {"learning_rate_too_high", "learning_rate_too_low", "data_unrelated_to_target"}


def diagnose(run: Run, steps: int | None = None) -> Diagnosis:
    run.steps = steps or run.steps
    with Monitor(run.model, run.optimizer, frozen=run.frozen) as monitor:
        run.train(monitor)
    return monitor.diagnosis()


def test_the_library_has_every_cause_in_every_family_and_size():
    causes = set(CAUSES) - {"healthy", "undetermined"}
    places = {(fault.cause, fault.family, fault.size) for fault in FAULTS}
    assert len(FAULTS) >= 72
    assert places == {(c, f, s) for c in causes for f in ("mlp", "conv", "transformer") for s in ("small", "large")}
    assert len(HEALTHY) >= 60


def third(rows: Iterable[T]) -> list[tuple[T, str]]:
    """Every third row, with one split and the other in turn."""
    return [(row, ("held_out", "dev")[i % 2]) for i, row in enumerate(list(rows)[::3])]


# Within a cause rows go from small perceptrons to large transformers; each cause begins at another of its first three.
CAUSES_OF_ROWS = list(dict.fromkeys(fault.cause for fault in FAULTS))
SOME_FAULTS = [
    chosen
    for i, cause in enumerate(CAUSES_OF_ROWS)
    for chosen in third([fault for fault in FAULTS if fault.cause == cause][i % 3 :])
]
SOME_HEALTHY = third(list(HEALTHY)[::3])


def test_the_third_that_is_run_often_is_spread_over_causes_sizes_families_and_splits():
    assert 3 * len(SOME_FAULTS) >= 0.9 * len(FAULTS)
    for cause in CAUSES_OF_ROWS:
        chosen = [(fault, split) for fault, split in SOME_FAULTS if fault.cause == cause]
        assert len(chosen) >= 4, cause
        assert {split for _, split in chosen} == {"dev", "held_out"}
        assert {fault.size for fault, _ in chosen} == {"small", "large"}
        assert len({fault.family for fault, _ in chosen}) >= 2, cause


def wrongly_named(chosen: Iterable[tuple[Fault, str]], steps: int | None = None) -> dict[str, str]:
    """What is said of the runs of which something else is said than what was planted."""
    wrong = {}
    for fault, split in chosen:
        found = diagnose(build(fault, split, SEED), steps)
        assert found.evidence
        assert found.remedy
        if found.cause != fault.cause:
            wrong[f"{split} {fault.label}"] = found.cause
    return wrong


def called_ill(chosen: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What is said of the healthy runs that are not called so."""
    found = {f"{split} {name}": diagnose(build_healthy(name, split, SEED)) for name, split in chosen}
    return {name: str(said) for name, said in found.items() if said.cause != "healthy"}


@pytest.mark.parametrize("cause", CAUSES_OF_ROWS)
def test_a_third_of_the_planted_faults_are_named(cause):
    chosen = [(fault, split) for fault, split in SOME_FAULTS if fault.cause == cause]
    assert wrongly_named(chosen, None if cause in SLOWLY else 25) == {}


def test_one_in_nine_of_the_healthy_runs_are_called_healthy():
    assert called_ill(SOME_HEALTHY) == {}


@pytest.mark.slow
@pytest.mark.parametrize("split", ["dev", "held_out"])
@pytest.mark.parametrize("family", ["mlp", "conv", "transformer"])
def test_planted_faults_are_named_in_19_of_20_cases(family, split):
    rows = [fault for fault in FAULTS if fault.family == family]
    wrong = wrongly_named((fault, split) for fault in rows)
    assert len(wrong) <= 0.05 * len(rows), wrong


@pytest.mark.slow
@pytest.mark.parametrize("split", ["dev", "held_out"])
def test_healthy_runs_are_called_healthy_in_98_of_100_cases(split):
    wrong = called_ill((name, split) for name in HEALTHY)
    assert len(wrong) <= 0.02 * len(HEALTHY), wrong


# All 31 are in `make bench`; these take seconds.
CHOSEN = [
    case
    for case in CASES
    if (case.family, case.optimizer) in {("mlp", "sgd"), ("mlp", "adam"), ("conv", "adamw"), ("transformer", "adam")}
    and case.size == "small"
]


@pytest.mark.slow
def test_suggested_learning_rates_are_within_a_factor_of_three_of_the_best():
    within = [ratio for case in CHOSEN for ratio in suggestions(case)]
    good = [ratio for ratio in within if 1 / 3 <= ratio <= 3]
    assert len(within) >= 1.5 * len(CHOSEN)
    assert len(good) >= 0.8 * len(within), sorted(within)


def suggestions(case: Case) -> list[float]:
    """Return suggested over best rate, for a run that is far too slow and one that is far too fast."""
    best = sweep(case, "held_out")["best"]
    found = []
    for factor in (1e-3, 100.0):
        said = diagnose(case.run(factor * best, seed=9, split="held_out"))
        if said.cause.startswith("learning_rate"):
            rate = re.search(r"learning rate of ([\d.e+-]+)", said.remedy)
            assert rate is not None
            found.append(float(rate[1]) / best)
    return found
