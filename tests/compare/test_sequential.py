"""The statistics of a trial against an obvious reference, and their error rates by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from steepest.compare import ALPHA, Margin, Sequential, analyse


def reference(values, plan):
    """The rules of docs/compare.md, one after the other, with scipy's t and loops."""
    names, looks = list(values), plan.looks
    k, levels = len(names), len(plan.looks)
    active, eliminated = list(names), {}
    upper = {(i, j): math.inf for i in names for j in names if i != j}
    q = dict.fromkeys(itertools.combinations(names, 2), (1.0, None))
    choice, margin, regret, look = None, 0.0, math.inf, 0
    for n in looks:
        if any(len(values[i]) < n for i in active):
            break
        look = n
        for i, j in itertools.permutations(active, 2):
            d = np.array(values[i][:n]) - np.array(values[j][:n])
            if n < 20 and len(set(d)) < 3:
                continue
            mean, se = d.mean(), d.std(ddof=1) / math.sqrt(n)
            upper[i, j] = min(upper[i, j], mean + stats.t.ppf(1 - ALPHA / levels / (k - 1), n - 1) * se)
            if (i, j) in q:
                p = min(1.0, levels * 2 * stats.t.sf(abs(mean) / se, n - 1))
                q[i, j] = min(q[i, j], (p, i if mean < 0 else j), key=lambda pair: pair[0])
        for i in active:
            if any(upper[j, i] < 0 for j in active if j != i):
                eliminated[i] = n
        active = [i for i in active if i not in eliminated]
        choice = min(active, key=lambda i: np.mean(values[i][:n]))
        mean = np.mean(values[choice][:n])
        if plan.margin is not None:
            margin = plan.margin.amount * (abs(mean) if plan.margin.relative else 1)
        regret = max([0.0, *(upper[choice, i] for i in active if i != choice)])
        if regret <= margin:
            break
    beats, alive = {}, True
    for rank, pair in enumerate(sorted(q, key=lambda pair: q[pair][0])):
        alive = alive and q[pair][0] <= ALPHA / (len(q) - rank)
        beats[pair] = q[pair][1] if alive else None
    same = {i for i in active if i != choice and upper[choice, i] < margin and upper[i, choice] < margin}
    return look, eliminated, choice, regret, same, beats, upper


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 5), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([None, 0.3, "20%"]))
def test_the_looks_are_those_of_the_rules_one_by_one(seed, count, spread, margin):
    rng = np.random.default_rng(seed)
    plan = Sequential(max_seeds=int(rng.integers(5, 60)), margin=margin)
    shared = rng.normal(size=plan.max_seeds)
    values = {
        f"a{i}": list(10 + shared + rng.normal(size=plan.max_seeds) + spread * rng.random()) for i in range(count)
    }
    found = analyse(values, plan)
    look, eliminated, choice, regret, same, beats, upper = reference(values, plan)
    assert (found.look, dict(found.eliminated), found.choice, set(found.same)) == (look, eliminated, choice, same)
    assert found.regret == pytest.approx(regret, rel=1e-9, abs=1e-12)
    assert {(d.a, d.b): d.better for d in found.differences} == beats
    assert all(found.upper[pair] == pytest.approx(upper[pair], rel=1e-9, abs=1e-12) for pair in upper)


def normal(rng, count, n):
    return rng.normal(size=(count, n)) / math.sqrt(2)  # so that a paired difference has the spread 1


def student(rng, count, n):
    return rng.standard_t(3, size=(count, n)) / math.sqrt(6)


def lognormal(rng, count, n):
    return rng.lognormal(0, 0.5, size=(count, n))


def ties(rng, count, n):
    return np.round(2 * rng.normal(size=(count, n)))


