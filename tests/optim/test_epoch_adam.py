"""Adam's preconditioner an epoch: where it converges, how it cycles, and its second moment by hand."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from steepest.errors import InvalidArgument
from steepest.optim import EpochAdam, inverse_square_root

ROW = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)


def constant(_: int) -> float:
    return 1.0


def descend(optimizer: EpochAdam, theta: nn.Parameter, steps: int) -> list[float]:
    """Minimise (row theta - 1)^2 and return the residual before every step."""
    residuals = []
    for _ in range(steps):
        optimizer.zero_grad()
        residual = ROW @ theta - 1
        residual.square().backward()
        residuals.append(float(residual.detach()))
        optimizer.step()
    return residuals


def random_gradient(step: int) -> Tensor:
    g = torch.randn(4, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    g[3] = 0
    return g


def test_on_one_equation_it_converges_where_every_entry_is_the_same():
    theta = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    steps, lr = 500, 0.04
    descend(EpochAdam([theta], lr), theta, steps)
    # One entry is the other, for all move by the same; what is left of the residual is at most one step's.
    assert float(theta.detach().max() - theta.detach().min()) < 1e-12
    assert float((theta.detach() - 1 / 1.11).abs().max()) <= lr / math.sqrt(steps)


@pytest.mark.parametrize("lr", [0.01, 0.02, 0.007])
def test_constant_steps_end_in_a_cycle_of_two_residuals(lr):
    theta = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    residuals = descend(EpochAdam([theta], lr, schedule=constant), theta, 400)
    fraction = 1 / (1.11 * lr) % 1
    expected = sorted([1.11 * lr * fraction, 1.11 * lr * (1 - fraction)])
    for k in (-2, -4, -10):
        assert sorted(map(abs, residuals[k:][:2])) == pytest.approx(expected, abs=1e-9)


def test_the_cycle_at_a_rate_of_001_is_between_0001_and_00101():
    theta = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    residuals = descend(EpochAdam([theta], 0.01, schedule=constant), theta, 400)
    assert sorted(map(abs, residuals[-2:])) == pytest.approx([0.001, 0.0101], abs=1e-9)


def by_hand(gradients: list[Tensor], lr: float, per_epoch: int, schedule, decay: float) -> Tensor:
    """The mean of squares over the latest complete epoch, from a list of all gradients."""
    value = torch.ones(4, dtype=torch.float64)
    for t, g in enumerate(gradients):
        seen, complete = gradients[: t + 1], (t + 1) // per_epoch * per_epoch
        epoch = seen[complete - per_epoch : complete] if complete else seen
        v = torch.stack(epoch).square().mean(0)
        value = value * (1 - lr * decay) - torch.where(v > 0, lr * schedule(t) * g / v.sqrt(), 0)
    return value


@given(
    per_epoch=st.integers(1, 5),
    steps=st.integers(1, 12),
    schedule=st.sampled_from([inverse_square_root, constant, lambda t: 0.5**t]),
    decay=st.sampled_from([0.0, 0.3]),
    maximize=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_step_divides_by_the_root_mean_square_of_the_latest_complete_epoch(
    per_epoch, steps, schedule, decay, maximize, seed
):
    w = nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = EpochAdam([w], 0.1, per_epoch, schedule, weight_decay=decay, maximize=maximize)
    gradients = [random_gradient(100 * seed + step) for step in range(steps)]
    for g in gradients:
        w.grad = g
        optimizer.step()
    downhill = [-g for g in gradients] if maximize else gradients
    torch.testing.assert_close(w.data, by_hand(downhill, 0.1, per_epoch, schedule, decay), rtol=1e-12, atol=1e-13)


def test_with_one_step_an_epoch_it_is_sign_descent_with_the_schedule():
    w = nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = EpochAdam([w], 0.1)
    total = torch.zeros(4, dtype=torch.float64)
    for step in range(5):
        w.grad = random_gradient(step)
        optimizer.step()
        total -= 0.1 / math.sqrt(step + 1) * w.grad.sign()
    torch.testing.assert_close(w.data, total, rtol=1e-14, atol=1e-15)


def test_an_entry_whose_gradients_were_all_zero_does_not_move():
    w = nn.Parameter(torch.ones(3))
    optimizer = EpochAdam([w], 0.1, steps_per_epoch=2)
    for _ in range(3):
        w.grad = torch.tensor([1.0, 0.0, -1e-15])
        optimizer.step()
    assert float(w.detach()[1]) == 1
    assert float(w.detach()[2]) > 1.1


def test_every_parameter_counts_the_steps_in_which_it_had_a_gradient():
    a, b = (nn.Parameter(torch.zeros(2)) for _ in range(2))
    optimizer = EpochAdam([a, b], 0.1)
    for step in range(4):
        a.grad = torch.ones(2)
        b.grad = torch.ones(2) if step == 3 else None
        optimizer.step()
    assert int(optimizer.state[a]["step"]) == 4
    assert torch.equal(b, torch.full((2,), -0.1))


@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf])
def test_a_schedule_that_returns_no_step_is_refused_and_the_weights_stay(bad):
    w = nn.Parameter(torch.ones(2))
    w.grad = torch.ones(2)
    optimizer = EpochAdam([w], 0.1, schedule=lambda t: 1.0 if t < 1 else bad)
    optimizer.step()
    before = w.detach().clone()
    with pytest.raises(InvalidArgument, match=r"schedule\(1\) must be a number in \[0, inf\) \(got .*\)\. Try"):
        optimizer.step()
    assert torch.equal(w, before)


@pytest.mark.parametrize("per_epoch", [0, -1])
def test_an_epoch_without_steps_is_refused(per_epoch):
    message = rf"steps_per_epoch must be a whole number >= 1 \(got {per_epoch}\). Pass len\(loader\) or 1"
    with pytest.raises(InvalidArgument, match=message):
        EpochAdam([nn.Parameter(torch.ones(2))], 0.1, per_epoch)


@pytest.mark.parametrize(
    "options", [{"norm": None}, {"mode": "penalized"}, {"momentum": 0.0}, {"nesterov": False}], ids=str
)
def test_it_has_no_norm_mode_or_momentum_of_its_own(options):
    (name,) = options
    with pytest.raises(InvalidArgument, match=f"EpochAdam has no option {name}.* Leave it out, or use"):
        EpochAdam([nn.Parameter(torch.ones(2))], 0.1, **options)


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_state_from_a_file_goes_on_bit_for_bit_within_an_epoch_and_between(at):
    def steps(w: nn.Parameter, optimizer: EpochAdam, which: range) -> None:
        for step in which:
            w.grad = random_gradient(step).float()
            optimizer.step()

    whole, first = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    steps(whole, EpochAdam([whole], 0.1, 3), range(9))
    optimizer = EpochAdam([first], 0.1, 3)
    steps(first, optimizer, range(at))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    second = nn.Parameter(first.detach().clone())
    resumed = EpochAdam([second], 0.1, 3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert int(resumed.state[second]["step"]) == at
    steps(second, resumed, range(at, 9))
    assert torch.equal(second, whole)


def test_a_copy_keeps_its_epoch_and_its_schedule():
    w = nn.Parameter(torch.zeros(2))
    optimizer = copy.deepcopy(EpochAdam([w], 0.1, steps_per_epoch=7, schedule=constant))
    assert (optimizer.steps_per_epoch, optimizer.schedule) == (7, constant)
    (twin,) = optimizer.param_groups[0]["params"]
    for _ in range(2):
        twin.grad = torch.ones(2)
        optimizer.step()
    torch.testing.assert_close(twin.data, torch.full((2,), -0.2))


def test_the_step_count_stays_exact_in_models_of_low_precision():
    w = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    optimizer = EpochAdam([w], 1e-3)
    w.grad = torch.ones(2, dtype=torch.bfloat16)
    optimizer.step()
    optimizer.state[w]["step"] += 1000
    other = EpochAdam([w], 1e-3)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(2):
        other.step()
    assert int(other.state[w]["step"]) == 1003
