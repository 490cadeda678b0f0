"""Tracing leaves no trace, and says so where it cannot know."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.init.models import Block, bits, noise, same_bits
from torch import nn

from steepest.init import LSUV, He, Normal, Zero, initialize


class Branching(nn.Module):
    """Control flow that depends on the data, between traceable parts."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.part = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        if x.sum() > 1e9:
            return self.unused(x)
        return self.second(self.part(x))


def test_without_data_control_flow_leaves_unknown_what_the_module_itself_does_but_not_its_parts():
    table = initialize(Branching(), He(nonlinearity="gelu"))
    assert table["first.weight"].rule == "He fan_in=4, activation unknown; taken as gelu"
    assert table["part.0.weight"].rule == "He fan_in=4, relu"
    assert table["part.2.weight"].rule == "He fan_in=4, activation unknown; taken as gelu"


def test_with_data_control_flow_is_followed_and_what_was_not_reached_is_said():
    table = initialize(Branching(), "he", data=noise(3, 4))
    rules = {row.parameter: row.rule for row in table if row.parameter.endswith("weight")}
    assert rules == {
        "first.weight": "He fan_in=4, tanh",
        "part.0.weight": "He fan_in=4, relu",
        "part.2.weight": "He fan_in=4, no activation",
        "second.weight": "He fan_in=4, no activation",
        "unused.weight": "He fan_in=4, not reached by the data; taken as relu",
    }


def test_a_part_that_cannot_be_traced_does_not_hide_the_rest():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Branching(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    table = initialize(model, "he")
    assert table["0.weight"].rule == "He fan_in=4, relu"
    assert table["3.weight"].rule == "He fan_in=4, tanh"
    assert table["5.weight"].rule == "He fan_in=4, no activation"
    assert table["2.first.weight"].rule == "He fan_in=4, activation unknown; taken as relu"
    assert table["2.part.0.weight"].rule == "He fan_in=4, relu"


def test_what_meets_a_part_that_cannot_be_traced_is_unknown():
    table = initialize(nn.Sequential(nn.Linear(4, 4), Branching()), "he")
    assert table["0.weight"].rule == "He fan_in=4, activation unknown; taken as relu"


def test_several_inputs_are_a_tuple_and_outputs_may_be_nested():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(3, 4)

        def forward(self, x, y):
            return {"out": [torch.tanh(self.a(x)), self.b(y)]}

    for data in (None, (noise(2, 4), noise(2, 3))):
        table = initialize(Two(), "he", data=data)
        assert table["a.weight"].rule == "He fan_in=4, tanh"
        assert table["b.weight"].rule == "He fan_in=3, no activation"


def test_optional_arguments_of_a_forward_stay_at_their_defaults():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x, mask=None, squash=False):
            x = self.a(x)
            if mask is not None:
                x = torch.tanh(x) * mask
            return torch.sigmoid(x) if squash else F.relu(x)

    assert initialize(Masked(), "he")["a.weight"].rule == "He fan_in=4, relu"


