"""The questions that are answered by measurement, against closed forms and the reference values."""

import numpy as np
import pytest
import torch
from torch.distributions import Uniform

from steepest._objectives import multimodal, quantize
from steepest.errors import EvaluationFailed, InvalidArgument
from steepest.estimators import (
    Ascent,
    Backprop,
    Estimate,
    FiniteDifference,
    Pathwise,
    SampleEfficiency,
    ScoreFunction,
    delta_effect,
    pointwise,
    sample_efficiency,
    score_function_terms,
    step_size_effect,
    straightness,
    zero_gradient,
)
from steepest.estimators._questions.many import gradients

BOX = Uniform(torch.tensor([-1.0, -1.0]), torch.tensor([3.0, 3.0]))
REFERENCE = {("start", 50): 0.803, ("start", 20): 0.75, ("start", 10): 0.68, ("box", 50): 0.852}
"""Share of 2,000 runs that ended at the highest level, from (-.3, .5) and from random starts: independent values."""


def bowl(x):
    return -x.square().sum(-1)


def plane(x):
    return x @ torch.tensor([3.0, -4.0])


def plain(n):
    return ScoreFunction(0.3, n, antithetic=False, baseline=None)


def shares(runs, seed):
    """Share of runs at the highest level at the end, and the standard error of its distance from the reference."""
    found = {}
    for start in ("start", "box"):
        ascent = Ascent(quantize(multimodal), start=BOX if start == "box" else (-0.3, 0.5), step=0.5)
        of = {str(n): plain(n) for s, n in REFERENCE if s == start}
        ends = zero_gradient(ascent, of, level=1.0, runs=runs, seed=seed).reached
        for n, reached in ends.items():
            p = REFERENCE[start, int(n)]
            found[start, int(n)] = float(reached[-1]), (p * (1 - p) * (1 / 2000 + 1 / runs)) ** 0.5
    return found


@pytest.mark.parametrize(("runs", "seed"), [(2000, 0), pytest.param(20_000, 1, marks=pytest.mark.slow)])
def test_a_plain_score_function_reaches_the_highest_level_as_often_as_was_measured(runs, seed):
    for case, (share, error) in shares(runs, seed).items():
        assert abs(share - REFERENCE[case]) < 3 * error, (case, share)


def test_backpropagation_and_pathwise_gradients_of_a_quantised_objective_are_zero_and_stay():
    found = zero_gradient(runs=50)
    stuck = {name: share for name, share in found.zero.items() if share == 1}
    assert set(stuck) == {"backpropagation", "pathwise, N = 50"}
    for name in stuck:
        assert found.reached[name].max() == 0
        assert (found.paths[name] == found.paths[name][0]).all()
    assert found.level == 1
    assert all((found.visited[name] >= found.reached[name]).all() for name in found.reached)


def test_one_call_makes_estimates_for_all_runs():
    calls = []

    def counted(x):
        calls.append(x.shape)
        return bowl(x)

    for source in (ScoreFunction(0.3, 8), FiniteDifference(0.1, 4, sigma=0.3), Pathwise(0.3, 8), Backprop()):
        calls.clear()
        points = torch.zeros(500, 2)
        assert gradients(source, counted, points, torch.Generator().manual_seed(0)).shape == (500, 2)
        assert len(calls) == 1, source


@pytest.mark.parametrize("source", [ScoreFunction(0.3, 20), Pathwise(0.3, 20, antithetic=True)], ids=["score", "path"])
def test_estimates_at_once_are_those_of_single_calls_in_mean_and_spread(source):
    at = torch.tensor([[0.2, 0.4], [2.0, 1.0]])
    both = gradients(source, multimodal, at.repeat(1500, 1), torch.Generator().manual_seed(0)).view(1500, 2, 2)
    generator = torch.Generator().manual_seed(1)
    for many, x in zip(both.unbind(1), at, strict=True):
        single = torch.stack([source(multimodal, x, generator).gradient for _ in range(300)])
        error = (many.var(0) / 1500 + single.var(0) / 300).sqrt()
        assert ((many.mean(0) - single.mean(0)).abs() < 4 * error).all()
        assert (many.std(0) / single.std(0) - 1).abs().max() < 0.25
    assert abs(float(np.corrcoef(both[:, 0, 0], both[:, 1, 0])[0, 1])) < 0.1


