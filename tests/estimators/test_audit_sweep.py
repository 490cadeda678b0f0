"""The audit on right estimators: no false alarms; and on the same ones times 1.02: all are rejected."""

import math

import pytest
import torch
from tests.estimators.planted.faults import times
from tests.estimators.planted.objectives import OBJECTIVES
from tests.estimators.planted.right import NAMES, SIGMAS, SIX, cases, right

from steepest.estimators import Pathwise, ScoreFunction, audit
from steepest.estimators._auditing.repetitions import Repetitions, flat
from steepest.estimators._auditing.watched import Watched
from steepest.estimators._space import Space

CASES = list(cases())
FAST = [
    ("score function, pairs", "quantized", 0.3),
    ("pathwise, pairs", "rosenbrock", 0.1),
    ("differences", "absolute", 0.3),
]


@pytest.mark.parametrize(
    ("name", "objective", "sigma"),
    [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case not in FAST)],
)
def test_right_estimators_are_unbiased_and_times_1_02_they_are_rejected(name, objective, sigma):
    f, x = OBJECTIVES[objective]
    found = audit(right(name, sigma), f, x, budget=400_000_000, seconds=120.0)
    assert found.fault is None, str(found)
    # Of about 1,000 z-scores of the sweep .06 are beyond 4 by chance.
    assert float(flat(found.z).abs().max()) < 4
    wrong = audit(times(right(name, sigma), 1.02), f, x, budget=400_000_000, seconds=120.0)
    assert wrong.fault not in (None, "undecided"), str(wrong)


@pytest.mark.slow
def test_of_a_thousand_audits_of_right_estimators_less_than_one_percent_see_a_fault():
    alarms, count = [], 0
    for seed in range(6):
        for name, objective, sigma in CASES:
            if name == "score function, no baseline":
                continue
            f, x = OBJECTIVES[objective]
            found = audit(right(name, sigma), f, x, torch.Generator().manual_seed(seed), seconds=120.0)
            count += 1
            if found.fault is not None:
                alarms.append((name, objective, sigma, seed, str(found)))
    assert count >= 1000
    assert len(alarms) < 0.01 * count, alarms


@pytest.mark.parametrize(
    ("name", "objective", "sigma"),
    [
        ("score function, pairs", "multimodal", 0.3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case[2] in (SIGMAS[0], SIGMAS[2])),
    ],
)
def test_standard_errors_agree_with_the_spread_of_2000_repetitions(name, objective, sigma):
    f, x = OBJECTIVES[objective]
    space = Space(x)
    source = right(name, sigma, 40)
    generator = torch.Generator().manual_seed(0)
    repetitions = Repetitions(source, Watched(f, space), x, space, generator, torch.ones(space.size).double())
    sums = repetitions.run(2000, errors=True)
    if repetitions.noiseless:
        return
    ratio, error = repetitions.error_ratio(sums)
    # Within 10%, but for what 2,000 repetitions of heavy tails can tell.
    assert abs(math.sqrt(ratio) - 1) < 0.1 + 2 * error


def test_all_estimators_and_objectives_are_in_the_sweep():
    assert {case[0] for case in CASES} == {*NAMES}
    assert {case[1] for case in CASES} == {*SIX}
    assert {type(right(name, 0.1)) for name in NAMES} > {Pathwise, ScoreFunction}
