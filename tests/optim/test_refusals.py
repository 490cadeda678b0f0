"""What an optimizer refuses, in which words, and that nothing has changed by then."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from steepest.errors import InvalidArgument, NonFiniteGradient
from steepest.norms import L2, LInf
from steepest.optim import Muon, Scion, SignDescent, SteepestDescent


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape))


BAD_OPTIONS = [
    ({"lr": -0.1}, r"lr must be a number in \[0, inf\) \(got -0.1\). Pass a number in \[0, inf\)."),
    *(({"lr": bad}, r"lr must be a number in \[0, inf\) \(got ") for bad in (math.nan, math.inf, None, True, "1", 1j)),
    ({"lr": torch.tensor(-1.0)}, r"lr must be a number in \[0, inf\) \(got -1.0\)"),
    ({"lr": torch.tensor(1)}, r"lr must be a floating-point tensor \(got torch.int64\)"),
    ({"weight_decay": -1.0}, r"weight_decay must be a number in \[0, inf\) \(got -1.0\)"),
    ({"weight_decay": math.nan}, r"weight_decay must be a number in \[0, inf\) \(got nan\)"),
    ({"weight_decay": torch.tensor(0.1)}, r"weight_decay must be a number in \[0, inf\) \(got tensor"),
    ({"momentum": -0.1}, r"momentum must be a number in \[0, 1\) \(got -0.1\). Try 0.9, or 0 for none."),
    ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\) \(got 1.0\)"),
    ({"momentum": math.nan}, r"momentum must be a number in \[0, 1\) \(got nan\)"),
    ({"nesterov": True}, r"nesterov must come with momentum \(got 'momentum=0'\). Pass momentum=0.9 or leave nesterov"),
    ({"nesterov": 1, "momentum": 0.9}, r"nesterov must be True or False \(got 1\)"),
    ({"maximize": "no"}, r"maximize must be True or False \(got 'no'\)"),
    ({"mode": "penalised"}, r"mode must be one of penalized, constrained \(got 'penalised'\). Did you mean penalized"),
    ({"nonfinite": "drop"}, r"nonfinite must be one of raise, skip, ignore \(got 'drop'\)"),
    ({"norm": None}, r"norm must be a norm \(got None\). Pass norm=, for example steepest.norms.L2\(\)"),
    ({"norm": "L2"}, r"norm must be a norm \(got 'L2'\)"),
]
OPTION_IDS = [str(options) for options, _ in BAD_OPTIONS]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=OPTION_IDS)
def test_an_option_outside_its_range_is_refused_at_construction(options, message):
    with pytest.raises(InvalidArgument, match=message):
        SteepestDescent([weight(2)], **{"norm": L2(), **options})


GROUP_OPTIONS = [(options, message) for options, message in BAD_OPTIONS if "nonfinite" not in options]


@pytest.mark.parametrize(("options", "message"), GROUP_OPTIONS, ids=[str(options) for options, _ in GROUP_OPTIONS])
def test_an_option_of_a_group_is_refused_alike_and_the_group_is_not_added(options, message):
    group = {"params": [weight(2)], **options}
    with pytest.raises(InvalidArgument, match=message):
        SteepestDescent([dict(group)], L2())
    optimizer = SteepestDescent([weight(2)], L2())
    with pytest.raises(InvalidArgument, match=message):
        optimizer.add_param_group(group)
    assert len(optimizer.param_groups) == 1


def test_a_norm_may_be_left_out_only_where_every_group_has_one():
    SteepestDescent([{"params": [weight(2)], "norm": L2()}, {"params": [weight(3)], "norm": LInf()}])
    with pytest.raises(InvalidArgument, match="norm must be a norm"):
        SteepestDescent([{"params": [weight(2)], "norm": L2()}, {"params": [weight(3)]}])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.ones(2, dtype=torch.complex64), "must be a floating-point tensor .got torch.complex64"),
        (
            lambda: torch.ones(2).to(torch.float8_e5m2),
            "must be a tensor of at least 16 bits per number .got torch.float8_e5m2",
        ),
        (lambda: torch.ones(2, dtype=torch.int64), "must be a floating-point tensor .got torch.int64"),
        (lambda: torch.ones(2, dtype=torch.bool), "must be a floating-point tensor .got torch.bool"),
        (lambda: torch.eye(2).to_sparse(), "must be a dense tensor .got torch.sparse_coo"),
        (lambda: torch.ones(2, device="meta"), "must be a tensor with data"),
    ],
    ids=["complex", "8 bits", "integers", "booleans", "sparse", "meta"],
)
def test_parameters_that_cannot_take_a_step_are_refused_by_name_and_not_added(make, message):
    wrong = nn.Parameter(make(), requires_grad=False)
    with pytest.raises(InvalidArgument, match=f"^parameter 1 {message}"):
        SteepestDescent([weight(2), wrong], L2())
    optimizer = SteepestDescent([("first", weight(2))], L2())
    with pytest.raises(InvalidArgument, match=f"^second {message}"):
        optimizer.add_param_group({"params": [("second", wrong)]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("make", "refused"),
    [
        (lambda: Muon([weight(2, 2)], 0.1), {"params": [weight(4, 2), weight(3, 2), weight(2)]}),
        (lambda: Muon([weight(2, 2)], 0.1), {"params": [weight(4, 2), weight(2, 3)], "lr": math.nan}),
        (lambda: Scion([weight(2, 2)], 0.1), {"params": [weight(4, 2), nn.Parameter(torch.ones(2).cfloat())]}),
        (lambda: Scion([weight(2, 2)], 0.1), {"params": [weight(4, 2), "no tensor"]}),
        (lambda: SteepestDescent([weight(2, 2)], LInf(), torch.tensor(0.1)), {"params": [weight(2)], "momentum": 1}),
    ],
)
def test_a_group_that_is_refused_half_way_leaves_the_optimizer_as_it_was(make, refused):
    optimizer = make()
    before = [dict(group) for group in optimizer.param_groups]
    given = dict(refused)
    with pytest.raises((InvalidArgument, TypeError, AttributeError)):
        optimizer.add_param_group(refused)
    assert [list(group) for group in optimizer.param_groups] == [list(group) for group in before]
    assert all(a[key] is b[key] for a, b in zip(optimizer.param_groups, before, strict=True) for key in b)
    assert refused == given


def test_sparse_gradients_are_refused_before_anything_changes():
    embedding, other = nn.Embedding(5, 3, sparse=True), weight(2)
    optimizer = SteepestDescent([other, *embedding.parameters()], L2(), 0.1, weight_decay=0.1)
    other.grad = torch.ones(2)
    embedding(torch.tensor([1, 1])).sum().backward()
    before = embedding.weight.detach().clone()
    with pytest.raises(InvalidArgument, match=r"gradients must be dense .*sparse_coo.* Use sparse=False"):
        optimizer.step()
    assert torch.equal(other, torch.ones(2))
    assert torch.equal(embedding.weight, before)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_gradient_that_is_not_finite_is_named_and_nothing_has_changed(bad, position):
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1, bias=False))
    names = [name for name, _ in net.named_parameters()]
    optimizer = SteepestDescent(net.named_parameters(), L2(), 0.1, momentum=0.9, weight_decay=0.1)
    net(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    state, weights = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(net.state_dict())
    list(net.parameters())[position].grad.view(-1)[-1] = bad
    with pytest.raises(NonFiniteGradient) as raised:
        optimizer.step()
    assert f"NaN or infinity in {names[position]}'" in str(raised.value)
    assert 'pass nonfinite="skip"' in str(raised.value)
    torch.testing.assert_close(dict(net.state_dict()), dict(weights), rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict()["state"], state["state"], rtol=0, atol=0)


def test_every_parameter_whose_gradient_is_not_finite_is_named():
    a, b, c = weight(2), weight(2), weight(2)
    optimizer = SteepestDescent([("first", a), ("second", b), ("third", c)], L2())
    a.grad, b.grad, c.grad = torch.full((2,), math.nan), torch.ones(2), torch.full((2,), math.inf)
    with pytest.raises(NonFiniteGradient, match="NaN or infinity in first, third"):
        optimizer.step()


def test_a_parameter_without_name_is_named_by_its_place():
    a, b, c = weight(2), weight(2), weight(2)
    optimizer = SteepestDescent([{"params": [a]}, {"params": [b, c]}], L2())
    c.grad = torch.full((2,), math.nan)
    with pytest.raises(NonFiniteGradient, match="NaN or infinity in parameter 1 of group 1"):
        optimizer.step()


def test_a_step_with_a_gradient_that_is_not_finite_can_be_skipped_as_a_whole():
    a, b = weight(2), weight(2)
    optimizer = SteepestDescent([a, b], L2(), 0.1, momentum=0.9, weight_decay=0.1, nonfinite="skip")
    a.grad, b.grad = torch.ones(2), torch.tensor([1.0, math.nan])
    assert optimizer.step(lambda: 7.0) == 7.0
    assert torch.equal(a, torch.ones(2))
    assert torch.equal(b, torch.ones(2))
    assert not optimizer.state
    b.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(b.data, torch.full((2,), 0.89))


def test_large_but_finite_gradients_are_finite():
    w = weight(3)
    w.grad = torch.full((3,), 3e38)
    SteepestDescent([w], LInf(), lr=0.1, mode="constrained").step()
    torch.testing.assert_close(w.data, torch.full((3,), 0.9))


@pytest.mark.parametrize("make", [lambda w: SignDescent([w], -1.0), lambda w: Muon([w], -1.0)], ids=["sign", "Muon"])
def test_presets_check_their_options_alike(make):
    with pytest.raises(InvalidArgument, match=r"lr must be a number in \[0, inf\)"):
        make(weight(2, 2))


@pytest.mark.parametrize(
    "params", [None, 3, "w", b"w", [None], ["w"], [1.0], {"w": weight(2)}, {weight(2)}, [("w", None)], [(weight(2),)],
               [{}], [{"params": None}], [{"params": "w"}], [{"params": [weight(2)]}, weight(3)], [], [{1: 2}],
               nn.Sequential(nn.Linear(2, 2))],
    ids=lambda params: repr(params)[:30].replace("\n", " "),
)  # fmt: skip
@pytest.mark.parametrize(
    "make",
    [lambda p: SteepestDescent(p, L2(), 0.1), lambda p: Muon(p, 0.1), lambda p: Scion(p, 0.1)],
    ids=["SteepestDescent", "Muon", "Scion"],
)
def test_what_are_no_parameters_is_refused(make, params):
    if isinstance(params, nn.Module):
        make = lambda p: SteepestDescent(p, L2(), 0.1)  # noqa: E731 - the others take one
    with pytest.raises(InvalidArgument) as refused:
        make(params)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("group", [None, 3, [weight(2)], {}, {"params": 3}, {"params": [3]}, {"norm": L2()}], ids=str)
def test_what_is_no_group_is_refused_and_not_added(group):
    for optimizer in (SteepestDescent([weight(2, 2)], L2()), Muon([weight(2, 2)], 0.1), Scion([weight(2, 2)], 0.1)):
        with pytest.raises(InvalidArgument):
            optimizer.add_param_group(group)
        assert len(optimizer.param_groups) == 1


def test_a_parameter_that_is_there_already_or_no_leaf_is_refused_in_a_group():
    w = weight(2, 2)
    optimizer = Muon([w], 0.1)
    for wrong in (w, 2 * w, ("name", weight(2, 2))):
        with pytest.raises(InvalidArgument, match="params must be what an optimizer can train"):
            optimizer.add_param_group({"params": [weight(4, 2), wrong]})
        assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("closure", [3, "loss", [1]])
def test_a_closure_is_a_function(closure):
    with pytest.raises(InvalidArgument, match="closure must be a function"):
        SteepestDescent([weight(2)], L2()).step(closure)