def test_a_function_that_looks_at_numbers_is_called_for_each_run():
    def looking(x):
        return -float((x**2).sum())

    for source in (ScoreFunction(0.3, 8), FiniteDifference(0.01)):
        points = torch.arange(6.0).view(3, 2)
        found = gradients(source, looking, points, torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(0)
        expected = torch.stack([source(looking, x, generator).gradient for x in points])
        assert torch.equal(found, expected)


def test_values_that_are_not_finite_at_one_run_leave_the_others_alone():
    def broken(x):
        return torch.where(x[..., 0] > 1, torch.nan, bowl(x))

    points = torch.tensor([[0.5, 0.0], [1.01, 0.0]])
    found = gradients(Pathwise(0.1, 4), broken, points, torch.Generator().manual_seed(0))
    alone = gradients(Pathwise(0.1, 4), broken, points[:1], torch.Generator().manual_seed(0))
    assert torch.equal(found[:1], alone)
    assert found.isfinite().all()


def test_an_error_of_the_objective_comes_with_the_values_before():
    def failing(x):
        if x[..., 0].max() > 0.9:
            raise ValueError("too far")
        return bowl(x)

    with pytest.raises(EvaluationFailed, match="too far"):
        Ascent(failing, start=(0.8, 0.0)).paths(ScoreFunction(0.1, 20), runs=3)


def test_paths_are_those_of_gradient_ascent():
    paths = Ascent(bowl, start=(1.0, 2.0), step=0.25, steps=4).paths(Backprop(), runs=2)
    expected = 0.5 ** np.arange(5)[:, None] * np.array([1.0, 2.0])
    assert np.allclose(paths, expected)


def test_runs_are_different_and_a_seed_repeats_them(rng_untouched):
    ascent = Ascent(start=BOX, steps=3)
    with rng_untouched():
        paths = ascent.paths(ScoreFunction(0.3, 4), runs=4, seed=5)
        assert np.array_equal(paths, ascent.paths(ScoreFunction(0.3, 4), runs=4, seed=5))
        assert not np.array_equal(paths, ascent.paths(ScoreFunction(0.3, 4), runs=4, seed=6))
    assert len(np.unique(paths[:, 0], axis=0)) == 4
    one_start = Ascent(steps=3).paths(ScoreFunction(0.3, 4), runs=4)
    assert len(np.unique(one_start[:, 1], axis=0)) == 4


def test_a_source_of_the_users_own_is_called_for_each_run():
    class Momentum:
        """Has a state, so that calls for many points at once would be wrong."""

        def __init__(self):
            self.calls = 0

        def __call__(self, objective, x, _generator=None):
            self.calls += 1
            return Estimate(objective(x[None])[0], -2 * x)

    own = Momentum()
    assert Ascent(bowl, steps=3).paths(own, runs=4).shape == (4, 4, 2)
    assert own.calls == 12
    with pytest.raises(InvalidArgument, match="evaluations"):
        sample_efficiency(Ascent(bowl, steps=2), {"own": lambda _: own}, samples=(2,), runs=2)


def test_forward_differences_have_a_bias_of_delta_and_central_ones_of_a_bowl_have_none():
    effect = delta_effect(Ascent(bowl, start=(1.0, 1.0), sigma=0.01), deltas=(0.1, 0.2), samples=(1, 20), runs=2)
    # f(x + delta) - f(x) = -2 x delta - delta^2: off by delta in each of two coordinates, of a gradient of 2.
    assert effect.bias["forward"] == pytest.approx([0.05, 0.1], rel=0.02)
    assert effect.alone["forward"] == pytest.approx([0.05, 0.1], rel=1e-4)
    assert effect.alone["central"].max() < 1e-5
    assert effect.error["central"][1] == pytest.approx(0.01 / np.sqrt(20), rel=0.1)
    assert effect.error["central"][0] == pytest.approx(0.01, rel=0.1)
    assert {kind: each.tolist() for kind, each in effect.evaluations.items()} == {
        "forward": [3, 60],
        "central": [4, 80],
    }


def test_rounding_makes_small_differences_wrong():
    alone = delta_effect(deltas=(1e-6, 1e-3), samples=(1,), repetitions=2, runs=1).alone
    assert alone["central"][0] > 30 * alone["central"][1]


def test_the_error_of_a_score_function_of_a_plane_is_that_of_the_formula():
    pairs = {"pairs": lambda n: ScoreFunction(0.3, n), "pathwise": lambda n: Pathwise(0.3, n)}
    found = sample_efficiency(Ascent(plane, steps=3), pairs, samples=(4, 20), repetitions=20_000, runs=3)
    # Var (a.e) e = |a|^2 (d + 1) in all, for each of N / 2 pairs.
    assert found.spread["pairs"] == pytest.approx([np.sqrt(3 / 2), np.sqrt(3 / 10)], rel=0.03)
    assert found.bias["pairs"].max() < 0.02
    assert found.spread["pathwise"].max() < 1e-5
    needed = found.evaluations_for(0.1)
    assert needed["pairs"] == pytest.approx(6 / 0.01, rel=0.06)
    assert needed["pathwise"] == 4  # those of one estimate, which is exact


def test_evaluations_for_an_error_are_those_of_whole_estimates():
    given = {"evaluations": {"a": [3, 30]}, "bias": {"a": [0.0, 0.0]}, "to_target": {"a": [1.0, 1.0]}, "target": 0.0}

    def needed(error, spread, **changes):
        found = SampleEfficiency(np.array([1, 10]), spread={"a": spread}, **{**given, **changes})
        return found.evaluations_for(error)["a"]

    spread = [1.0, 10**-0.5]  # a variance of 3 / evaluations
    assert [needed(error, spread) for error in (10, 1, 0.99, 0.7, 0.1)] == [3, 3, 6, 9, 300]
    assert all(isinstance(needed(error, spread), int) for error in (10, 0.7))
    assert needed(0.5, spread, bias={"a": [0.0, 0.3]}) == 3 * np.ceil(1 / (0.25 - 0.09))
    assert needed(1e-200, spread) == needed(0.1, [np.inf, 1.0]) == np.inf
    assert np.isnan(needed(0.1, [np.nan, np.nan]))


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_no_error_is_relative_to_the_gradient_of_a_constant(value):
    ascent = Ascent(lambda x: 0 * x.sum(-1) + value, start=(1.0, 2.0), steps=2)
    found = sample_efficiency(ascent, samples=(4,), repetitions=5, runs=2)
    assert np.isnan([*found.evaluations_for(0.2).values()]).all()
    assert all(
        np.isnan(each).all() for each in straightness(ascent, samples=(4,), repetitions=5, runs=2).spread.values()
    )
    for display in (found, delta_effect(ascent, deltas=(0.1,), samples=(2,), repetitions=5, runs=2)):
        display.plot()


def test_sources_that_backpropagate_are_left_out_where_autograd_sees_no_gradient():
    def program(x):
        return -float((x.numpy() ** 2).sum())

    ascent, few = Ascent(pointwise(program, vectorize=False), (1.0, 2.0), steps=2), {"repetitions": 3, "runs": 2}
    found = sample_efficiency(ascent, samples=(4,), **few)
    assert found.left_out == ("pathwise",)
    assert set(found.spread) == {"finite differences", "score function", "score function, pairs"}
    found = straightness(ascent, samples=(4,), **few)
    assert (found.left_out, set(found.spread)) == (("pathwise",), {"score function", "score function, no baseline"})
    found = zero_gradient(Ascent(program, (1.0, 2.0), steps=2), runs=2)
    assert (found.left_out, len(found.zero)) == (("backpropagation", "pathwise, N = 50"), 4)
    assert zero_gradient(Ascent(bowl, BOX), runs=2).left_out == ()
    assert sample_efficiency(Ascent(quantize(multimodal), steps=2), samples=(4,), **few).left_out == ()


def test_a_source_that_cannot_be_asked_is_refused_before_anything_is_measured():
    calls = []

    def program(x):
        calls.append(x)
        return -float((x**2).sum())

    ascent = Ascent(pointwise(program, vectorize=False), (1.0, 2.0))
    by_samples = {"mine": lambda n: Pathwise(0.3, n)}
    for ask in (
        lambda: sample_efficiency(ascent, by_samples),
        lambda: straightness(ascent, by_samples),
        lambda: zero_gradient(ascent, {"mine": Backprop()}),
    ):
        with pytest.raises(InvalidArgument, match=r"must not backpropagate .*'mine'"):
            ask()
    assert len(calls) == 3 * 4

    def failing(_x):
        raise ValueError("no luck")

    with pytest.raises(EvaluationFailed, match="no luck"):
        zero_gradient(Ascent(pointwise(failing, vectorize=False), (1.0, 2.0)), {"mine": Backprop()})


def test_a_bias_that_is_larger_than_the_error_is_never_made_good():
    found = sample_efficiency(samples=(100,), runs=2)
    assert found.bias["finite differences"][0] == pytest.approx(0.08, abs=0.03)
    assert found.evaluations_for(0.01)["finite differences"] == np.inf
    assert np.isfinite(found.evaluations_for(0.01)["score function"])


def test_the_target_is_reached_after_the_steps_that_it_takes():
    exact = {"backprop": lambda _: Pathwise(0.1, 1)}
    # x halves in each step; F = -x^2 - sigma^2 is above -.05 from x = 1 / 8 on.
    ascent = Ascent(lambda x: -(x - 0.0).square().sum(-1), start=(1.0,), sigma=1e-4, step=0.25, steps=6)
    found = sample_efficiency(ascent, {"one": lambda _: Pathwise(1e-4, 2)}, samples=(1,), target=-0.05, runs=3)
    assert found.to_target["one"].tolist() == [3 * 2]
    assert found.fewest_to_target == {"one": 6}
    never = sample_efficiency(ascent, exact, samples=(1,), target=1.0, runs=3)
    assert never.fewest_to_target == {"backprop": np.inf}


def test_a_large_step_needs_many_samples():
    effect = step_size_effect(step_sizes=(0.01, 0.05, 0.5), samples=(1, 20))
    assert effect.best["finite differences"].tolist() == [0.05, 0.05]
    few, many = effect.values["finite differences"][:, 2, 1]
    assert many > few + 3
    assert effect.evaluations == {
        "finite differences": pytest.approx([3, 60]),
        "score function": pytest.approx([1, 20]),
    }


def test_steps_that_diverge_have_no_value():
    effect = step_size_effect(step_sizes=(0.01, 0.5), samples=(1,), runs=5)
    assert np.isnan(effect.values["score function"][0, 1]).all()
    assert np.isfinite(effect.values["score function"][0, 0]).all()
    assert effect.best["score function"].tolist() == [0.01]
    effect.plot()
    hopeless = step_size_effect(step_sizes=(0.5,), samples=(1,), runs=5)
    assert np.isnan(hopeless.best["score function"]).all()
    hopeless.plot()


def test_exact_gradients_of_a_bowl_lead_straight_to_its_top():
    sources = {"exact": lambda n: Pathwise(1e-6, n), "score function": lambda n: ScoreFunction(0.3, 2 * n)}
    found = straightness(Ascent(bowl, start=(1.0, 2.0)), sources, samples=(1, 10), runs=30)
    assert found.ratio["exact"] == pytest.approx(np.ones((2, 3)), abs=1e-3)
    assert (found.ratio["score function"][:, 1] > 1.02).all()
    assert found.ratio["score function"][0, 1] > found.ratio["score function"][1, 1]


def test_one_sample_gives_a_direction_to_a_pathwise_gradient_and_none_to_a_score_function():
    found = straightness(samples=(1, 20))
    assert found.ratio["pathwise"][0, 1] < 10
    assert found.ratio["score function"][0, 1] == np.inf
    assert found.spread["score function"][0] > 5 * found.spread["pathwise"][0]
    # Where waves are shorter than the samples reach, gradients vary more than values.
    assert found.ratio["score function"][1, 1] < found.ratio["pathwise"][1, 1]
    assert found.spread["score function"][1] > found.spread["pathwise"][1]


def test_every_sample_pulls_along_the_line_to_itself_with_a_mean_that_is_the_gradient():
    found = score_function_terms(samples=20_000)
    way = found.samples - found.point
    for terms, weight in ((found.terms, found.values), (found.centred, found.values - found.values.mean())):
        assert np.allclose(terms, weight[:, None] * way / 0.09, rtol=1e-3, atol=1e-3)
        error = terms.std(0) / np.sqrt(len(terms))
        assert (np.abs(terms.mean(0) - found.gradient) < 4 * error).all()
    assert found.centred.std() < found.terms.std() / 2


def test_the_gradient_without_a_closed_form_is_found_from_values():
    closed, values = Ascent(), Ascent(lambda x: multimodal(x))
    assert values._gradient() == pytest.approx(closed._gradient().numpy(), abs=0.1)
    points = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    assert values._smoothed(points) == pytest.approx(closed._smoothed(points).numpy(), abs=0.1)


def test_a_distribution_of_starts_has_no_gradient():
    for question in (delta_effect, sample_efficiency, straightness, score_function_terms):
        with pytest.raises(InvalidArgument, match="start must be one point"):
            question(Ascent(start=BOX))


@pytest.mark.parametrize("start", [(0.5,), (0.5, 0.5), torch.full((2, 2), 0.5)], ids=[1, 2, "matrix"])
def test_every_display_is_drawn_in_any_number_of_dimensions(start):
    dimensions = torch.as_tensor(start).ndim

    def f(x):
        return -x.square().flatten(x.ndim - dimensions).sum(-1)

    ascent, small = Ascent(f, start=start, steps=3), {"runs": 3}
    drawn = [
        delta_effect(ascent, deltas=(0.1, 0.2), samples=(2,), repetitions=5, **small),
        sample_efficiency(ascent, samples=(2, 4), repetitions=5, **small),
        step_size_effect(ascent, samples=(2,), **small),
        straightness(ascent, samples=(1, 4), repetitions=5, **small),
        zero_gradient(ascent, **small),
    ]
    for display in drawn:
        figure = display.plot()
        assert len(figure.data) > 2
        names = [trace.name for trace in figure.data if trace.showlegend is not False and trace.name]
        assert len(names) == len(set(names)), display
    if torch.as_tensor(start).numel() > 1:
        assert score_function_terms(ascent).plot().data
    else:
        with pytest.raises(InvalidArgument, match="two coordinates"):
            score_function_terms(ascent).plot()


@pytest.mark.slow
def test_questions_are_answered_within_seconds():
    import time

    begun = time.process_time()
    for question in (delta_effect, sample_efficiency, step_size_effect, straightness, zero_gradient):
        question()
    assert time.process_time() - begun < 25


def test_a_function_of_double_precision_is_asked_in_double_precision():
    matrix = torch.eye(2, dtype=torch.float64)

    def f(x):
        return -(x @ matrix).square().sum(-1)

    ascent = Ascent(f, start=torch.tensor([0.5, 1.0], dtype=torch.float64), steps=2)
    for question in (straightness, zero_gradient, sample_efficiency):
        question(ascent, runs=2, **({} if question is zero_gradient else {"samples": (2,), "repetitions": 2})).plot()
    assert delta_effect(ascent, deltas=(1e-5,), samples=(1,), repetitions=2, runs=1).alone["central"][0] < 1e-9