class Restless(nn.Module):
    """Everything that a forward may change."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(6).eval()
        self.head = nn.Linear(6, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("late", None)
        self.count = 0
        self.last = None

    def forward(self, x):
        self.calls += 1
        self.count += 1
        self.late = torch.ones(2)
        x = self.dropout(self.frozen(self.norm(self.linear(x))))
        self.last = x
        random.random()
        np.random.rand()
        self.train()
        return self.head(F.relu(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("data", [None, noise(5, 6)], ids=["by symbols", "by a run"])
@pytest.mark.parametrize("scheme", [He(), LSUV(noise(5, 6))], ids=str)
def test_neither_way_changes_buffers_attributes_modes_hooks_or_global_random_numbers(
    scheme, data, training, rng_untouched
):
    model = Restless().train(training)
    model.frozen.eval()
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    modes = [module.training for module in model.modules()]
    python = random.getstate()
    with rng_untouched():
        initialize(model, scheme, data=data)
    assert random.getstate() == python
    assert same_bits(dict(model.named_buffers()), buffers)
    assert model.late is None
    assert [module.training for module in model.modules()] == modes
    assert (model.count, model.last) == (0, None)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("scheme", ["he", "lsuv"])
def test_a_run_that_fails_leaves_no_trace_either(scheme, rng_untouched):
    class Failing(Restless):
        def forward(self, x):
            super().forward(x)
            raise KeyError("late")

    model = Failing()
    before = {name: b.clone() for name, b in model.named_buffers()}
    with rng_untouched(), pytest.raises(ValueError, match="KeyError: 'late'"):
        initialize(model, scheme, data=noise(5, 6))
    assert same_bits(dict(model.named_buffers()), before)
    assert model.count == 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_data_are_left_as_they_were():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4))
    x = noise(3, 4)
    before = x.clone()
    for scheme in ("he", "lsuv"):
        initialize(model, scheme, data=x)
    assert torch.equal(x, before)


def test_hooks_of_the_users_own_are_not_given_symbols():
    model = nn.Sequential(Block(8), nn.Linear(8, 8))
    seen = []
    model[0].register_forward_hook(lambda _module, _args, output: seen.append(type(output)))
    initialize(model, "he")
    assert seen == []
    initialize(model, "he", data=noise(2, 3, 8))
    assert seen == [torch.Tensor]


@pytest.mark.parametrize("scheme", [Zero(), Normal(), "constant", "default"], ids=str)
def test_a_scheme_without_use_for_activations_does_not_run_the_model(scheme):
    class Never(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x):  # noqa: ARG002
            raise AssertionError("was run")

    assert len(initialize(Never(), scheme, data=torch.zeros(1, 2))) == 2


def test_a_model_whose_forward_cannot_be_traced_at_all_is_initialised_with_the_argument():
    class Hopeless(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return self.linear(torch.from_numpy(np.asarray(x)))

    assert initialize(Hopeless(), "he")["linear.weight"].rule == "He fan_in=4, activation unknown; taken as relu"


def test_what_leaves_torch_during_a_run_is_unknown():
    class Leaving(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return torch.from_numpy(np.maximum(self.linear(x).numpy(), 0))

    table = initialize(Leaving(), "he", data=noise(2, 4))
    assert table["linear.weight"].rule == "He fan_in=4, activation unknown; taken as relu"


def test_the_same_bits_whether_a_run_or_symbols_found_the_same():
    a, b = Restless(), Restless()
    initialize(a, "he")
    initialize(b, "he", data=noise(5, 6))
    assert same_bits(bits(a), bits(b))


def test_what_is_compiled_or_data_parallel_is_followed_like_what_it_wraps():
    def build():
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about its imports
        compiled = torch.compile(build())
    for model, prefix in ((compiled, "_orig_mod"), (nn.DataParallel(build()), "module")):
        for data in (None, noise(2, 4)):
            table = initialize(model, "he", data=data)
            assert table[f"{prefix}.0.weight"].rule == "He fan_in=4, relu"
            assert table[f"{prefix}.2.weight"].rule == "He fan_in=4, no activation"
        assert initialize(model, "lsuv", data=noise(9, 4))[f"{prefix}.2.weight"].rule.startswith("LSUV")


@pytest.mark.parametrize("scheme", ["he", "lsuv"])
def test_the_weights_of_a_scripted_part_are_left_as_they_are_and_the_rest_is_initialised(scheme):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 4))
    before = model[1].weight.detach().clone()
    for data in (None, noise(3, 4))[scheme == "lsuv" :]:
        table = initialize(model, scheme, data=data)
        assert table["1.weight"].rule == "as RecursiveScriptModule made it"
        assert torch.equal(model[1].weight, before)
        assert table["2.weight"].gain == 1 or scheme == "lsuv"
        assert model(noise(3, 4)).shape == (3, 4)
