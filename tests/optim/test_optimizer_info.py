"""The optimizers of this package under torch's own description of an optimizer, and what torch asks of its own."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steepest.errors import InvalidArgument, NonFiniteGradient, UnknownName
from steepest.norms import L1, L2, LInf, MaxRow, Nuclear, Scaled, Spectral
from steepest.optim import EpochAdam, Muon, Scion, SignDescent, SteepestDescent


@contextlib.contextmanager
def process_unchanged() -> Iterator[None]:
    """The module that is imported inside freezes torch's backend flags and sets an environment variable."""
    flag, environment = "__allow_nonbracketed_mutation_flag", dict(os.environ)
    before = getattr(torch.backends, flag)
    yield
    setattr(torch.backends, flag, before)
    os.environ.clear()
    os.environ.update(environment)


with process_unchanged():
    from torch.testing._internal.common_optimizers import (
        ErrorOptimizerInput,
        OptimizerErrorEnum,
        OptimizerInfo,
        OptimizerInput,
        get_error_inputs_for_all_optims,
    )

FOLLOWING = [
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True, "nonfinite": "ignore"},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "maximize": True},
]


def given(*options: dict[str, Any]) -> Callable[..., list[OptimizerInput]]:
    return lambda **_: [
        OptimizerInput(params=None, kwargs=kwargs, desc=", ".join(f"{k}={v}" for k, v in kwargs.items()))
        for kwargs in options
    ]


def each_with(start: dict[str, Any], following: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [start, *({**start, **more} for more in following)]


def errors_of(base: dict[str, Any]) -> Callable[..., list[ErrorOptimizerInput]]:
    def inputs(device: str, dtype: torch.dtype) -> list[ErrorOptimizerInput]:
        w = nn.Parameter(torch.zeros(2, 2, device=device, dtype=dtype))

        def bad(error: type[Exception], regex: str, params: list[Any] | None = None, **kwargs: Any):
            return ErrorOptimizerInput(
                OptimizerInput(params=params, kwargs={**base, **kwargs}, desc=regex),
                error_type=error,
                error_regex=regex,
            )

        of_torch = get_error_inputs_for_all_optims(device, dtype)
        for error in of_torch:
            error.optimizer_error_input.kwargs = {**base, **error.optimizer_error_input.kwargs}
            if "with/without names" in error.error_regex:  # torch says it of groups where a preset makes them first
                error.error_regex = "with/without names"
        return [
            *of_torch,
            bad(InvalidArgument, r"lr must be a number in \[0, inf\)", lr=-1e-2),
            bad(InvalidArgument, r"weight_decay must be a number in \[0, inf\)", weight_decay=-0.1),
            bad(InvalidArgument, "foreach is not an option here", foreach=True),
            bad(InvalidArgument, "fused is not an option here", fused=True),
            bad(InvalidArgument, "capturable is not an option here", capturable=False),
            bad(InvalidArgument, "differentiable is not an option here", differentiable=True),
            bad(UnknownName, "Did you mean weight_decay", weight_decai=0.1),
            bad(InvalidArgument, "nonfinite must be", nonfinite="no"),
            bad(InvalidArgument, "foreach is not an option here", params=[{"params": [w], "foreach": True}]),
            ErrorOptimizerInput(
                OptimizerInput(params=None, kwargs=base, desc="a gradient that is not finite"),
                error_on=OptimizerErrorEnum.STEP_ERROR,
                error_type=NonFiniteGradient,
                error_regex="gradients must be finite",
            ),
        ]

    return inputs


def info(cls: type[torch.optim.Optimizer], *options: dict[str, Any]) -> OptimizerInfo:
    return OptimizerInfo(
        cls,
        optim_inputs_func=given(*options),
        optim_error_inputs_func=errors_of(options[0]),
        supported_impls=(),
        not_og_supported_flags=(),
        supports_complex=False,
    )


INFOS = [
    info(
        SteepestDescent,
        *each_with({"norm": L2(), "lr": 0.02}, FOLLOWING),
        *each_with({"norm": LInf(), "lr": 0.01, "mode": "constrained"}, FOLLOWING),
        {"norm": L1(), "lr": 0.05},
        {"norm": MaxRow(), "lr": 0.01, "momentum": 0.5},
        {"norm": Nuclear(), "lr": 0.05, "mode": "constrained"},
        {"norm": Scaled(Spectral(), 0.5), "lr": 0.01, "weight_decay": 0.1},
        {"norm": Spectral(exact=True), "lr": torch.tensor(0.01), "mode": "constrained", "momentum": 0.9},
    ),
    info(SignDescent, *each_with({"lr": 0.001}, FOLLOWING), {"lr": 0.01, "mode": "constrained", "momentum": 0.9}),
    info(Muon, *each_with({"lr": 0.01}, [*FOLLOWING[2:], {"momentum": 0.5, "nesterov": False}])),
    info(Scion, *each_with({"lr": 0.01}, FOLLOWING)),
    info(EpochAdam, *each_with({"lr": 0.05}, [*FOLLOWING[2:], {"steps_per_epoch": 3}])),
]

CASES = [(one.optim_cls, given_input.kwargs) for one in INFOS for given_input in one.optim_inputs_func(device="cpu")]
EVERY_INPUT = pytest.mark.parametrize(("cls", "kwargs"), CASES, ids=[f"{cls.__name__}-{kw}" for cls, kw in CASES])

FIRST = dict(reversed(CASES))
EVERY_CLASS = pytest.mark.parametrize(("cls", "kwargs"), FIRST.items(), ids=[cls.__name__ for cls in FIRST])


def matrices(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (3, 5))]


