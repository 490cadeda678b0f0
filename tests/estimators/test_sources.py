"""What holds for every gradient source, whatever it estimates and however the point is given."""

import pytest
import torch

from steepest._objectives import multimodal
from steepest.errors import InvalidArgument
from steepest.estimators import (
    Backprop,
    FiniteDifference,
    Pathwise,
    ScoreFunction,
    batched,
    needs_autograd,
    pointwise,
)

SOURCES = {
    "backprop": Backprop(),
    "pathwise": Pathwise(0.3, 8),
    "pathwise in pairs": Pathwise(0.3, 8, antithetic=True),
    "score function": ScoreFunction(0.3, 8),
    "score function, single": ScoreFunction(0.3, 9, antithetic=False),
    "score function, no baseline": ScoreFunction(0.3, 9, antithetic=False, baseline=None),
    "score function, control variate": ScoreFunction(0.3, 10, baseline="control-variate"),
    "score function, Laplace": ScoreFunction(0.3, 8, distribution=torch.distributions.Laplace(0.0, 1.0)),
    "finite difference": FiniteDifference(),
    "finite difference, forward": FiniteDifference(central=False),
    "finite difference, smoothed": FiniteDifference(1e-2, samples=3, sigma=0.3),
    "finite difference, smoothed, forward": FiniteDifference(1e-2, samples=3, sigma=0.3, central=False),
    "finite difference, random": FiniteDifference(1e-2, samples=3, directions="random"),
    "finite difference, random, forward": FiniteDifference(1e-2, samples=3, central=False, directions="random"),
    "finite difference, random, smoothed": FiniteDifference(1e-2, samples=3, sigma=0.3, directions="random"),
}
EVERY = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
X = torch.tensor([-0.3, 0.5], dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def total(point):
    """An objective of one point in any structure."""
    parts = point.values() if isinstance(point, dict) else [point]
    return sum((part.double() * (index + 1)).square().sum() for index, part in enumerate(parts))


def counted(objective):
    """The objective, and a list of how many points each call had."""
    calls = []

    def counting(x):
        calls.append(len(x))
        return objective(x)

    return batched(counting), calls


@EVERY
def test_an_estimate_has_the_structure_of_the_point(source):
    points = {
        "a vector": X,
        "a matrix": torch.ones(2, 3),
        "one number": torch.tensor(0.5),
        "a single entry": torch.ones(1),
        "half precision": torch.ones(4, dtype=torch.bfloat16),
        "by name": {"weight": torch.ones(2, 2), "bias": torch.tensor(1.0, dtype=torch.float64)},
    }
    for name, x in points.items():
        estimate = source(pointwise(total), x, seeded())
        for found in (estimate.gradient, estimate.standard_error):
            if isinstance(x, dict):
                assert {key: (each.shape, each.dtype) for key, each in found.items()} == {
                    key: (each.shape, each.dtype) for key, each in x.items()
                }, name
            else:
                assert (found.shape, found.dtype) == (x.shape, x.dtype), name
        assert estimate.value.ndim == 0


@EVERY
def test_evaluations_are_the_points_at_which_the_objective_was_called(source):
    for x in (X, torch.ones(3), torch.ones(8)):
        objective, calls = counted(lambda x: x.square().sum(-1))
        estimate = source(objective, x, seeded())
        assert estimate.evaluations == sum(calls) == source.evaluations(x)
        assert len(calls) == 1


@EVERY
def test_the_same_seed_gives_the_same_bits_and_leaves_everything_else_alone(source):
    x, state = X.clone().requires_grad_(), torch.get_rng_state()
    first, again = source(multimodal, x, seeded(3)), source(multimodal, x, seeded(3))
    assert torch.equal(first.gradient, again.gradient)
    assert torch.equal(first.value, again.value)
    assert torch.equal(x.detach(), X)
    assert x.grad is None
    assert not first.gradient.requires_grad
    assert not first.value.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


@EVERY
def test_one_generator_goes_on_from_step_to_step(source):
    generator = seeded()
    first, second = (source(multimodal, X, generator).gradient for _ in range(2))
    deterministic = isinstance(source, Backprop) or (source.sigma == 0 and source.directions == "coordinates")
    assert torch.equal(first, second) == deterministic


@EVERY
def test_where_autograd_is_not_needed_it_is_not_used(source):
    weight = torch.ones(2, dtype=torch.float64, requires_grad=True)
    recorded = []

    def objective(x):
        values = (x * weight).sum(-1)
        recorded.append(values.requires_grad)
        return values

    source(objective, X, seeded())
    assert set(recorded) == {needs_autograd(source)}


@EVERY
def test_a_point_by_name_gives_the_gradient_of_the_same_vector(source):
    def of_names(point):
        return multimodal(torch.stack((point["a"], point["b"].sum())))

    by_name = source(of_names, {"a": X[0], "b": X[1:]}, seeded())
    flat = source(multimodal, X, seeded())
    torch.testing.assert_close(torch.stack((by_name.gradient["a"], by_name.gradient["b"][0])), flat.gradient)
    torch.testing.assert_close(by_name.value, flat.value)
    assert by_name.evaluations == flat.evaluations


@EVERY
def test_the_gradient_of_a_quadratic_is_found_within_its_standard_error(source):
    matrix = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)

    def quadratic(x):
        return (x @ matrix * x).sum(-1) / 2

    generator, gradients = seeded(1), []
    for _ in range(400):
        gradients.append(source(quadratic, X, generator).gradient)
    found = torch.stack(gradients)
    exact = matrix @ X  # smoothing a quadratic does not change its gradient
    error = (found.std(0) / 20).clamp(min=1e-5 * exact.abs().max())
    bias = 0.02 if getattr(source, "central", True) is False else 0.0  # delta f'' / 2 of forward differences
    assert ((found.mean(0) - exact).abs() < 4.5 * error + bias).all()


