"""The library of planted faults against the rules, on data and seeds on which the rules were not tuned."""

from __future__ import annotations

import re

import pytest
from tests.diagnose.faults import FAULTS, build
from tests.diagnose.healthy import HEALTHY, build_healthy
from tests.diagnose.learning_rates import CASES, Case, sweep

from steepest.diagnose import CAUSES, Diagnosis, Monitor

SEED = 0


def diagnose(run) -> Diagnosis:
    with Monitor(run.model, run.optimizer, frozen=run.frozen) as monitor:
        run.train(monitor)
    return monitor.diagnosis()


def test_the_library_has_every_cause_in_every_family_and_size():
    causes = set(CAUSES) - {"healthy", "undetermined"}
    places = {(fault.cause, fault.family, fault.size) for fault in FAULTS}
    assert len(FAULTS) >= 72
    assert places == {(c, f, s) for c in causes for f in ("mlp", "conv", "transformer") for s in ("small", "large")}
    assert len(HEALTHY) >= 60


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mlp", "conv", "transformer"])
def test_planted_faults_are_named_in_19_of_20_cases(family):
    rows = [fault for fault in FAULTS if fault.family == family]
    wrong = {}
    for fault in rows:
        found = diagnose(build(fault, "held_out", SEED))
        assert found.evidence
        assert found.remedy
        if found.cause != fault.cause:
            wrong[fault.label] = found.cause
    assert len(wrong) <= 0.05 * len(rows), wrong


@pytest.mark.slow
def test_healthy_runs_are_called_healthy_in_98_of_100_cases():
    wrong = {}
    for name in HEALTHY:
        found = diagnose(build_healthy(name, "held_out", SEED))
        if found.cause != "healthy":
            wrong[name] = str(found)
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