def loss_of(params: list[nn.Parameter]) -> Tensor:
    """A convex function whose minimum is at 0.5."""
    return torch.stack([(p - 0.5).square().sum() for p in params]).sum()


def backward(optimizer: torch.optim.Optimizer, params: list[nn.Parameter]) -> float:
    optimizer.zero_grad()
    loss = loss_of(params)
    loss.backward()
    return float(loss.detach())


def train(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: int = 3) -> None:
    for _ in range(steps):
        backward(optimizer, params)
        optimizer.step()


def values(params: list[nn.Parameter]) -> list[Tensor]:
    return [p.detach().clone() for p in params]


def assert_same_state(state: dict[str, Any], other: dict[str, Any]) -> None:
    assert state["param_groups"] == other["param_groups"]
    assert list(state["state"]) == list(other["state"])
    torch.testing.assert_close(state["state"], other["state"], rtol=0, atol=0)


@EVERY_INPUT
def test_it_is_made_and_shown_with_its_options(cls, kwargs):
    optimizer = cls(matrices(), **kwargs)
    shown = repr(optimizer)
    assert shown.startswith(f"{cls.__name__} (")
    for name, value in kwargs.items():
        if name in optimizer.defaults and name not in ("norm", "lr"):
            assert f"{name}: {value}\n" in shown
    assert all(group["params"] for group in optimizer.param_groups)


@EVERY_INPUT
def test_its_steps_go_in_the_right_direction(cls, kwargs):
    params = matrices()
    optimizer = cls(params, **kwargs)
    first = backward(optimizer, params)
    train(optimizer, params, 12)
    last = backward(optimizer, params)
    assert last > 1.01 * first if kwargs.get("maximize") else last < 0.99 * first


@EVERY_CLASS
def test_its_schedules_go_along(cls, kwargs):
    for schedules in INFOS[0].scheduler_inputs:
        params = matrices()
        optimizer = cls(params, **kwargs)
        schedulers = [make(optimizer) for make in schedules]
        first = backward(optimizer, params)
        for _ in range(20):
            loss = backward(optimizer, params)
            optimizer.step()
            for scheduler in schedulers:
                scheduler.step(*([loss] if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau) else []))
        assert (backward(optimizer, params) > first) is bool(kwargs.get("maximize"))


@EVERY_INPUT
def test_its_state_is_the_same_each_time_it_is_taken_and_after_it_is_loaded(cls, kwargs):
    params, others = matrices(), matrices()
    optimizer, other = cls(params, **kwargs), cls(others, **kwargs)
    train(optimizer, params)
    state = optimizer.state_dict()
    assert_same_state(optimizer.state_dict(), state)
    other.load_state_dict(copy.deepcopy(state))
    assert_same_state(other.state_dict(), state)
    for p, q in zip(params, others, strict=True):
        q.data.copy_(p.data)
    train(optimizer, params)
    train(other, others)
    torch.testing.assert_close(values(others), values(params), rtol=0, atol=0)


