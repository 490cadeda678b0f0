"""Options of torch's optimizers that there are none of here, and gradients that are taken as they come."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from steepest.errors import InvalidArgument, NonFiniteGradient, UnknownName
from steepest.norms import L2, LInf, Spectral
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent

REMEDIES = {
    "foreach": "Leave it out: small tensors are always taken together.",
    "fused": r"Leave it out; torch.compile\(optimizer.step\) fuses.",
    "capturable": 'Leave it out: with nonfinite="ignore" and a tensor as lr a step can be captured.',
    "differentiable": "Write it with steepest.norms.penalized_step; autograd follows all but the polar factor.",
}
EVERY_OPTION = pytest.mark.parametrize(("option", "remedy"), REMEDIES.items(), ids=REMEDIES)
MAKERS = {
    "SteepestDescent": lambda params, **options: SteepestDescent(params, L2(), 0.1, **options),
    "SignDescent": lambda params, **options: SignDescent(params, 0.1, **options),
    "Muon": lambda params, **options: Muon(params, 0.1, **options),
    "Scion": lambda params, **options: Scion(params, 0.1, **options),
    "EpochAdam": lambda params, **options: EpochAdam(params, 0.1, **options),
}
EVERY_MAKER = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def matrix() -> nn.Parameter:
    return nn.Parameter(torch.ones(2, 2))


@pytest.mark.parametrize("value", [True, False, None])
@EVERY_OPTION
@EVERY_MAKER
def test_an_option_of_torchs_is_refused_with_a_remedy_whatever_its_value(make, option, remedy, value):
    with pytest.raises(InvalidArgument, match=f"{option} is not an option here.*{remedy}"):
        make([matrix()], **{option: value})


@EVERY_OPTION
@EVERY_MAKER
def test_it_is_refused_in_a_group_that_sets_it(make, option, remedy):
    with pytest.raises(InvalidArgument, match=rf"{option} is not an option here \(got True\)\. {remedy}"):
        make([{"params": [matrix()], option: True}])
    optimizer = make([matrix()])
    with pytest.raises(InvalidArgument, match=f"{option} is not an option here"):
        optimizer.add_param_group({"params": [matrix()], option: True})
    assert len(optimizer.param_groups) == 1
    make([{"params": [matrix()], option: False}])  # as groups that come from one of torch's optimizers say


@EVERY_MAKER
def test_an_unknown_option_is_refused_with_the_nearest_ones(make):
    with pytest.raises(
        UnknownName, match=r"there is no such option \(got 'weight_decai'\). Did you mean weight_decay\?"
    ):
        make([matrix()], weight_decai=0.1)


@pytest.mark.parametrize("name", ["steps", "lookahead"])
def test_an_unknown_option_is_refused_with_all_known_ones(name):
    known = "Known: norm, lr, mode, momentum, nesterov, weight_decay, maximize, nonfinite"
    with pytest.raises(UnknownName, match=known):
        SteepestDescent([matrix()], L2(), **{name: 1})


@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay"])
def test_a_number_that_is_none_is_refused(name):
    with pytest.raises(InvalidArgument, match=rf"{name} must be a number in \[0, (inf|1)\) \(got '0.1'\)"):
        SteepestDescent([matrix()], **{"norm": L2(), name: "0.1"})


def test_a_learning_rate_of_several_numbers_is_refused_as_an_invalid_argument():
    with pytest.raises(InvalidArgument, match="lr"):
        SteepestDescent([matrix()], L2(), torch.tensor([0.1, 0.1]))


def test_an_epoch_has_a_whole_number_of_steps():
    with pytest.raises(InvalidArgument, match="steps_per_epoch must be a whole number >= 1"):
        EpochAdam([matrix()], 0.1, steps_per_epoch=1.5)


@pytest.mark.parametrize("make", [Muon, Scion], ids=["Muon", "Scion"])
def test_presets_that_choose_the_norm_refuse_another_rather_than_ignore_it(make):
    with pytest.raises(InvalidArgument, match="norm"):
        make([matrix()], 0.1, norm=L2())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_ignored_gradients_that_are_not_finite_step_as_in_torch(bad):
    results = []
    for ours in (True, False):
        a, b = matrix(), matrix()
        options = {"lr": 0.1, "momentum": 0.9}
        optimizer = (
            SteepestDescent([a, b], L2(), nonfinite="ignore", **options) if ours else torch.optim.SGD([a, b], **options)
        )
        a.grad, b.grad = torch.ones(2, 2), torch.full((2, 2), bad)
        optimizer.step()
        results.append([a.data, b.data, optimizer.state[b]["momentum_buffer"]])
    torch.testing.assert_close(*results, equal_nan=True)


@EVERY_MAKER
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_no_preset_changes_anything_in_a_step_with_a_gradient_that_is_not_finite(make, nonfinite):
    a, b = matrix(), matrix()
    optimizer = make([a, b], nonfinite=nonfinite, weight_decay=0.1)
    a.grad, b.grad = torch.eye(2), torch.eye(2)
    optimizer.step()
    before = [p.detach().clone() for p in (a, b)]
    state = [{n: v.clone() for n, v in optimizer.state.get(p, {}).items()} for p in (a, b)]
    b.grad = torch.full((2, 2), math.nan)
    if nonfinite == "raise":
        with pytest.raises(NonFiniteGradient, match="NaN or infinity in parameter"):
            optimizer.step()
    else:
        optimizer.step()
    torch.testing.assert_close([p.data for p in (a, b)], before, rtol=0, atol=0)
    torch.testing.assert_close([dict(optimizer.state.get(p, {})) for p in (a, b)], state, rtol=0, atol=0)


@pytest.mark.parametrize("norm", [L2(), LInf(), Spectral()], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_gradients_whose_squares_overflow_are_finite(norm, dtype):
    w = nn.Parameter(torch.zeros(2, 2, dtype=dtype))
    w.grad = torch.diag(torch.full((2,), torch.finfo(dtype).max / 4)).to(dtype)
    SteepestDescent([w], norm, 0.5, mode="constrained").step()
    assert bool(w.isfinite().all())
    assert bool(w.any())
