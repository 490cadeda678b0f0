"""The optimizers of steepest.optim: each claim and each refusal against runs of the real optimizer."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest import implicit_bias, optim
from steepest.errors import InvalidArgument
from steepest.implicit_bias import GradientDescent, NormSteepest, certify, predict, predict_batch, simulate, two_cycle
from steepest.norms import L1, L2, Blockwise, Ellipsoid, LInf, Lp, MaxRow, Norm, Scaled, Schatten, Spectral
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent, inverse_square_root

F64 = torch.float64
Make = Callable[..., SteepestDescent]

ONE = ([[1.0, -0.5, 0.2]], [1.0])
TWO = ([[1.0, 0.5, -0.2], [0.3, -1.0, 0.4]], [1.0, -0.5])
SQUARE = ([[1.0, 0.5], [0.3, -1.0]], [1.0, -0.5])
SEPARABLE = ([[2.0, 0.1], [0.5, 1.0], [-1.0, -0.4]], [1.0, 1.0, -1.0])


def decay(t: int) -> float:
    return 0.97**t


def steepest(norm: Norm[Any], **options: Any) -> Make:
    return functools.partial(SteepestDescent, norm=norm, **{"lr": 0.2, **options})


def slope(A: Tensor, b: Tensor, theta: Tensor, loss: str) -> Tensor:
    values = A @ theta
    if loss == "squared":
        return A.mT @ (values - b)
    return A.mT @ (-b * torch.sigmoid(-b * values))


def run(
    optimizer: torch.optim.Optimizer, A: Any, b: Any, steps: int, loss: str = "squared", rates: Any = None
) -> Tensor:
    """Run a live optimizer until it rests at a solution; return where its parameters are, flattened and joined."""
    A, b = torch.as_tensor(A, dtype=F64), torch.as_tensor(b, dtype=F64)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    sizes = [p.numel() for p in parameters]
    theta = torch.cat([p.detach().flatten() for p in parameters])
    for t in range(steps):
        if rates is not None:
            for group in optimizer.param_groups:
                group["lr"] = rates(t)
        gradient, before = slope(A, b, theta, loss), theta
        for p, g in zip(parameters, gradient.split(sizes), strict=True):
            p.grad = g.reshape(p.shape).clone()
        optimizer.step()
        theta = torch.cat([p.detach().flatten() for p in parameters])
        if max(float(gradient.abs().max()), float((theta - before).abs().max())) < 1e-13:
            break
    return theta


def live(make: Make, n: int = 3, shape: tuple[int, ...] | None = None) -> SteepestDescent:
    return make([nn.Parameter(torch.zeros(shape or (n,), dtype=F64))])


# Name -> the optimizer, a problem, the shape of theta, the end of another rule that solves the equations as well.
DETERMINED: dict[str, tuple[Make, tuple[Any, Any], tuple[int, ...], implicit_bias.Rule | None]] = {
    "l2": (steepest(L2()), TWO, (3,), NormSteepest(LInf(), "constrained")),
    "l2, heavy ball": (steepest(L2(), momentum=0.9, lr=0.05), TWO, (3,), None),
    "l2, nesterov": (steepest(L2(), momentum=0.8, nesterov=True), TWO, (3,), None),
    "ellipsoid": (steepest(Ellipsoid(torch.tensor([1.0, 4.0, 0.5])), lr=0.1), TWO, (3,), GradientDescent()),
    "ellipsoid, momentum": (steepest(Ellipsoid(torch.tensor([1.0, 4.0, 0.5])), lr=0.05, momentum=0.5), TWO, (3,), None),
    "scaled lp = 2": (steepest(Scaled(Lp(2.0), by=2.0)), TWO, (3,), None),
    "l1": (steepest(L1()), ONE, (3,), GradientDescent()),
    "l1, heavy ball": (steepest(L1(), momentum=0.5), ONE, (3,), GradientDescent()),
    "lp, nesterov": (steepest(Lp(3.0), momentum=0.5, nesterov=True), ONE, (3,), GradientDescent()),
    "sign": (functools.partial(SignDescent, lr=0.2), ONE, (3,), GradientDescent()),
    "sign, momentum": (functools.partial(SignDescent, lr=0.2, momentum=0.5), ONE, (3,), GradientDescent()),
    "exact spectral of a row": (steepest(Spectral(exact=True)), ONE, (1, 3), NormSteepest(LInf(), "constrained")),
    "schatten of a row, momentum": (steepest(Schatten(3.0), momentum=0.5), ONE, (1, 3), None),
    "l1, one solution": (steepest(L1()), SQUARE, (2,), None),
    "linf, one solution": (steepest(LInf(), lr=0.1), SQUARE, (2,), None),
    "lp, one solution, momentum": (steepest(Lp(1.5), momentum=0.3, lr=0.1), SQUARE, (2,), None),
    "epoch adam": (functools.partial(EpochAdam, lr=0.1, schedule=decay), ONE, (3,), GradientDescent()),
}


@pytest.mark.parametrize("name", DETERMINED)
def test_the_real_optimizer_ends_at_its_prediction_which_certifies_that_end_and_no_other(name):
    make, (A, b), shape, other = DETERMINED[name]
    prediction = predict(make, A, b)
    assert prediction.determined, prediction.reason
    assert f"steepest.optim.{make.func.__name__}" in prediction.reason
    optimizer = live(make, shape=shape)
    end = run(optimizer, A, b, 1500)
    assert torch.allclose(end, prediction.point, rtol=1e-8, atol=1e-9)
    for rule in (make, optimizer):  # which now holds the state of the end
        assert certify(rule, A, b, end, theta0=torch.zeros(end.shape)).passed
    if other is not None:
        elsewhere = predict(other, A, b).point if len(A) == 1 else _other_solution(A, b, end)
        assert (torch.tensor(A, dtype=F64) @ elsewhere - torch.tensor(b, dtype=F64)).abs().max() < 1e-9
        assert not certify(make, A, b, elsewhere).passed


def _other_solution(A: Any, b: Any, end: Tensor) -> Tensor:
    return end + torch.linalg.svd(torch.tensor(A, dtype=F64)).Vh[-1] / 10


def test_epoch_adam_by_default_comes_as_near_to_its_prediction_as_its_steps_are_short():
    make = functools.partial(EpochAdam, lr=0.2)
    prediction = predict(make, *ONE)
    assert prediction.determined
    assert prediction.point.tolist() == pytest.approx([1 / 1.7, -1 / 1.7, 1 / 1.7], rel=1e-12)
    for steps in (10, 100, 1000):
        end = run(live(make), *ONE, steps)
        assert (end - prediction.point).abs().max() <= 0.2 * steps**-0.5


# Name -> the optimizer, the problem, what the reason has to say.
UNKNOWN: dict[str, tuple[Make, tuple[Any, Any], str]] = {
    "constrained sign": (functools.partial(SignDescent, lr=0.1, mode="constrained"), ONE, "2-cycle"),
    "constrained sign, a whole number": (
        functools.partial(SignDescent, lr=0.5 / 1.7, mode="constrained"),
        ONE,
        "round",
    ),
    "constrained sign, several": (functools.partial(SignDescent, lr=0.1, mode="constrained"), TWO, "constant rate"),
    "constrained sign, one solution": (steepest(LInf(), mode="constrained"), SQUARE, "constant rate"),
    "constrained l2": (steepest(L2(), mode="constrained"), TWO, "constant rate"),
    "constrained l1": (steepest(L1(), mode="constrained"), ONE, "2-cycle"),
    "signum": (functools.partial(SignDescent, lr=0.1, mode="constrained", momentum=0.9), ONE, "constant rate"),
    "muon": (functools.partial(Muon, lr=0.1), ONE, "constant rate"),
    "scion": (functools.partial(Scion, lr=0.1), ONE, "constant rate"),
    "scion without momentum": (functools.partial(Scion, lr=0.1, momentum=0.0), ONE, "2-cycle"),
    "approximate spectral": (steepest(Spectral()), ONE, "approximated"),
    "penalized sign, several": (functools.partial(SignDescent, lr=0.1), TWO, "depends on the steps"),
    "l1, several": (steepest(L1(), momentum=0.5), TWO, "depends on the steps"),
    "l1, two largest entries": (steepest(L1()), ([[1.0, -1.0]], [1.0]), "several steepest directions"),
    "weight decay": (steepest(L2(), weight_decay=0.1), ONE, "weight decay"),
    "maximize": (steepest(L2(), maximize=True), ONE, "maximize"),
    "no rate": (steepest(L2(), lr=0.0), ONE, "learning rate of 0"),
    "epochs of several steps": (functools.partial(EpochAdam, lr=0.1, steps_per_epoch=3), ONE, "steps per epoch"),
    "epoch adam, several": (functools.partial(EpochAdam, lr=0.1), TWO, "depends on the steps"),
    "epoch adam, constant": (functools.partial(EpochAdam, lr=0.1, schedule=lambda _t: 1.0), ONE, "vanish"),
    "epoch adam, short tail": (functools.partial(EpochAdam, lr=1.0, schedule=lambda t: 0.4**t), ONE, "less than"),
    "epoch adam, too slow": (functools.partial(EpochAdam, lr=1e-3, schedule=decay), ONE, "stops short"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_no_theorem_covers_is_not_determined_and_the_reason_says_why(name):
    make, (A, b), why = UNKNOWN[name]
    prediction = predict(make, A, b)
    assert not prediction.determined
    assert prediction.point is None
    assert why in prediction.reason
    assert "torch.optim" not in prediction.reason
    assert not certify(make, A, b, torch.linalg.pinv(torch.tensor(A, dtype=F64)) @ torch.tensor(b, dtype=F64)).passed


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(SignDescent, lr=0.07, mode="constrained"),
        steepest(L1(), lr=0.07, mode="constrained"),
        steepest(L2(), lr=0.07, mode="constrained"),
        steepest(Lp(3.0), lr=0.07, mode="constrained"),
        functools.partial(Scion, lr=0.07, momentum=0.0),
    ],
    ids=["sign", "l1", "l2", "lp", "scion"],
)
def test_the_residuals_of_the_cycle_that_the_reason_names_are_those_of_the_real_run(make):
    reason = predict(make, *ONE).reason
    said = sorted(float(x) for x in re.findall(r"between (\S+) and (\S+) ", reason)[0])
    optimizer, A = live(make), torch.tensor(ONE[0], dtype=F64)
    ends = [float((A @ run(optimizer, *ONE, steps) - 1).abs()) for steps in (1000, 1)]
    assert said == pytest.approx(sorted(ends), rel=1e-5)
    assert said[1] > 0.01


def test_the_cycle_of_a_live_optimizer_counts_the_rates_of_its_groups():
    x, y = (nn.Parameter(torch.zeros(k, dtype=F64)) for k in (1, 2))
    optimizer = SignDescent([{"params": [x], "lr": 0.05}, {"params": [y]}], lr=0.1, mode="constrained")
    small, large = two_cycle([0.05 + 0.1 * 0.7], 1.0)
    assert f"between {small:.6g} and {large:.6g}" in predict(optimizer, *ONE).reason
    end = run(optimizer, *ONE, 500)
    assert min(abs(abs(float(torch.tensor(ONE[0][0], dtype=F64) @ end) - 1) - c) for c in (small, large)) < 1e-12


def test_a_constrained_optimizer_rests_where_every_term_of_the_gradient_is_zero():
    make = functools.partial(SignDescent, lr=0.1, mode="constrained")
    assert predict(make, [[1.0, 2.0]], [0.0]).point.tolist() == [0.0, 0.0]
    assert run(live(make, 2), [[1.0, 2.0]], [0.0], 5).tolist() == [0.0, 0.0]
    # A start that solves the equation to rounding is left by a step of full length.
    assert not predict(make, [[0.1, 0.2]], [0.3], [1.0, 1.0]).determined


REAL: dict[str, tuple[Make, tuple[int, ...]]] = {
    **{name: (make, shape) for name, (make, _, shape, _) in DETERMINED.items() if shape != (2,)},
    "constrained sign": (functools.partial(SignDescent, lr=0.1, mode="constrained"), (3,)),
    "signum": (functools.partial(SignDescent, lr=0.1, mode="constrained", momentum=0.9), (3,)),
    "muon": (functools.partial(Muon, lr=0.1), (1, 3)),
    "scion": (functools.partial(Scion, lr=0.1, weight_decay=0.1), (3,)),
    "rows": (steepest(MaxRow(), mode="constrained"), (1, 3)),
    "epochs of three steps": (functools.partial(EpochAdam, lr=0.1, steps_per_epoch=3), (3,)),
}


@pytest.mark.parametrize("name", REAL)
def test_a_simulation_takes_the_steps_of_the_real_optimizer(name):
    make, shape = REAL[name]

    def rates(t: int) -> float:
        return 0.05 / (t + 1) ** 0.3

    start = torch.tensor([0.3, -0.2, 0.1], dtype=F64)
    simulation = simulate(make, *TWO, rates, 40, theta0=start)
    optimizer = make([nn.Parameter(start.clone().reshape(shape))])
    assert torch.allclose(simulation.point[0], run(optimizer, *TWO, 40, rates=rates), rtol=1e-12, atol=1e-12)


def test_a_simulation_that_diverges_ends_in_numbers_that_are_not_finite_beside_one_that_does_not():
    simulation = simulate(steepest(L2()), *TWO, [1e200, 0.2], 60)
    assert simulation.point.isfinite().all(dim=1).tolist() == [False, True]


def test_a_simulation_of_epoch_adam_converges_by_the_product_of_its_rate_and_its_own_schedule():
    make = functools.partial(EpochAdam, lr=0.1, schedule=decay)
    simulation = simulate(make, *ONE, [0.1, lambda t: 0.1 * 0.5**t], 1200)
    assert simulation.converged.tolist() == [True, False]
    assert torch.allclose(simulation.point[0], predict(make, *ONE).point, atol=1e-9)


def test_a_spread_runs_an_optimizer_of_constant_length_at_its_own_rate():
    spread = predict(functools.partial(SignDescent, lr=0.07, mode="constrained"), *ONE).spread(steps=400)
    assert spread.rested == 0
    assert spread.distance > 0.001
    quadratic = predict(steepest(L2()), *TWO).spread(steps=2000)
    assert quadratic.rested >= 2
    assert quadratic.distance < 1e-6


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_groups_with_rates_and_norms_of_their_own_are_one_norm_of_all(momentum):
    x, y = nn.Parameter(torch.tensor([0.3], dtype=F64)), nn.Parameter(torch.tensor([0.0, -0.4], dtype=F64))
    groups = [{"params": [x], "lr": 0.05, "norm": L2()}, {"params": [y], "factor": 2.0, "norm": LInf()}]
    optimizer = SteepestDescent(groups, lr=0.1, momentum=momentum)
    prediction = predict(optimizer, *ONE)
    assert prediction.determined
    # d(a) of each group, times its rate and its dual norm: .05 * 1, and .2 * .7 sign(y).
    direction = torch.tensor([0.05, -0.14, 0.14], dtype=F64)
    start = torch.tensor([0.3, 0.0, -0.4], dtype=F64)
    a = torch.tensor(ONE[0][0], dtype=F64)
    expected = start + direction * (1 - a @ start) / (a @ direction)
    assert torch.allclose(prediction.point, expected, rtol=1e-12)
    assert torch.allclose(run(optimizer, *ONE, 2000), expected, rtol=1e-9)


def test_groups_of_quadratic_norms_are_a_preconditioner():
    x, y = nn.Parameter(torch.zeros(1, dtype=F64)), nn.Parameter(torch.zeros(2, dtype=F64))
    D = torch.tensor([3.0, 0.5])
    groups = [{"params": [x], "norm": Scaled(L2(), by=0.5)}, {"params": [y], "lr": 0.2, "norm": Ellipsoid(D)}]
    optimizer = SteepestDescent(groups, lr=0.1, momentum=0.5)
    rule = implicit_bias.Preconditioned([0.4, 0.6, 0.1])
    assert torch.allclose(predict(optimizer, *TWO).point, predict(rule, *TWO).point, rtol=1e-12)
    assert torch.allclose(run(optimizer, *TWO, 1500), predict(rule, *TWO).point, rtol=1e-8)


@pytest.mark.parametrize("combine", ["max", "l2", "sum"])
def test_a_norm_of_the_network_is_predicted_as_it_steps(combine):
    x, y = nn.Parameter(torch.zeros(1, dtype=F64)), nn.Parameter(torch.zeros(2, dtype=F64))
    norm = Blockwise({"x": Scaled(L2(), by=2.0), "y": LInf()}, combine)
    optimizer = SteepestDescent([("x", x), ("y", y)], norm, lr=0.1)
    prediction = predict(optimizer, *ONE)
    assert prediction.determined
    assert torch.allclose(run(optimizer, *ONE, 1500), prediction.point, rtol=1e-8, atol=1e-12)


def test_momentum_that_is_under_way_carries_a_quadratic_norm_on_and_nothing_is_claimed_of_others():
    def under_way(norm: Norm[Any]) -> SteepestDescent:
        optimizer = live(steepest(norm, momentum=0.8, lr=0.05))
        run(optimizer, [[0.2, 1.0, -1.0]], [3.0], 5)
        return optimizer

    optimizer = under_way(Ellipsoid(torch.tensor([1.0, 2.0, 0.5])))
    prediction = predict(optimizer, *TWO)
    assert prediction.determined
    assert "under way" in prediction.reason
    assert torch.allclose(run(optimizer, *TWO, 1500), prediction.point, rtol=1e-8)
    other = predict(under_way(Lp(3.0)), *ONE)
    assert not other.determined
    assert "under way" in other.reason


@pytest.mark.parametrize("before", [7, 100])
def test_a_live_epoch_adam_goes_on_with_its_own_schedule(before):
    optimizer = live(functools.partial(EpochAdam, lr=0.1, schedule=decay))
    end = run(optimizer, *ONE, before)
    other = ([[0.4, 1.0, -0.3]], [0.5])
    prediction = predict(optimizer, *other)
    gap = abs(float(torch.tensor(other[0][0], dtype=F64) @ end) - 0.5) / 1.7
    enough = 0.1 * 0.97**before / 0.03 > gap
    assert prediction.determined == enough
    assert enough == (before == 7)
    after = run(optimizer, *other, 1500)
    if enough:
        assert torch.allclose(after, prediction.point, atol=1e-9)
    else:
        assert "stops short" in prediction.reason
        assert abs(float(torch.tensor(other[0][0], dtype=F64) @ after) - 0.5) > 0.01


def test_parameters_of_epoch_adam_that_have_taken_different_numbers_of_steps_are_no_rule():
    x, y = nn.Parameter(torch.zeros(1, dtype=F64)), nn.Parameter(torch.zeros(2, dtype=F64))
    optimizer = EpochAdam([x, y], lr=0.1)
    x.grad = torch.ones(1, dtype=F64)
    optimizer.step()
    assert "different numbers of steps" in predict(optimizer, *ONE).reason


def test_hooks_schedulers_and_classes_of_ones_own_keep_from_a_claim():
    class Own(SteepestDescent):
        pass

    assert "nothing is known" in predict(functools.partial(Own, norm=L2(), lr=0.1), *ONE).reason
    hooked = live(steepest(L2()))
    hooked.register_step_post_hook(lambda *_: None)
    assert "hooks" in predict(hooked, *ONE).reason
    replaced = live(steepest(L2()))
    replaced.step = replaced.zero_grad  # type: ignore[method-assign]
    assert "step of its own" in predict(replaced, *ONE).reason
    scheduled = live(functools.partial(SignDescent, lr=0.1, mode="constrained"))
    torch.optim.lr_scheduler.ExponentialLR(scheduled, 0.99)
    reason = predict(scheduled, *ONE).reason
    assert "scheduler" in reason
    assert "2-cycle" not in reason
    epochs = live(functools.partial(EpochAdam, lr=0.1))
    assert predict(epochs, *ONE).determined
    torch.optim.lr_scheduler.ExponentialLR(epochs, 0.5)
    assert "scheduler" in predict(epochs, *ONE).reason
    assert not predict(epochs, *ONE).determined
    penalized = live(steepest(L2()))
    torch.optim.lr_scheduler.ExponentialLR(penalized, 0.999)
    assert predict(penalized, *TWO).determined


@pytest.mark.parametrize(
    ("option", "given", "why"),
    [
        ("lr", -0.1, "below 0"),
        ("lr", math.inf, "not finite"),
        ("lr", math.nan, "not finite"),
        ("momentum", 1.0, "[0, 1)"),
    ],
)
@pytest.mark.parametrize("norm", [L2(), LInf()], ids=repr)
def test_options_that_were_changed_to_what_no_optimizer_takes_are_not_claimed(norm, option, given, why):
    optimizer = live(steepest(norm))
    optimizer.param_groups[0][option] = given
    prediction = predict(optimizer, *ONE)
    assert not prediction.determined
    assert why in prediction.reason


def test_a_group_whose_factor_is_zero_stays_in_a_quadratic_norm_and_is_not_claimed_in_another():
    x, y = nn.Parameter(torch.tensor([0.3], dtype=F64)), nn.Parameter(torch.zeros(2, dtype=F64))
    optimizer = SteepestDescent([{"params": [x], "factor": 0.0}, {"params": [y]}], L2(), lr=0.5)
    prediction = predict(optimizer, *ONE)
    assert torch.allclose(run(optimizer, *ONE, 500), prediction.point, rtol=1e-9)
    assert prediction.point[0] == 0.3
    other = SteepestDescent([{"params": [x], "factor": 0.0}, {"params": [y]}], LInf(), lr=0.5)
    assert "0 in a group" in predict(other, *ONE).reason
    assert predict(other, *ONE).spread(steps=20).simulation.point.isfinite().all()


def test_groups_with_a_momentum_of_their_own_are_not_claimed():
    x, y = nn.Parameter(torch.zeros(1, dtype=F64)), nn.Parameter(torch.zeros(2, dtype=F64))
    optimizer = SteepestDescent([{"params": [x], "momentum": 0.9}, {"params": [y]}], L2(), lr=0.02)
    assert "different momentum" in predict(optimizer, *ONE).reason
    # It ends at another point than with one momentum for all.
    plain = predict(GradientDescent(), *ONE).point
    assert (run(optimizer, *ONE, 1500) - plain).abs().max() > 0.01


def test_epoch_adam_by_default_reaches_the_only_solution_of_several_equations():
    make = functools.partial(EpochAdam, lr=0.2)
    prediction = predict(make, *SQUARE)
    assert prediction.determined
    assert torch.allclose(run(live(make, 2), *SQUARE, 1500), prediction.point, atol=0.05)
    assert not predict(functools.partial(EpochAdam, lr=0.2, schedule=decay), *SQUARE).determined


def test_an_optimizer_that_cannot_be_made_from_a_vector_or_a_row_is_refused():
    for make in (SteepestDescent, SignDescent, steepest(Ellipsoid(torch.ones(5)))):
        with pytest.raises(InvalidArgument, match="made from parameters alone"):
            predict(make, *ONE)


def test_a_batch_takes_these_optimizers_beside_rules():
    rules = [steepest(L2()), implicit_bias.SignDescent(), torch.optim.SGD]
    points = [prediction.point for prediction in predict_batch(rules, [ONE[0]] * 3, [ONE[1]] * 3)]
    assert torch.allclose(points[0], points[2])
    assert not torch.allclose(points[0], points[1])


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_directions_on_separable_data_are_those_of_the_rules(loss):
    pairs = [
        (steepest(L2(), momentum=0.9), GradientDescent()),
        (steepest(Ellipsoid(torch.tensor([1.0, 5.0]))), implicit_bias.Preconditioned([1.0, 5.0])),
        (functools.partial(SignDescent, lr=0.1), NormSteepest(LInf())),
        (steepest(L1()), NormSteepest(L1())),
        (functools.partial(EpochAdam, lr=0.1), implicit_bias.SignDescent()),
    ]
    for make, rule in pairs:
        own, known = predict(make, *SEPARABLE, loss=loss), predict(rule, *SEPARABLE, loss=loss)
        assert own.determined == known.determined
        if known.determined:
            assert torch.allclose(own.direction, known.direction, atol=1e-9)
    unknown = {
        "1710.10345": steepest(L2(), momentum=0.9, nesterov=True),
        "without momentum": functools.partial(SignDescent, lr=0.1, momentum=0.5),
        "2502.04664": functools.partial(SignDescent, lr=0.1, mode="constrained"),
        "infinite sum": functools.partial(EpochAdam, lr=0.1, schedule=decay),
    }
    for why, make in unknown.items():
        prediction = predict(make, *SEPARABLE, loss=loss)
        assert not prediction.determined
        assert why in prediction.reason


def test_a_real_run_on_separable_data_approaches_the_direction_of_its_norm():
    A, b = [[1.0, 0.3], [1.0, 0.1]], [1.0, 1.0]
    quadratic, signs = steepest(L2(), lr=5.0), functools.partial(EpochAdam, lr=1.0)
    for make, other in ((quadratic, signs), (signs, quadratic)):
        ends = [run(live(make, 2), A, b, steps, loss="logistic") for steps in (10, 1000)]
        early, late = (certify(make, A, b, end, loss="logistic", tolerance=0.1) for end in ends)
        assert late.passed
        assert late.error <= early.error
        assert not certify(other, A, b, ends[1], loss="logistic", tolerance=0.1).passed


def _drawn(seed: int) -> tuple[SteepestDescent, Tensor, Tensor]:
    """Return a live optimizer of one to three parameters, and equations that have a solution."""
    g = torch.Generator().manual_seed(seed)

    def pick(choices: list[Any]) -> Any:
        return choices[int(torch.randint(len(choices), (), generator=g))]

    sizes = pick([[3], [1, 2], [2, 2], [1, 1, 2]])
    n = sum(sizes)
    m = pick([1, 1, 1, 2, n])
    A = torch.randn(m, n, generator=g, dtype=F64) + (3 * torch.eye(n, dtype=F64) if m == n else 0)
    solution = torch.randn(n, generator=g, dtype=F64)
    norms = [L2(), LInf(), L1(), Lp(3.0), Lp(1.5), Scaled(LInf(), by=0.7), Scaled(L2(), by=2.0)]
    momentum = pick([0.0, 0.0, 0.5, 0.9])
    groups = [
        {
            "params": [nn.Parameter(torch.randn(k, generator=g, dtype=F64) / 2)],
            "norm": pick([*norms, Ellipsoid(1 + 3 * torch.rand(k, generator=g, dtype=F64))]),
            "lr": pick([0.5, 1.0]),
            "factor": pick([1.0, 0.5]),
        }
        for k in sizes
    ]
    nesterov = momentum > 0 and pick([True, False])
    return SteepestDescent(groups, momentum=momentum, nesterov=nesterov), A, A @ solution


def _rests_at_its_prediction(seed: int) -> str:
    optimizer, A, b = _drawn(seed)
    prediction = predict(optimizer, A, b)
    groups = optimizer.param_groups
    # A rate at which the run converges: no step crosses an equation twice.
    columns = A.split([group["params"][0].numel() for group in groups], 1)
    squares = [
        group["lr"] * group["factor"] * sum(float(group["norm"].dual_norm(row)) ** 2 for row in rows)
        for group, rows in zip(groups, columns, strict=True)
    ]
    for group in groups:
        group["lr"] *= (1 - group["momentum"]) / sum(squares)
    end = run(optimizer, A, b, 1000)
    if not prediction.determined:
        return "unknown"
    solved = float((A @ end - b).norm()) < 1e-10
    if solved:
        assert torch.allclose(end, prediction.point, rtol=1e-6, atol=1e-7), prediction.reason
    return "checked" if solved else "slow"


def test_random_optimizers_end_at_their_predictions_where_there_are_any():
    found = [_rests_at_its_prediction(seed) for seed in range(12)]
    assert found.count("checked") >= 6
    assert found.count("unknown") >= 1


@pytest.mark.slow
def test_hundreds_of_random_optimizers_end_at_their_predictions_where_there_are_any():
    found = [_rests_at_its_prediction(seed) for seed in range(12, 200)]
    assert found.count("checked") >= 90


def test_the_two_packages_share_one_schedule():
    assert implicit_bias.inverse_square_root is optim.inverse_square_root is inverse_square_root
    assert math.isclose(inverse_square_root(2**300), 2.0**-150)
