"""States that come from elsewhere: of other optimizers, orders, names, forms and shapes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from steepest.errors import InvalidArgument
from steepest.norms import L2, Blockwise, LInf, Spectral
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent

Optimizer = torch.optim.Optimizer


class Net(nn.Module):
    """Three layers of different sizes, registered in any order."""

    SIZES = {"a": (4, 4), "b": (4, 4), "c": (4, 3)}  # noqa: RUF012

    def __init__(self, order: str) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            for name in order:
                torch.manual_seed(ord(name))
                setattr(self, name, nn.Linear(*self.SIZES[name], bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.tanh(self.a(x)) + self.b(x))


NORM = Blockwise({"a.weight": L2(), "b.weight": Spectral(exact=True), "c.weight": LInf()})
MAKERS: dict[str, Any] = {
    "Blockwise": lambda net: SteepestDescent(net.named_parameters(), NORM, 0.1, mode="constrained", momentum=0.9),
    "L2": lambda net: SteepestDescent(net.named_parameters(), L2(), 0.1, momentum=0.9),
    "Muon": lambda net: Muon(net.named_parameters(), 0.1),
    "Scion": lambda net: Scion(net, 0.01),
    "EpochAdam": lambda net: EpochAdam(net.named_parameters(), 0.1, steps_per_epoch=3),
}
EVERY_MAKER = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def train(net: nn.Module, optimizer: Optimizer, steps: int = 2) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        net(torch.randn(5, 4, generator=torch.Generator().manual_seed(step))).square().sum().backward()
        optimizer.step()


def trained(make: Any, order: str = "abc") -> tuple[nn.Module, Optimizer]:
    net = Net(order)
    optimizer = make(net)
    train(net, optimizer)
    return net, optimizer


def by_name(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in sorted(net.named_parameters())}


def everything(optimizer: Optimizer) -> Any:
    """What an optimizer holds, to be compared later."""
    groups = [{**group, "params": list(map(id, group["params"]))} for group in optimizer.param_groups]
    return copy.deepcopy((groups, [dict(v) for v in optimizer.state.values()]))


@pytest.mark.parametrize("order", ["bac", "cba"])
@EVERY_MAKER
def test_parameters_registered_in_another_order_are_found_by_their_names(make, order):
    if make is MAKERS["Scion"]:
        order = "bac"  # which layer is the output's depends on what comes last
    net, optimizer = trained(make)
    other = Net(order)
    other.load_state_dict(net.state_dict())
    loaded = make(other)
    loaded.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for name, p in other.named_parameters():
        for key, value in loaded.state[p].items():
            assert torch.equal(value, optimizer.state[net.get_parameter(name)][key]), name
    names = [name for group in loaded.param_groups for name in group["param_names"]]
    assert [other.get_parameter(name) for name in names] == [p for g in loaded.param_groups for p in g["params"]]
    for each, one in ((net, optimizer), (other, loaded)):
        train(each, one)
    torch.testing.assert_close(by_name(other), by_name(net), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_wrappers_put_in_front_of_the_names_does_not_count(prefix):
    net, optimizer = trained(MAKERS["L2"])
    state = optimizer.state_dict()
    (group,) = state["param_groups"]
    group["param_names"] = [prefix + name for name in group["param_names"]]
    loaded = MAKERS["L2"](net)
    loaded.load_state_dict(state)
    assert loaded.param_groups[0]["param_names"] == ["a.weight", "b.weight", "c.weight"]
    assert loaded.state[net.a.weight]["momentum_buffer"].equal(optimizer.state[net.a.weight]["momentum_buffer"])


def test_names_that_are_not_the_optimizers_are_refused_and_told():
    net, optimizer = trained(MAKERS["L2"])
    state = optimizer.state_dict()
    state["param_groups"][0]["param_names"][1] = "d.weight"
    loaded = MAKERS["L2"](net)
    before = everything(loaded)
    message = r"have the names of the optimizer's \(got 'missing: b.weight; unknown: d.weight'\). Rename them in a hook"
    with pytest.raises(InvalidArgument, match=message):
        loaded.load_state_dict(state)
    assert everything(loaded) == before


def test_a_group_takes_options_from_several_saved_ones_only_where_they_agree():
    net = Net("abc")
    each = SteepestDescent([{"params": [pair], "lr": 0.3} for pair in net.named_parameters()], L2(), momentum=0.5)
    train(net, each)
    together = SteepestDescent(net.named_parameters(), L2(), 0.1)
    together.load_state_dict(each.state_dict())
    assert (together.param_groups[0]["lr"], together.param_groups[0]["momentum"]) == (0.3, 0.5)
    assert len(together.state) == 3
    each.param_groups[2]["lr"] = 0.4
    with pytest.raises(InvalidArgument, match=r"one group must have one lr \(got '0.3 and 0.4 in the state'\)"):
        together.load_state_dict(each.state_dict())


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "nested"])
@pytest.mark.parametrize("order", ["abc", "bac"])
@EVERY_MAKER
def test_what_distributed_checkpoints_make_of_a_state_loads(make, order, flat):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    net, optimizer = trained(make)
    saved = copy.deepcopy(get_optimizer_state_dict(net, optimizer, options=options))
    other = Net(order)
    loaded = make(other)
    norms = [group["norm"] for group in loaded.param_groups]
    set_optimizer_state_dict(other, loaded, saved, options=options)
    assert [group["norm"] for group in loaded.param_groups] == norms
    for name, p in other.named_parameters():
        of = optimizer.state[net.get_parameter(name)]
        assert {k: v.tolist() for k, v in loaded.state[p].items()} == {k: v.tolist() for k, v in of.items()}, name


def unnamed() -> tuple[nn.Parameter, nn.Parameter]:
    a, b = (nn.Parameter(torch.ones(3, 3)) for _ in range(2))
    a.grad, b.grad = torch.eye(3), torch.full((3, 3), 2.0)
    return a, b


def test_a_state_of_torchs_sgd_loads_with_ones_own_options_for_what_it_lacks():
    params = unnamed()
    sgd = torch.optim.SGD(params, 0.3, momentum=0.8, nesterov=True)
    sgd.step()
    mine = SteepestDescent(params, LInf(), 0.1, mode="constrained", momentum=0.9)
    mine.load_state_dict(sgd.state_dict())
    (group,) = mine.param_groups
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.3, 0.8, True)
    assert (group["norm"], group["mode"], group["factor"]) == (LInf(), "constrained", 1)
    assert not {"dampening", "foreach", "fused", "differentiable"} & set(group)
    for p in params:
        assert torch.equal(mine.state[p]["momentum_buffer"], sgd.state[p]["momentum_buffer"])
    mine.step()
    descent = SteepestDescent(params, L2(), 0.1)
    descent.load_state_dict(torch.optim.SGD(params, 0.2, momentum=0.9, dampening=0.5).state_dict())  # no buffers yet
    assert descent.param_groups[0]["lr"] == 0.2


OTHERS = {
    "Adam": lambda params: torch.optim.Adam(params),
    "RMSprop": lambda params: torch.optim.RMSprop(params, momentum=0.9),
    "SGD with dampening": lambda params: torch.optim.SGD(params, momentum=0.9, dampening=0.5),
    "EpochAdam": lambda params: EpochAdam(params, 0.1),
}
if hasattr(torch.optim, "Muon"):
    OTHERS["torch's Muon"] = lambda params: torch.optim.Muon(params)


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize(
    "mine", [lambda p: SteepestDescent(p, L2(), 0.1), lambda p: Muon(p, 0.1), lambda p: EpochAdam(p, 0.1)]
)
def test_a_state_of_another_optimizer_is_refused_when_it_is_loaded_and_changes_nothing(mine, make):
    params = unnamed()
    other, loading = make(params), mine(params)
    if type(other) is type(loading):
        other = torch.optim.Rprop(params)
    other.step()
    before = everything(loading)
    with pytest.raises(InvalidArgument, match=r"the state of parameter 0 of group 0 must hold .* of this kind"):
        loading.load_state_dict(other.state_dict())
    assert everything(loading) == before
    loading.step()


def test_momentum_is_no_state_of_epoch_adam_nor_part_of_one():
    params = unnamed()
    sign = SignDescent(params, 0.1, momentum=0.9)
    sign.step()
    with pytest.raises(InvalidArgument, match="must hold root_mean_square, root_so_far, step"):
        EpochAdam(params, 0.1).load_state_dict(sign.state_dict())
    epoch = EpochAdam(params, 0.1)
    epoch.step()
    state = epoch.state_dict()
    del state["state"][1]["step"]
    with pytest.raises(InvalidArgument, match="the state of parameter 1 of group 0 must hold"):
        EpochAdam(params, 0.1).load_state_dict(state)
    # What it decides itself comes from no state.
    fresh = EpochAdam(params, 0.1)
    fresh.load_state_dict(SignDescent(params, 0.2, mode="constrained", momentum=0.9).state_dict())
    assert [fresh.param_groups[0][key] for key in ("lr", "mode", "momentum")] == [0.2, "penalized", 0.0]
    muon = Muon(params, 0.1)
    muon.load_state_dict(SteepestDescent(params, L2(), 0.2, momentum=0.5).state_dict())
    assert [muon.param_groups[0][key] for key in ("lr", "mode", "momentum")] == [0.2, "constrained", 0.5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s["state"][0].update(momentum_buffer=torch.ones(2, 2)),
            r"must have the parameter's shape, \(3, 3\)",
        ),
        (lambda s: s["state"][1].update(momentum_buffer=torch.ones(())), r"must have the parameter's shape, \(3, 3\)"),
        (lambda s: s["state"][0].update(momentum_buffer=torch.ones(3, 3).long()), "must be a floating-point tensor"),
        (lambda s: s["state"][0].update(momentum_buffer=0.5), "must be a floating-point tensor"),
        (lambda s: s["state"].update({0: 3}), "must be tensors by name"),
        (lambda s: s["param_groups"][0].update(lr=float("nan")), "lr must be a number"),
        (lambda s: s["param_groups"][0].update(momentum=1.5), "momentum must be a number"),
        (lambda s: s["param_groups"][0].update(mode="other"), "mode must be one of"),
        (lambda s: s["param_groups"][0].update(params=[0]), "must have as many parameters as the optimizer's"),
        (lambda s: s["param_groups"].append({"params": []}), "different number of parameter groups"),
        (lambda s: s.pop("state"), "what state_dict"),
        (lambda s: s.update(param_groups=None), "what state_dict"),
        (lambda s: s["param_groups"][0].pop("params"), "what state_dict"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_when_it_is_loaded_and_changes_nothing(change, message):
    params = unnamed()
    optimizer = SteepestDescent(params, L2(), 0.1, momentum=0.9)
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    change(state)
    kept = [p.clone() for p in params]
    with pytest.raises(InvalidArgument, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.1
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert all(map(torch.equal, params, kept))


@pytest.mark.parametrize("state", [None, 3, [], {}, "state"])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(InvalidArgument, match="must be"):
        SteepestDescent(unnamed(), L2()).load_state_dict(state)


@pytest.mark.parametrize(
    "missing", ["mode", "momentum", "nesterov", "weight_decay", "maximize", "lr", "norm", "factor"]
)
def test_an_option_that_a_state_lacks_is_the_optimizers_own(missing):
    params = unnamed()
    options: dict[str, Any] = {"mode": "constrained", "momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "lr": 0.2}
    state = SteepestDescent(params, L2(), **options).state_dict()
    del state["param_groups"][0][missing]
    loaded = SteepestDescent(params, L2(), 0.7, momentum=0.25, maximize=True)
    own = loaded.param_groups[0][missing]
    loaded.load_state_dict(state)
    assert loaded.param_groups[0][missing] == own
    loaded.step()


def test_the_users_own_hooks_come_first_and_may_rename():
    net, optimizer = trained(MAKERS["L2"])
    state = optimizer.state_dict()
    state["param_groups"][0]["param_names"] = ["x", "y", "z"]
    loaded = MAKERS["L2"](net)

    def rename(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        (group,) = state["param_groups"]
        return {**state, "param_groups": [{**group, "param_names": ["a.weight", "b.weight", "c.weight"]}]}

    loaded.register_load_state_dict_pre_hook(rename)
    loaded.load_state_dict(state)
    assert len(loaded.state) == 3
    assert len(loaded._optimizer_load_state_dict_pre_hooks) == 1


def test_norms_and_factors_come_from_no_state():
    def net() -> nn.Sequential:
        return nn.Sequential(nn.Linear(8, 8, bias=False), nn.Tanh(), nn.Linear(8, 4, bias=False))

    a, b = net(), net()
    of_module, of_parameters = Scion(a, 0.01), Scion(b.parameters(), 0.01)
    assert [group["factor"] for group in of_module.param_groups] == [1, 60]
    expected = [(group["norm"], group["factor"]) for group in of_parameters.param_groups]
    of_parameters.load_state_dict(of_module.state_dict())
    assert [(group["norm"], group["factor"]) for group in of_parameters.param_groups] == expected


def pair(*names: str) -> list[tuple[str, nn.Parameter]]:
    return [(name, nn.Parameter(torch.full((2, 2), float(i)))) for i, name in enumerate(names)]


@pytest.mark.parametrize("names", [("z", "z"), ("module.z", "z"), ("x._orig_mod.z", "x.z"), ("z", "module.z")])
def test_parameters_that_look_alike_by_name_keep_their_own_state(names):
    params = pair(*names)
    optimizer = SteepestDescent(params, L2(), 0.1, momentum=0.9)
    for scale, (_, parameter) in enumerate(params, start=1):
        parameter.grad = torch.full((2, 2), float(scale))
    optimizer.step()
    loaded = SteepestDescent(params, L2(), 0.1, momentum=0.9)
    loaded.load_state_dict(optimizer.state_dict())
    assert [float(loaded.state[p]["momentum_buffer"].mean()) for _, p in params] == [1, 2]


def test_names_are_compared_as_they_are_before_prefixes_are_left_away():
    params = pair("module.z", "z")
    optimizer = SteepestDescent(params, L2(), 0.1, momentum=0.9)
    for scale, (_, parameter) in enumerate(params, start=1):
        parameter.grad = torch.full((2, 2), float(scale))
    optimizer.step()
    loaded = SteepestDescent(params[::-1], L2(), 0.1, momentum=0.9)
    loaded.load_state_dict(optimizer.state_dict())
    assert [float(loaded.state[p]["momentum_buffer"].mean()) for _, p in params] == [1, 2]


@pytest.mark.parametrize("keys", [[0], [0, 1, 1]])
def test_a_state_with_more_or_fewer_names_than_parameters_is_refused(keys):
    optimizer = SteepestDescent(pair("a", "b"), L2(), 0.1)
    state = optimizer.state_dict()
    state["param_groups"][0]["params"] = keys
    with pytest.raises(InvalidArgument, match="what state_dict"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize("count", [2.5, -1.0, float("nan"), float("inf"), "1", None])
def test_a_state_counts_whole_steps(count):
    (w,) = unnamed()[:1]
    w.grad = torch.ones_like(w)
    optimizer = EpochAdam([w], 0.1)
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(copy.deepcopy(state))
    state["state"][0]["step"] = count
    with pytest.raises(InvalidArgument, match="step"):
        optimizer.load_state_dict(state)
