"""Perturbations of models that are drawn again from their seeds."""

import pytest
import torch
from torch import distributions, nn

from steepest.errors import EvaluationFailed, InvalidArgument
from steepest.estimators import Backprop, FiniteDifference, Pathwise, ScoreFunction, batched, pointwise
from steepest.estimators import _replay as replay


@pytest.fixture(autouse=True)
def _everything_is_too_large_to_be_stored(monkeypatch):
    monkeypatch.setattr(replay, "_STORED", 1)
    monkeypatch.setattr(replay, "_PIECE", 11)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


@pytest.fixture
def parameters(model):
    return {name: each.detach() for name, each in model.named_parameters()}


@pytest.fixture
def loss(model):
    x = torch.randn(16, 3, generator=seeded(9), dtype=torch.float64)
    return pointwise(lambda given: torch.func.functional_call(model, given, (x,)).square().mean())


SOURCES = {
    "score function": ScoreFunction(0.1, 2),
    "many pairs": ScoreFunction(0.1, 400),
    "single samples": ScoreFunction(0.1, 400, antithetic=False),
    "Laplace": ScoreFunction(0.1, 400, distribution=distributions.Laplace(0.0, 1.0)),
    "shifted": ScoreFunction(0.1, 400, distribution=distributions.Normal(0.1, 1.0)),
    "finite difference": FiniteDifference(1e-3, 400, directions="random"),
    "forward": FiniteDifference(1e-4, 400, central=False, directions="random"),
    "pathwise": Pathwise(0.1, 60),
    "pathwise pairs": Pathwise(0.1, 60, antithetic=True),
}


def test_the_gradient_is_that_of_the_perturbations_with_which_f_was_evaluated(parameters, loss):
    seen = []

    def recording(given):
        seen.append(torch.cat([each.reshape(-1) for each in given.values()]).clone())
        return loss(given)

    for antithetic in (True, False):
        seen.clear()
        source = ScoreFunction(0.1, 10, antithetic=antithetic)
        estimate = source(recording, parameters, seeded())
        x = torch.cat([each.reshape(-1) for each in parameters.values()])
        points = torch.stack(seen)
        noise = (points - x) / 0.1
        values = torch.stack([loss(_named(point, parameters)) for point in points])
        if antithetic:
            torch.testing.assert_close(noise[::2], -noise[1::2])
            terms = ((values[::2] - values[1::2]) / 2 / 0.1)[:, None] * noise[::2]
        else:
            terms = ((values - values.mean()) * 10 / 9 / 0.1)[:, None] * noise
        for found, expected in (
            (estimate.gradient, terms.mean(0)),
            (estimate.standard_error, terms.std(0) / len(terms) ** 0.5),
        ):
            torch.testing.assert_close(torch.cat([each.reshape(-1) for each in found.values()]), expected)


def _named(row, like):
    parts = row.split([each.numel() for each in like.values()])
    return {name: part.view(each.shape) for (name, each), part in zip(like.items(), parts, strict=True)}


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "score function"])
def test_it_finds_the_gradient_within_its_standard_error(name, parameters, loss):
    source = SOURCES[name]
    exact = Pathwise(0.1, 600)(loss, parameters, seeded(5))  # smoothing by .1 changes this one little
    shift = 0.1 if name in ("Laplace", "shifted") else 0.01  # by another distribution a little more
    found = source(loss, parameters, seeded())
    assert found.evaluations == source.evaluations(parameters)
    for key, each in found.gradient.items():
        error = (found.standard_error[key].square() + exact.standard_error[key].square()).sqrt()
        assert ((each - exact.gradient[key]).abs() < 4.5 * error + shift).all()


