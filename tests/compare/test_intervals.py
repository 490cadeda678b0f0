import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from steepest.compare import ALPHA, LOOKS, mean_interval, seeds_to_settle
from steepest.compare._result.intervals import bound_after


def test_the_interval_of_a_mean_is_students():
    values = np.random.default_rng(3).exponential(size=10)
    interval = mean_interval(values.tolist())
    low, high = stats.t.interval(1 - ALPHA, 9, loc=values.mean(), scale=stats.sem(values))
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((values.mean(), low, high))


@given(
    st.lists(st.integers(-40, 40).map(lambda n: n / 8), min_size=3, max_size=12),
    st.integers(2, 8),
    st.sampled_from([0, 0.5]),
)
def test_the_seeds_that_settle_it_are_the_first_look_with_enough_power(differences, alternatives, margin):
    found = seeds_to_settle(differences, alternatives, margin=margin)
    mean, spread = np.mean(differences) + margin, np.std(differences, ddof=1)

    def excess(n):
        level = ALPHA / (sum(look < n for look in LOOKS) + 1) / (alternatives - 1)
        needed = spread * (stats.t.ppf(1 - level, n - 1) + stats.t.ppf(0.8, n - 1))
        return mean * math.sqrt(n) - needed if mean > 0 else -math.inf

    sizes = [n for n in (*LOOKS, *range(100, 1001, 50)) if n > len(differences)]
    for n in sizes if found is None else sizes[: sizes.index(found)]:
        assert excess(n) < 1e-9
    assert found is None or excess(found) > -1e-9


def test_as_many_seeds_as_promised_do_settle_it_in_most_cases():
    rng = np.random.default_rng(5)
    pilot = rng.normal(size=10)
    promised = seeds_to_settle((pilot - pilot.mean()) / pilot.std(ddof=1) + 0.7, 2)
    assert promised is not None
    settled = sum(bound_after(0.7 + rng.normal(size=promised), 2, promised) < 0 for _ in range(200))
    assert settled >= 0.72 * 200  # 80% less three standard deviations of 200 tries


def test_the_bound_after_the_seeds_that_were_run_is_that_of_the_looks():
    from steepest.compare import Sequential, analyse

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=20), rng.normal(size=20)
    found = analyse({"a": a, "b": b}, Sequential(looks=(5, 10, 20)))
    alone = bound_after(b - a, 2, 20)
    assert found.upper["a", "b"] <= alone + 1e-12


@pytest.mark.parametrize("values", [[1.0], [1.0, math.nan], "xy", [[1.0, 2.0]]])
def test_fewer_than_two_finite_numbers_are_refused(values):
    with pytest.raises(ValueError, match="at least two finite numbers"):
        mean_interval(values)
