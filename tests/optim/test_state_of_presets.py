"""Checkpoints of the presets, through a file that only loads weights, and into models of another precision."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from steepest.norms import L2, Blockwise
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent, route


def blockwise(net: nn.Module) -> SteepestDescent:
    norm = Blockwise({name: to.norm for name, to in route(net).items()}, "l2")
    return SteepestDescent(net.named_parameters(), norm, 0.01, momentum=0.9, nesterov=True)


MAKERS = {
    "Scion": lambda net: Scion(net, 0.01),
    "Scion of names": lambda net: Scion(net.named_parameters(), torch.tensor(0.01)),
    "Scion of parameters": lambda net: Scion(net.parameters(), 0.01),
    "EpochAdam": lambda net: EpochAdam(net.parameters(), 0.01, steps_per_epoch=3),
    "Blockwise": blockwise,
    "Muon": lambda net: Muon(route(net).param_groups(0.01), 0.02),
    "SignDescent": lambda net: SignDescent(net.parameters(), 0.01, mode="constrained", momentum=0.9),
    "L2": lambda net: SteepestDescent(net.parameters(), L2(), 0.1, momentum=0.9),
}
EVERY_MAKER = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randint(0, 5, (8,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (net(x) - 1).square().sum().backward()
        optimizer.step()


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("at", [0, 4])
@EVERY_MAKER
def test_a_run_from_a_file_goes_on_bit_for_bit(make, at):
    whole, first, second = network(), network(), network()
    train(whole, make(whole), range(7))
    optimizer = make(first)
    train(first, optimizer, range(at))
    second.load_state_dict(through_a_file(first.state_dict()))
    resumed = make(second)
    resumed.load_state_dict(through_a_file(optimizer.state_dict()))
    train(second, resumed, range(at, 7))
    torch.testing.assert_close(second.state_dict(), whole.state_dict(), rtol=0, atol=0)


@EVERY_MAKER
def test_norms_stay_with_the_optimizer_when_a_state_is_loaded(make):
    net = network()
    optimizer, other = make(net), make(net)
    norms = [group["norm"] for group in optimizer.param_groups]
    optimizer.load_state_dict(through_a_file(other.state_dict()))
    assert [group["norm"] for group in optimizer.param_groups] == norms


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@EVERY_MAKER
def test_a_float32_state_takes_the_dtype_of_the_model_that_loads_it(make, dtype):
    net, other = network(), network().to(dtype)
    optimizer, loaded = make(net), make(other)
    train(net, optimizer, range(2))
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert set(loaded.state[q]) == set(optimizer.state[p])
        for name, value in loaded.state[q].items():
            if name == "step":
                assert torch.equal(value, optimizer.state[p][name])
            else:
                assert value.dtype == dtype
                assert torch.equal(value, optimizer.state[p][name].to(dtype))
    train(other, loaded, range(2, 4))
    assert all(value.dtype == dtype for q in other.parameters() for n, value in loaded.state[q].items() if n != "step")