def simulate(draw, means, plan, trials, seed=0):
    """Return the share of trials with any wrong statement, that of decided ones, and seeds per alternative."""
    rng = np.random.default_rng(seed)
    means = np.asarray(means, dtype=float)
    wrong, decided, seeds = 0, 0, 0.0
    for _ in range(trials):
        drawn = draw(rng, len(means), plan.max_seeds) + means[:, None]
        found = analyse(dict(enumerate(drawn)), plan)
        others = {d.better: d.b if d.better == d.a else d.a for d in found.differences if d.better is not None}
        beats = any(means[better] >= means[worse] for better, worse in others.items())
        regret = means[found.choice] - means.min() > found.regret
        same = any(abs(means[i] - means[found.choice]) > found.margin for i in found.same)
        wrong += beats or regret or same
        decided += found.regret <= found.margin
        seeds += sum(found.seeds.values()) / len(means)
    return wrong / trials, decided / trials, seeds / trials


@pytest.mark.parametrize("draw", [normal, student, lognormal, ties], ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("count", [2, 5])
def test_at_most_one_trial_in_twenty_says_anything_wrong(draw, count):
    trials = 400
    wrong, _, _ = simulate(draw, [0.0] * count, Sequential(max_seeds=80, margin=0.3), trials)
    assert wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize(
    ("means", "margin", "seeds", "spread"),
    [
        ([0, 1], None, 12.8, 6.0),
        ([0, 1, 1, 1, 1], None, 19.3, 5.0),
        ([0, 2], None, 6.4, 2.5),
        ([0, 0], 0.5, 19.5, 11.0),
    ],
    ids=["1 sd of two", "1 sd of five", "2 sd of two", "equal, margin .5 sd"],
)
def test_a_difference_is_decided_after_as_many_seeds_as_known(means, margin, seeds, spread):
    trials = 300
    _, decided, found = simulate(normal, means, Sequential(max_seeds=80, margin=margin), trials)
    assert decided >= 0.98
    assert abs(found - seeds) <= 3 * spread / math.sqrt(trials)


def test_five_equal_differences_say_nothing_and_twenty_do():
    one = np.random.default_rng(0).normal(size=20)
    for n, regret in ((5, math.inf), (10, math.inf), (20, 0.0)):
        found = analyse({"a": one[:n], "b": one[:n] + 1}, Sequential(looks=(n,)))
        assert found.regret == regret
        assert found.differences[0].better == (None if n < 20 else "a")


def test_two_that_do_not_depend_on_the_seed_say_nothing_at_any_number_of_seeds():
    found = analyse({"a": [1.0] * 40, "b": [2.0] * 40}, Sequential(looks=(40,)))
    assert found.differences[0].seedless
    assert (found.differences[0].better, found.differences[0].p, found.regret) == (None, 1.0, math.inf)


def test_relative_differences_below_a_millionth_are_ties():
    one = np.random.default_rng(0).normal(size=20)
    found = analyse({"a": one, "b": one * (1 + 9e-7)}, Sequential(looks=(20,)))
    assert (found.differences[0].estimate, found.differences[0].better, found.regret) == (0.0, None, 0.0)


def test_an_eliminated_alternative_gets_no_more_seeds_and_its_bounds_stay():
    rng = np.random.default_rng(1)
    values = {"a": rng.normal(size=20), "b": rng.normal(size=20), "c": 50 + rng.normal(size=5)}
    found = analyse(values, Sequential(max_seeds=20))
    assert dict(found.eliminated) == {"c": 5}
    assert dict(found.seeds) == {"a": 20, "b": 20, "c": 5}
    first = analyse({name: each[:5] for name, each in values.items()}, Sequential(max_seeds=20))
    assert first.needed == ("a", "b")
    assert first.next_look == 10
    assert first.upper["a", "c"] == found.upper["a", "c"]


def test_another_alternative_makes_another_plan_in_which_an_elimination_may_not_hold():
    noise = np.array([-1.0, -0.5, 0.0, 0.4, 1.1])
    values = {"a": noise, "b": noise + 1 + 0.7 * noise[::-1]}
    plan = Sequential(looks=(5, 10))
    assert "b" in analyse(values, plan).eliminated
    more = {**values, **{f"c{i}": noise + 0.9 * np.roll(noise, i) for i in range(1, 5)}}
    assert "b" not in analyse(more, plan).eliminated


def test_a_look_counts_only_when_all_that_are_left_have_their_seeds():
    rng = np.random.default_rng(0)
    found = analyse({"a": rng.normal(size=12), "b": rng.normal(size=9)}, Sequential(max_seeds=20))
    assert (found.look, found.needed, found.next_look) == (5, ("a", "b"), 10)


def test_until_same_goes_on_and_what_is_the_same_gets_no_more_seeds():
    noise = np.resize([0.6, -0.5, 0.4, -0.6, 0.5, -0.1], 80)
    rng = np.random.default_rng(0)
    values = {
        "a": 10 + rng.normal(size=80),
        "same": np.zeros(80),
        "open": np.zeros(80),
    }
    values["same"], values["open"] = values["a"] + 0.3 * noise, values["a"] + 0.2 + 3 * noise
    found = analyse(values, Sequential(margin=1.0, until="same"))
    assert found.choice == "a"
    assert dict(found.settled)["same"] == 5
    assert found.seeds["same"] == 5
    assert set(found.same) == {"same", "open"}
    assert 5 < found.look < 80


def test_where_all_that_is_left_diverged_the_trial_stops():
    found = analyse({"a": [3.0] * 5, "b": [3.0] * 5}, Sequential(max_seeds=80), worst=3.0)
    assert found.next_look == 0


def test_a_percentage_of_a_mean_near_zero_means_nothing():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=20)
    values = {"a": shared, "b": shared + 0.001 * rng.normal(size=20)}
    assert analyse(values, Sequential(looks=(20,), margin="50%")).margin == 0.0
    far = {name: each + 100 for name, each in values.items()}
    assert analyse(far, Sequential(looks=(20,), margin="50%")).margin == pytest.approx(50, rel=0.01)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"margin": 0}, r"margin must be a number in \(0, inf\)"),
        ({"margin": "0%"}, "margin must be"),
        ({"margin": "-2%"}, "margin must be a number or a percentage > 0"),
        ({"margin": "two"}, "margin must be a number or a percentage > 0"),
        ({"margin": math.nan}, "margin must be"),
        ({"max_seeds": 4}, "max_seeds must be a whole number from 5"),
        ({"until": "sure"}, "until must be one of"),
        ({"until": "same"}, "must come with a margin"),
        ({"looks": (2,)}, "a look must be"),
        ({"looks": (10, 5)}, "looks must ascend"),
    ],
)
def test_a_plan_that_means_nothing_is_refused(options, rule):
    with pytest.raises(ValueError, match=rule):
        Sequential(**options)


@pytest.mark.parametrize(("text", "margin"), [("2%", Margin(0.02, True)), (".02", Margin(0.02)), (1, Margin(1.0))])
def test_a_margin_is_a_share_or_an_amount(text, margin):
    assert Sequential(margin=text).margin == margin


@pytest.mark.parametrize(
    ("options", "looks"),
    [
        ({}, (5, 10, 20)),
        ({"max_seeds": 5}, (5,)),
        ({"max_seeds": 7}, (5, 7)),
        ({"until": "decided"}, (5, 10, 20, 40, 80)),
        ({"max_seeds": 100}, (5, 10, 20, 40, 80, 100)),
    ],
)
def test_the_looks_are_cut_at_the_most_seeds(options, looks):
    assert Sequential(**options).looks == looks


def test_values_that_are_not_finite_and_no_alternatives_are_refused():
    for values in ({}, {"a": [1.0, math.inf]}, {"a": ["x"]}):
        with pytest.raises(ValueError, match="must be"):
            analyse(values, Sequential())
