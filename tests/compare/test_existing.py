"""Verdicts on runs that were made elsewhere."""

import math

import numpy as np
import pytest

from steepest.compare import Analysis, Difference, Measure, Sequential, judge_runs, read_runs
from steepest.compare._result.verdict import judge

HEAD = "alternative,seed,loss\n"


def table(tmp_path, text):
    path = tmp_path / "results.csv"
    path.write_text(text)
    return path


def drawn(*means, seeds=10):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=seeds)
    names = "abcdefgh"
    return {
        names[i]: {seed: float(10 + shared[seed] + mean + 0.3 * rng.normal()) for seed in range(seeds)}
        for i, mean in enumerate(means)
    }


def test_a_table_is_judged_as_the_values_in_it(tmp_path):
    runs = drawn(0, 2, 0.0)
    lines = [f"{name},{seed},{value!r}" for name, each in runs.items() for seed, value in each.items()]
    np.random.default_rng(0).shuffle(lines)
    assert read_runs(table(tmp_path, HEAD + "\n".join(lines))) == runs
    verdict = judge_runs(runs)
    assert (verdict.choice, verdict.beaten, verdict.undecided) == ("a", ("b",), ("c",)), verdict
    assert verdict.headline.startswith("Take a: with 95% confidence it is at most")
    assert "the best of these three" in verdict.headline
    assert "It beats b." in str(verdict)
    assert verdict.next_step.seeds > 10


def test_higher_values_may_be_better(tmp_path):
    text = "alternative,seed,accuracy\n" + "".join(
        f"{name},{seed},{base + 0.01 * noise}\n"
        for name, base in (("a", 0.8), ("b", 0.9))
        for seed, noise in enumerate([1, -1, 0.5, 2, -0.3])
    )
    measure = Measure("accuracy", higher_is_better=True)
    runs = read_runs(table(tmp_path, text), measure)
    runs["a"][0] -= 0.003
    runs["a"][1] += 0.002
    verdict = judge_runs(runs, measure=measure)
    assert verdict.choice == "b"
    assert "Its mean accuracy is 0.9" in str(verdict)


def test_a_margin_says_what_is_the_same():
    verdict = judge_runs(drawn(0, 0.02), Sequential(looks=(10,), margin="5%"))
    assert verdict.same == ("b",)
    assert "b is the same as a within 5% (0.5" in str(verdict)
    assert verdict.next_step is None