@pytest.mark.parametrize("name", ["score function", "finite difference", "pathwise"])
def test_the_parameters_and_the_global_generator_are_left_alone(name, parameters, loss):
    before = {key: each.clone() for key, each in parameters.items()}
    state = torch.get_rng_state()
    source = SOURCES[name]
    few = type(source)(0.1, 4, **({"directions": "random"} if isinstance(source, FiniteDifference) else {}))
    first, again = (few(loss, parameters, seeded(2)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for key, each in before.items():
        assert torch.equal(parameters[key], each)
        assert torch.equal(first.gradient[key], again.gradient[key])
        assert first.gradient[key].data_ptr() != parameters[key].data_ptr()


@pytest.mark.parametrize("name", ["score function", "single samples", "finite difference", "pathwise pairs"])
def test_half_precision_and_transposed_weights(name):
    parameters = {
        "rows": torch.randn(4, 6, generator=seeded()).t(),
        "channels last": torch.randn(2, 3, 4, 4, generator=seeded()).to(memory_format=torch.channels_last),
        "half": torch.randn(5, generator=seeded()).bfloat16(),
        "one": torch.tensor(0.5),
    }
    source = SOURCES[name]

    def square(given):
        return sum(each.float().square().sum() for each in given.values())

    found = source(pointwise(square), parameters, seeded())
    for key, each in parameters.items():
        assert (found.gradient[key].shape, found.gradient[key].dtype) == (each.shape, each.dtype)
        assert found.standard_error[key].shape == each.shape
    flat = torch.cat([each.float().reshape(-1) for each in found.gradient.values()])
    exact = torch.cat([2 * each.float().reshape(-1) for each in parameters.values()])
    if source.evaluations(parameters) > 9:
        assert torch.nn.functional.cosine_similarity(flat, exact, dim=0) > 0.7


def test_a_failure_keeps_the_values_before(parameters, loss):
    calls = []

    def fails(given):
        if len(calls) == 3:
            raise RuntimeError("out of reach")
        calls.append(loss(given))
        return calls[-1]

    for source in (ScoreFunction(0.1, 6, antithetic=False), Pathwise(0.1, 6)):
        calls.clear()
        with pytest.raises(EvaluationFailed, match=r"number 4 .*out of reach") as caught:
            source(fails, parameters, seeded())
        torch.testing.assert_close(caught.value.values, torch.stack(calls).detach())
        assert caught.value.failed.keys() == parameters.keys()


def test_what_needs_stored_perturbations_is_refused(parameters, loss):
    with pytest.raises(InvalidArgument, match="baseline must be None or leave-one-out for so many parameters"):
        ScoreFunction(0.1, 8, baseline="control-variate")(loss, parameters, seeded())
    with pytest.raises(InvalidArgument, match="must take one point for so many parameters"):
        ScoreFunction(0.1, 8)(batched(loss), parameters, seeded())
    wide = distributions.Normal(torch.zeros(3), torch.ones(3))
    with pytest.raises(InvalidArgument, match="single numbers"):
        ScoreFunction(0.1, 8, distribution=wide)(loss, parameters, seeded())


def test_differences_along_the_coordinates_of_a_model(parameters, loss):
    exact = Backprop()(loss, parameters)
    for source in (FiniteDifference(1e-5), FiniteDifference(1e-7, central=False)):
        found = source(loss, parameters)
        for key, each in exact.gradient.items():
            torch.testing.assert_close(found.gradient[key], each, atol=1e-5, rtol=0)


def test_an_objective_that_works_in_place_gets_the_points_all_the_same(parameters, loss):
    def in_place(given):
        value = loss(given)
        for each in given.values():
            each.zero_()
        return value

    for source in (
        ScoreFunction(0.1, 6),
        FiniteDifference(1e-3, 3, directions="random"),
        FiniteDifference(1e-3, 3, central=False, directions="random"),
    ):
        before = {key: each.clone() for key, each in parameters.items()}
        found, expected = (source(each, parameters, seeded()).gradient for each in (in_place, loss))
        for key, each in expected.items():
            torch.testing.assert_close(found[key], each)
            assert torch.equal(parameters[key], before[key])


def test_every_value_before_a_failure_is_kept_in_order(parameters, loss):
    for source in (ScoreFunction(0.1, 40), FiniteDifference(0.1, 30, central=False, directions="random")):
        cost = source.evaluations(parameters)
        for last in (1, 16, cost):
            calls = []

            def fails(given, last=last, calls=calls):
                if len(calls) == last - 1:
                    raise ValueError
                calls.append(loss(given))
                return calls[-1]

            with pytest.raises(EvaluationFailed, match=f"number {last} ") as caught:
                source(fails, parameters, seeded())
            assert caught.value.values.tolist() == [float(each) for each in calls]


def test_sums_of_half_precision_gradients_do_not_stand_still():
    ones = {"a": torch.ones(50, dtype=torch.bfloat16)}

    def square(given):
        return given["a"].float().square().sum()

    found = Pathwise(0.1, 1000)(square, ones, seeded())
    torch.testing.assert_close(found.gradient["a"].float(), torch.full((50,), 2.0), atol=0.04, rtol=0)
    error = found.standard_error["a"].float()
    torch.testing.assert_close(error, torch.full((50,), 0.2 / 1000**0.5), atol=0, rtol=0.15)


def test_standard_errors_do_not_cancel():
    ones = {"a": torch.ones(50)}
    found = Pathwise(1e-4, 100)(lambda given: given["a"].square().sum(), ones, seeded())
    torch.testing.assert_close(found.standard_error["a"], torch.full((50,), 2e-5), atol=0, rtol=0.4)