@EVERY
def test_the_standard_error_is_the_spread_of_estimates(source):
    if source.evaluations(X) < 3:
        return
    names = ("delta", "samples", "sigma", "central", "directions", "antithetic", "baseline")
    options = {name: getattr(source, name) for name in names if hasattr(source, name)}
    if options["samples"] > 1:
        options["samples"] = 60
    more = type(source)(**options)
    generator = seeded(2)
    estimates = [more(multimodal, X, generator) for _ in range(500)]
    spread = torch.stack([each.gradient for each in estimates]).std(0)
    claimed = torch.stack([each.standard_error for each in estimates]).square().mean(0).sqrt()
    if spread.max() < 1e-9:
        assert not claimed.any()
    else:
        torch.testing.assert_close(claimed, spread, rtol=0.12, atol=0)


@EVERY
def test_values_that_are_not_finite_count_as_the_worst_and_are_reported(source):
    def broken(x):
        values = (x - 5).square().sum(-1)
        return torch.where(x[..., 0] > X[0], torch.nan, values)

    estimate = source(batched(broken), X, seeded())
    if isinstance(source, Backprop):
        assert estimate.non_finite == 0
        return
    gradient = estimate.gradient
    assert gradient.isfinite().all()
    if 0 < estimate.non_finite < estimate.evaluations:
        assert f"{estimate.non_finite} of {estimate.evaluations} values" in estimate.remarks[0]
    else:
        assert source.evaluations(X) <= 9
    with pytest.raises(InvalidArgument, match="finite value at one point at least"):
        source(lambda x: x.sum(-1) * torch.nan, X, seeded())


@EVERY
def test_a_constant_objective_is_said_to_be_one(source):
    def constant(x):
        return 0 * x.sum(-1) + 3

    estimate = source(constant, X, seeded())
    assert float(estimate.value) == 3
    if getattr(source, "baseline", "none") is not None:  # which leaves 3 times the mean score
        assert not estimate.gradient.any()
    assert estimate.constant == (estimate.evaluations > 1)
    assert any("constant" in each for each in estimate.remarks) == estimate.constant
    assert not source(multimodal, X, seeded()).remarks


@EVERY
def test_the_value_is_that_of_the_objective_that_is_differentiated(source):
    sigma = getattr(source, "sigma", 0.0)
    if getattr(source, "_perturbation", None) is not None and source._perturbation.distribution is not None:
        return
    generator = seeded(5)
    values = torch.stack([source(multimodal, X, generator).value for _ in range(600)])
    exact = multimodal.smoothed(sigma)(X)
    # The value of central differences is that of points that are delta = .01 from x at most: .01^2 f'' / 2.
    allowed = 4.5 * float(values.std()) / 600**0.5 + 0.01
    assert abs(float(values.mean() - exact)) < allowed


@pytest.mark.parametrize(
    ("source", "x", "message"),
    [
        (Backprop(), None, "x must be a tensor"),
        (Backprop(), torch.ones(2, dtype=torch.int64), "floating-point"),
        (ScoreFunction(0.1, 2), torch.ones(0), "at least one entry"),
        (ScoreFunction(0.1, 2), {}, "at least one tensor"),
        (ScoreFunction(0.1, 2), {1: torch.ones(2)}, "a name in x"),
        (ScoreFunction(0.1, 2), {"a": [1.0]}, "floating-point tensor"),
    ],
)
def test_what_is_no_point_is_refused(source, x, message):
    with pytest.raises(InvalidArgument, match=message):
        source(total, x, seeded())


def test_a_source_that_draws_needs_a_generator():
    for source in (Pathwise(0.1, 2), ScoreFunction(0.1, 2), FiniteDifference(0.1, directions="random")):
        with pytest.raises(InvalidArgument, match=r"generator must be a torch.Generator .*again in the next step"):
            source(multimodal, X)
    assert FiniteDifference()(multimodal, X).evaluations == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScoreFunction(0, 10), r"sigma must be a number in \(0, inf\).*Backprop\(\) or FiniteDifference"),
        (lambda: ScoreFunction(0.1, 1, antithetic=False), "samples must be at least 2 for baseline='leave-one-out'"),
        (lambda: ScoreFunction(0.1, 1), "samples must be at least 2 for antithetic pairs"),
        (lambda: ScoreFunction(0.1, 6, baseline="control-variate"), "at least 8"),
        (lambda: ScoreFunction(0.1, 5), "even for antithetic pairs"),
        (lambda: ScoreFunction(0.1, 4, baseline="mean"), "baseline must be"),
        (lambda: Pathwise(0.1, 3, antithetic=True), "even for antithetic pairs"),
        (lambda: Pathwise(-0.1, 3), "sigma must be"),
        (lambda: FiniteDifference(0.0), "delta must be"),
        (lambda: FiniteDifference(0.1, samples=3), "samples must be 1 for differences along the coordinates"),
        (lambda: FiniteDifference(0.1, directions="rows"), "directions must be"),
        (lambda: FiniteDifference(0.1, worst="max"), "worst must be"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InvalidArgument, match=message):
        make()