def test_what_a_sequential_plan_eliminated_may_have_fewer_seeds():
    runs = drawn(0, 9, 0.1)
    runs["b"] = {seed: value for seed, value in runs["b"].items() if seed < 5}
    assert judge_runs(runs, Sequential(max_seeds=10)).eliminated == ()
    assert "b" in judge_runs(runs, Sequential(max_seeds=10)).beaten
    with pytest.raises(ValueError, match="every alternative must have the same seeds"):
        judge_runs(runs, Sequential(looks=(10,)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("alternative,loss\na,1\n", "must have the columns alternative, seed and loss .*Add seed"),
        ("", r"must have the columns alternative, seed and loss .got 'none'"),
        (HEAD + "a,0,1\na,0,2\n", r"one value per seed .got 'seed 0 of a again in line 3'"),
        (HEAD + "a,0,low\n", r"loss must be a number .*low.* in line 2"),
        (HEAD + "a,0\n", r"loss must be a number .*None in line 2"),
        ("alternative;seed;loss\na;0;1\n", "Separate the columns by commas"),
        ("alternative,seed,accuracy\na,0,1\n", "Add loss. To rank by another column, .* --rank-by max:accuracy"),
        (HEAD + ",0,1\n", "an alternative must have a name"),
        (HEAD + "a,0.5,1\n", "a seed must be a whole number"),
        (HEAD + "a,nan,1\n", "a seed must be a whole number"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, says):
    with pytest.raises(ValueError, match=says):
        read_runs(table(tmp_path, text))


def without(runs, name, seed):
    return {key: {s: v for s, v in each.items() if (key, s) != (name, seed)} for key, each in runs.items()}


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        (drawn(0), r"at least two alternatives .*got 'a'"),
        ({}, "at least two alternatives"),
        (without(drawn(0, 1), "b", 3), "b without seeds 3"),
        (without(drawn(0, 1), "b", 9), "b without seeds 9"),
        (drawn(0, 1, seeds=2), "fewer than three of a"),
        ({"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {0: 1.0, 1: math.inf, 2: 3.0}}, "inf of b, seed 1.*--diverged"),
    ],
)
def test_runs_that_cannot_be_paired_are_refused(runs, says):
    with pytest.raises(ValueError, match=says):
        judge_runs(runs)


def test_a_diverged_run_counts_at_the_value_that_is_given():
    runs = {"a": {0: 1.0, 1: 1.1, 2: 1.3}, "b": {0: 1.0, 1: math.inf, 2: 1.2}}
    by_hand = {"a": runs["a"], "b": {0: 1.0, 1: 5.0, 2: 1.2}}
    assert judge_runs(runs, diverged=5.0) == judge_runs(by_hand)


def looked(eliminated=(), better=None, **changes):
    """An analysis of a, b, c after 20 seeds, of which a is the choice."""
    keys = ("a", "b", "c")
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    given = {
        "look": 20,
        "seeds": dict.fromkeys(keys, 20),
        "means": {"a": 1.0, "b": 2.0, "c": 3.0},
        "eliminated": dict(eliminated),
        "settled": {},
        "choice": "a",
        "regret": 0.1234,
        "margin": 0.0,
        "same": (),
        "differences": tuple(Difference(*p, 20, -1.0, -2.0, 0.5, 0.2, (better or {}).get(p)) for p in pairs),
        "upper": {},
        "needed": (),
        "next_look": 0,
    }
    return judge(Analysis(**{**given, **changes}), Measure(), str)


@pytest.mark.parametrize(
    ("eliminated", "says"),
    [
        ({"b": 5}, "b was dropped after 5 seeds: no better than the best of the others. Against c it is undecided."),
        ({"b": 5, "c": 10}, "b and c were dropped after 5 and 10 seeds: no better than the best of the others."),
    ],
)
def test_what_was_dropped_is_said_with_the_seeds_it_had(eliminated, says):
    assert says in str(looked(eliminated))


def test_what_beat_the_choice_at_an_earlier_look_is_said():
    verdict = looked(better={("a", "b"): "b", ("a", "c"): "a"})
    assert "It beats c. b beat a at an earlier look, before the means turned. Against b it is undecided." in str(
        verdict
    )


def test_the_bound_is_rounded_up_and_given_in_percent_of_the_mean():
    assert (
        looked().headline == "Take a: with 95% confidence it is at most 0.13 (13%) worse than the best of these three."
    )


@pytest.mark.parametrize(("regret", "shown"), [(0.997, "1 (100%)"), (3.21, "3.3"), (132.4, "140")])
def test_a_large_bound_is_written_without_an_exponent(regret, shown):
    assert f"it is at most {shown} worse" in looked(regret=regret).headline


def test_later_values_that_the_plan_does_not_reach_are_said_to_be_unused():
    runs = drawn(0, 9)
    assert "The plan ends after 5 seeds: 10 later values are not used." in str(
        judge_runs(runs, Sequential(max_seeds=10))
    )
    assert "not used" not in str(judge_runs(runs))


def test_two_with_the_same_results_are_said_to_be_alike():
    runs = drawn(0)
    verdict = judge_runs({"a": runs["a"], "b": runs["a"]})
    assert verdict.headline == "Take a or another: no result tells the rest from it."
    assert "b gave the same results as a in every seed." in str(verdict)


@pytest.mark.parametrize(
    ("count", "best"),
    [(2, "the better of the two"), (3, "the best of these three"), (11, "the best of these 11")],
)
def test_the_bound_is_on_the_difference_from_the_best_of_all(count, best):
    rng = np.random.default_rng(1)
    runs = {f"a{i}": {seed: float(10 + rng.normal()) for seed in range(8)} for i in range(count)}
    verdict = judge_runs(runs)
    assert verdict.headline.endswith(f"worse than {best}.")


def test_a_margin_in_percent_of_a_mean_near_zero_is_not_used():
    rng = np.random.default_rng(0)
    runs = {name: {seed: float(rng.normal()) for seed in range(10)} for name in "ab"}
    assert "A margin of 5% means nothing for a mean so near to 0" in str(
        judge_runs(runs, Sequential(looks=(10,), margin="5%"))
    )
