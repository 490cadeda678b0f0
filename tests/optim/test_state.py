"""What an optimizer remembers: saved, loaded, copied, scheduled."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from steepest.errors import NonFiniteGradient
from steepest.norms import L2, LInf, Spectral
from steepest.optim import Muon, SignDescent, SteepestDescent

MAKERS = {
    "L2 with momentum": lambda params: SteepestDescent(params, L2(), 0.1, momentum=0.9, nesterov=True),
    "spectral": lambda params: SteepestDescent(params, Spectral(), 0.1, mode="constrained", weight_decay=0.1),
    "sign": lambda params: SignDescent(params, 0.01, momentum=0.5),
    "Muon": lambda params: Muon(params, 0.1),
    "two groups": lambda params: SteepestDescent(
        [{"params": params[:1], "norm": Spectral()}, {"params": params[1:], "norm": LInf(), "lr": 0.01}],
        lr=0.1,
        momentum=0.9,
    ),
}
EVERY_MAKER = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def model() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 2, bias=False))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("carry", [lambda state: state, copy.deepcopy, through_a_file], ids=["as is", "copied", "file"])
@EVERY_MAKER
def test_a_loaded_run_goes_on_bit_for_bit(make, carry):
    whole, first, second = model(), model(), model()
    train(whole, make(list(whole.parameters())), range(10))
    optimizer = make(list(first.parameters()))
    train(first, optimizer, range(5))
    second.load_state_dict(first.state_dict())
    resumed = make(list(second.parameters()))
    resumed.load_state_dict(carry(optimizer.state_dict()))
    train(second, resumed, range(5, 10))
    for p, q in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


@EVERY_MAKER
def test_taking_the_state_leaves_the_optimizer_as_it_was(make):
    net = model()
    optimizer = make(list(net.parameters()))
    norms = [group["norm"] for group in optimizer.param_groups]
    state = optimizer.state_dict()
    assert [group["norm"] for group in state["param_groups"]] == list(map(repr, norms))
    assert [group["norm"] for group in optimizer.param_groups] == norms
    train(net, optimizer, range(1))


def test_loading_takes_the_saved_options_and_keeps_the_own_norm_and_the_given_state():
    net = model()
    saved = SteepestDescent(net.parameters(), L2(), 0.1, mode="constrained", momentum=0.9).state_dict()
    before = copy.deepcopy(saved)
    optimizer = SteepestDescent(net.parameters(), LInf(), 0.5)
    optimizer.load_state_dict(saved)
    (group,) = optimizer.param_groups
    assert (group["norm"], group["lr"], group["mode"], group["momentum"]) == (LInf(), 0.1, "constrained", 0.9)
    assert saved == before


@pytest.mark.parametrize("split", [1, 2])
def test_a_state_with_another_number_of_groups_is_refused(split):
    net = model()
    weights = list(net.parameters())
    groups = [[{"params": weights}], [{"params": [w]} for w in weights]]
    optimizer, other = (SteepestDescent(group, L2()) for group in (groups if split == 1 else groups[::-1]))
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(other.state_dict())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_copied_optimizer_keeps_its_answer_to_gradients_that_are_not_finite(duplicate):
    for nonfinite in ("skip", "raise"):
        w = nn.Parameter(torch.ones(2))
        optimizer = duplicate(SteepestDescent([w], L2(), 0.1, nonfinite=nonfinite))
        (twin,) = optimizer.param_groups[0]["params"]
        twin.grad = torch.tensor([1.0, float("nan")])
        if nonfinite == "raise":
            with pytest.raises(NonFiniteGradient):
                optimizer.step()
        else:
            optimizer.step()
        assert torch.equal(twin.data, torch.ones(2))


@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)], ids=["number", "tensor"])
def test_lambda_lr_scales_the_step(lr):
    w = nn.Parameter(torch.zeros(2))
    optimizer = SteepestDescent([w], LInf(), lr, mode="constrained")
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(3):
        w.grad = torch.tensor([1.0, -1.0])
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(w.data, torch.tensor([-0.875, 0.875]))
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.0625)


def test_torchs_cosine_schedule_ends_at_zero():
    w = nn.Parameter(torch.zeros(2))
    optimizer = SteepestDescent([w], L2(), 0.5)
    scheduler = CosineAnnealingLR(optimizer, T_max=4)
    for _ in range(4):
        w.grad = torch.ones(2)
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("mode", ["penalized", "constrained"])
def test_a_learning_rate_may_be_a_tensor(mode):
    steps = []
    for lr in (0.25, torch.tensor(0.25)):
        w = nn.Parameter(torch.zeros(2))
        w.grad = torch.tensor([3.0, -4.0])
        SteepestDescent([w], L2(), lr, mode=mode, weight_decay=0.5).step()
        steps.append(w.data)
    assert torch.equal(*steps)


def test_parameters_may_come_with_their_names():
    net = model()
    optimizer = SteepestDescent(net.named_parameters(), L2(), 0.1)
    assert optimizer.param_groups[0]["param_names"] == ["0.weight", "2.weight"]
    train(net, optimizer, range(2))


def test_zero_grad_clears_the_gradients():
    w = nn.Parameter(torch.zeros(2))
    w.grad = torch.ones(2)
    SteepestDescent([w], L2()).zero_grad()
    assert w.grad is None