@EVERY_CLASS
def test_hooks_around_saving_and_loading_see_and_change_the_state(cls, kwargs):
    optimizer = cls(matrices(), **kwargs)
    calls: list[str] = []

    def before_loading(_: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        calls.append("before loading")
        changed = copy.deepcopy(state)
        for group in changed["param_groups"]:
            group["lr"] = 0.003
        return changed

    optimizer.register_state_dict_pre_hook(lambda *_: calls.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda *_: calls.append("after saving"))
    optimizer.register_load_state_dict_pre_hook(before_loading)
    optimizer.register_load_state_dict_post_hook(lambda *_: calls.append("after loading"))
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    assert calls == ["before saving", "after saving", "before loading", "after loading"]
    assert {group["lr"] for group in optimizer.param_groups} == {0.003}
    assert {float(group["lr"]) for group in state["param_groups"]} == {float(kwargs["lr"])}


@EVERY_CLASS
def test_a_hook_may_load_another_saved_state_instead(cls, kwargs):
    params = matrices()
    optimizer = cls(params, **kwargs)
    saved = optimizer.state_dict()
    optimizer.register_load_state_dict_pre_hook(lambda *_: copy.deepcopy(saved))
    optimizer.load_state_dict(optimizer.state_dict())
    train(optimizer, params)
    assert not torch.equal(params[0], matrices()[0])


@EVERY_INPUT
def test_groups_override_learning_rate_and_decay_and_one_of_rate_zero_stays(cls, kwargs):
    (a, b), (c, d) = matrices(), matrices()
    optimizer = cls([{"params": [a], "lr": 0.0}, {"params": [b], "weight_decay": 0.5}], **kwargs)
    alone = cls([d], **{**kwargs, "weight_decay": 0.5})
    train(optimizer, [a, b])
    train(alone, [d])
    assert torch.equal(a, c)
    torch.testing.assert_close(b.data, d.data, rtol=1e-6, atol=1e-7)


@EVERY_INPUT
def test_a_learning_rate_that_is_a_tensor_gives_the_same_steps(cls, kwargs):
    number, tensor = matrices(), matrices()
    # A power of two is the same in float32 and in float64.
    train(cls(number, **{**kwargs, "lr": 2.0**-7}), number)
    lr = torch.tensor(2.0**-7)
    train(cls(tensor, **{**kwargs, "lr": lr}), tensor)
    torch.testing.assert_close(values(tensor), values(number), rtol=0, atol=0)
    assert float(lr) == 2.0**-7


@EVERY_CLASS
def test_without_gradients_a_step_does_nothing(cls, kwargs):
    params = matrices()
    optimizer = cls(params, **kwargs)
    optimizer.zero_grad()
    optimizer.step()
    torch.testing.assert_close(values(params), values(matrices()), rtol=0, atol=0)
    assert not any(optimizer.state.values())


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["deepcopy", "pickle"]
)
@EVERY_CLASS
def test_a_copy_goes_on_by_itself_with_the_same_steps(cls, kwargs, duplicate):
    params = matrices()
    optimizer = cls(params, **kwargs)
    train(optimizer, params)
    twin, before = duplicate(optimizer), values(params)
    assert repr(twin) == repr(optimizer)
    twins = [p for group in twin.param_groups for p in group["params"]]
    train(twin, twins)
    torch.testing.assert_close(values(params), before, rtol=0, atol=0)
    train(optimizer, params)
    own = [p for group in optimizer.param_groups for p in group["params"]]
    torch.testing.assert_close(values(twins), values(own), rtol=0, atol=0)


@EVERY_CLASS
def test_parameters_with_names_keep_them_through_saving_and_step_alike(cls, kwargs):
    plain, named = matrices(), matrices()
    optimizer = cls([("first", named[0]), ("second", named[1])], **kwargs)
    names = [name for group in optimizer.state_dict()["param_groups"] for name in group["param_names"]]
    assert sorted(names) == ["first", "second"]
    if cls is not Scion:  # to which a name may mean a norm
        train(optimizer, named)
        train(cls(plain, **kwargs), plain)
        torch.testing.assert_close(values(named), values(plain), rtol=0, atol=0)


ERRORS = [
    pytest.param(one.optim_cls, error, id=f"{one.name}-{error.optimizer_error_input.desc}")
    for one in INFOS
    for error in one.optim_error_inputs_func(device="cpu", dtype=torch.float32)
]


@pytest.mark.parametrize(("cls", "error"), ERRORS)
def test_what_is_wrong_is_refused_in_the_words_that_torch_or_this_house_promises(cls, error):
    given_input = error.optimizer_error_input
    params = matrices() if given_input.params is None else given_input.params
    if error.error_type is UserWarning:
        with pytest.warns(UserWarning, match=error.error_regex):
            cls(params, **given_input.kwargs)
    elif error.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR:
        with pytest.raises(error.error_type, match=error.error_regex):
            cls(params, **given_input.kwargs)
    else:
        optimizer = cls(params, **given_input.kwargs)
        params[0].grad = torch.full_like(params[0], torch.nan)
        with pytest.raises(error.error_type, match=error.error_regex):
            optimizer.step()
