import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from steepest.compare import ALPHA, Cell, compare_pairs, mean_interval, more_seeds
from steepest.compare._result.statistics import _differences, _holm, _Median

DRAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails": lambda rng, n: rng.standard_t(3, size=n),
    "skewed": lambda rng, n: np.exp(rng.normal(size=n)),
    "with outliers": lambda rng, n: rng.normal(size=n) * np.where(rng.random(n) < 0.1, 10, 1),
}


def cells(count):
    return [Cell(f"optimizer{i}", "he") for i in range(count)]


def steps_like(rng, n):
    """Steps to a target on the grid of validations, missed in four runs of ten."""
    return np.where(rng.random(n) < 0.4, np.inf, 10.0 * rng.integers(10, 31, size=n))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_an_optimizer_against_itself_is_called_different_in_at_most_5_percent(draw, seeds):
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        losses = {cell: draw(rng, seeds) for cell in cells(2)}
        steps = {cell: steps_like(rng, seeds) for cell in losses}
        wrong += any(pair.better for pair in compare_pairs(losses, steps))
    assert wrong <= 0.05 * 200


@pytest.mark.slow
def test_the_bound_holds_for_a_whole_family_of_pairs():
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(60):
        losses = {cell: DRAWS["heavy tails"](rng, 10) for cell in cells(5)}
        steps = {cell: steps_like(rng, 10) for cell in losses}
        wrong += any(pair.better for pair in compare_pairs(losses, steps))
    assert wrong <= 0.05 * 60


def test_a_clear_difference_is_found_in_both_measures_and_has_the_right_sign():
    rng = np.random.default_rng(0)
    a, b = cells(2)
    shared = rng.normal(size=10)
    losses = {a: 1 + shared, b: 2 + shared + 0.1 * rng.normal(size=10)}
    steps = {a: np.full(10, 100.0), b: np.array([150.0] * 5 + [np.inf] * 5)}
    loss, step = compare_pairs(losses, steps)
    assert (loss.measure, loss.better) == ("loss", a)
    assert (step.measure, step.better) == ("steps", a)
    assert loss.interval.low < loss.interval.estimate < loss.interval.high < 0


def test_pairing_finds_what_unpaired_intervals_cannot():
    rng = np.random.default_rng(0)
    a, b = cells(2)
    hard = 5 * rng.normal(size=10)  # some seeds are hard for everybody
    losses = {a: hard, b: hard + 0.5 + 0.1 * rng.normal(size=10)}
    assert stats.ttest_ind(losses[a], losses[b]).pvalue > 0.5
    pair = compare_pairs(losses, {cell: [1.0] * 10 for cell in losses})[0]
    assert pair.better == a


def test_three_seeds_cannot_settle_steps_however_clear_they_look():
    a, b = cells(2)
    pairs = compare_pairs({a: [1.0, 2.0, 1.5], b: [1.1, 1.9, 1.6]}, {a: [10.0] * 3, b: [math.inf] * 3})
    assert all(pair.better is None for pair in pairs)


def test_two_missed_targets_are_a_tie_and_a_missed_one_is_infinitely_later():
    assert _differences([math.inf, 5.0, 7.0], [math.inf, math.inf, 4.0]) == [0.0, -math.inf, 3.0]
    median = _Median([-math.inf] * 6 + [0.0, 0.0, 1.0, 2.0])
    assert median.estimate == -math.inf
    assert median.interval(0.05).low == -math.inf


def test_an_interval_contains_students_t_and_the_bootstraps_percentiles():
    values = np.random.default_rng(3).exponential(size=10)
    interval = mean_interval(values.tolist())
    t = stats.t.interval(1 - ALPHA, 9, loc=values.mean(), scale=stats.sem(values))
    bootstrap = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    low, high = bootstrap.confidence_interval
    assert interval.low <= min(t[0], low * 1.001)
    assert interval.high >= max(t[1], high * 0.999)
    assert interval.estimate == pytest.approx(values.mean())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_decides_as_its_textbook_definition(p_values):
    levels = _holm(p_values)
    decided = [p <= level for p, level in zip(p_values, levels, strict=True)]
    expected = [False] * len(p_values)
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] > ALPHA / (len(p_values) - rank):
            break
        expected[i] = True
    assert decided == expected


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=12), st.sampled_from([0.05, 0.005]))
def test_more_seeds_is_the_first_size_with_enough_power(differences, alpha):
    values = np.asarray(differences)
    found = more_seeds(differences, alpha)
    n, mean, spread = len(values), abs(values.mean()), values.std(ddof=1)

    def enough(size):
        return mean * math.sqrt(size) >= spread * (stats.t.ppf(1 - alpha / 2, size - 1) + stats.t.ppf(0.8, size - 1))

    if found is None:
        assert mean == 0 or not enough(n + 1000)
    else:
        assert enough(n + found)
        assert found == 1 or not enough(n + found - 1)


def test_as_many_more_seeds_as_promised_do_settle_it_in_most_cases():
    rng = np.random.default_rng(5)
    a, b = cells(2)
    pilot = 0.5 + rng.normal(size=10)
    promised = more_seeds((pilot - pilot.mean()) / pilot.std(ddof=1) + 0.5, ALPHA / 2)
    assert promised is not None
    size = 10 + promised
    settled = 0
    for _ in range(60):
        losses = {a: rng.normal(size=size), b: np.zeros(size)}
        losses[a] += 0.5
        settled += compare_pairs(losses, {cell: [1.0] * size for cell in losses})[0].better == b
    assert settled >= 0.65 * 60  # 80% less three standard deviations of 60 tries


def test_runs_that_are_the_same_bit_for_bit_are_undecided():
    a, b = cells(2)
    losses = {a: [1.0, 2.0, 3.0], b: [1.0, 2.0, 3.0]}
    pairs = compare_pairs(losses, {cell: [5.0, 5.0, 5.0] for cell in losses})
    assert all(pair.better is None and pair.more_seeds is None for pair in pairs)
