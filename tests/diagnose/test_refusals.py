"""What a monitor refuses, and how it says so: the rule, what came, what to do."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from steepest.diagnose import Monitor
from steepest.errors import InvalidArgument, SteepestError, UnknownName


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def shown(value: object) -> str:
    """A value as messages show it."""
    return str(InvalidArgument("", got=value, remedy="")).partition("got ")[2].rpartition(")")[0]


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(), nn.BatchNorm1d(3, affine=False)])
def test_a_model_without_parameters(model):
    message = rf"a model to watch must have parameters \(got '{type(model).__name__}'\). Pass a module with layers."
    with pytest.raises(InvalidArgument, match=message):
        Monitor(model)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_a_lazy_model_before_its_first_batch():
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(2))
    message = (
        r"a model to watch must know the shapes of its parameters \(got '0.weight'\). "
        "Run one batch through its lazy layers first."
    )
    with pytest.raises(InvalidArgument, match=message):
        Monitor(model)
    model(torch.ones(1, 4))
    Monitor(model)


def test_an_optimizer_that_holds_none_of_the_models_parameters():
    model = network()
    strange = torch.optim.Adam(network().parameters())
    message = (
        r"the optimizer must hold parameters of the model that is watched \(got 'Adam'\). "
        r"Make the optimizer from model.parameters\(\), after the model is complete and on its device."
    )
    with pytest.raises(InvalidArgument, match=message):
        Monitor(model, strange)
    with pytest.raises(InvalidArgument, match="got 'Adam, SGD'"):
        Monitor(model, [strange, torch.optim.SGD(network().parameters(), lr=0.1)])
    Monitor(model, [strange, torch.optim.SGD(model.parameters(), lr=0.1)])


@pytest.mark.parametrize("every", [0, -3, 2.5, 2.0, math.nan, math.inf, True, "2", None, torch.tensor(2)], ids=repr)
def test_recording_what_is_no_whole_number_of_steps(every):
    message = rf"every must be a whole number >= 1 \(got {re.escape(shown(every))}\). Pass 1 to record each step."
    with pytest.raises(InvalidArgument, match=message):
        Monitor(network(), every=every)


@pytest.mark.parametrize("step", [-1, 0.5, math.nan, True, "1", None, torch.tensor(1)], ids=repr)
def test_a_step_that_is_no_count(step):
    message = rf"step must be a whole number >= 0 \(got {re.escape(shown(step))}\). Count the steps from 0 or 1 on."
    with Monitor(network()) as monitor, pytest.raises(InvalidArgument, match=message):
        monitor.record(step, 1.0)
    assert monitor.history["step"] == []


@pytest.mark.parametrize("model", [None, 3, "net", torch.ones(2), nn.Linear], ids=str)
def test_a_model_that_is_none(model):
    with pytest.raises(InvalidArgument, match=r"model must be a torch.nn.Module \(got .*Pass a torch.nn.Module."):
        Monitor(model)


@pytest.mark.parametrize("optimizer", [3, "adam", [None], [torch.ones(1)], torch.optim.SGD, nn.Linear(1, 1)], ids=str)
def test_an_optimizer_that_is_none(optimizer):
    with pytest.raises(InvalidArgument, match=r"optimizer must be a torch.optim.Optimizer, or several \(got "):
        Monitor(network(), optimizer)


@pytest.mark.parametrize("frozen", [3, None, [None], [3], [["0"]], nn.Linear(1, 1)], ids=str)
def test_frozen_names_that_are_no_strings(frozen):
    with pytest.raises(InvalidArgument, match=r"frozen must be names of parameters or modules, or patterns \(got "):
        Monitor(network(), frozen=frozen)


@pytest.mark.parametrize(
    "loss",
    [1j, torch.tensor(1j), "1.0", [1.0], True, torch.tensor(True), torch.tensor(1.0, device="meta"), nn.Linear(1, 1)],
    ids=str,
)
def test_a_loss_that_is_no_real_number(loss):
    message = r"loss must be a real number, or None \(got .*\). Record the batch's loss."
    with Monitor(network()) as monitor, pytest.raises(InvalidArgument, match=message):
        monitor.record(0, loss)
    assert monitor.history["step"] == []


@pytest.mark.parametrize("loss", [None, math.nan, math.inf, torch.tensor(-math.inf), np.float32(2), torch.tensor(3)])
def test_a_loss_that_is_not_finite_or_not_known_is_recorded(loss):
    with Monitor(network()) as monitor:
        monitor.record(0, loss)
    assert repr(monitor.history["loss"]) == repr([math.nan if loss is None else float(loss)])


@pytest.mark.parametrize("target", [3, "y", [1, 2], np.ones(3)], ids=str)
def test_a_target_that_is_no_tensor(target):
    with Monitor(network()) as monitor, pytest.raises(InvalidArgument, match=r"target must be a tensor \(got "):
        monitor.record(0, 1.0, target=target)
    assert monitor.history["step"] == []


@pytest.mark.parametrize("gradient", [3, "0.weight", torch.tensor(1.0), [1, 2, 3, 4], {"0.weight": 1.0}], ids=str)
def test_gradients_that_are_none(gradient):
    with Monitor(network()) as monitor, pytest.raises(InvalidArgument, match=r"gradient .*must "):
        monitor.record(0, 1.0, gradient=gradient)
    assert monitor.history["step"] == []


def test_entering_twice():
    monitor = Monitor(network())
    with monitor:
        with pytest.raises(
            InvalidArgument, match=r"a monitor must be entered once \(got 'open'\). Make a new Monitor."
        ):
            monitor.__enter__()
        monitor.record(0, 1.0)
    with pytest.raises(InvalidArgument, match=r"a monitor must be entered once \(got 'closed'\)"), monitor:
        pass
    assert monitor.history["step"] == [0]


def test_recording_before_the_block_and_after_it():
    monitor = Monitor(network())
    message = (
        r"steps must be recorded inside the monitor's block \(got 'a new monitor'\). "
        r"Put the training loop into `with Monitor\(model\) as monitor:`."
    )
    with pytest.raises(InvalidArgument, match=message):
        monitor.record(0, 1.0)
    with monitor:
        pass
    with pytest.raises(InvalidArgument, match="got 'a closed monitor'"):
        monitor.record(0, 1.0)


@pytest.mark.parametrize("shape", [(2,), (0,), (3, 1), (8, 4)])
def test_a_loss_that_is_no_scalar(shape):
    message = rf"loss must be a scalar \(got 'shape {re.escape(str(shape))}'\). Record loss.mean\(\) or loss.sum\(\)."
    with Monitor(network()) as monitor, pytest.raises(InvalidArgument, match=message):
        monitor.record(0, torch.ones(shape))
    assert monitor.history["step"] == []


def test_gradients_that_are_too_few_or_too_many():
    message = (
        r"gradient must hold one gradient for each of the 4 parameters \(got '3 gradients'\). "
        "Pass a mapping by parameter name, or None where there is no gradient."
    )
    model = network()
    with Monitor(model) as monitor:
        with pytest.raises(InvalidArgument, match=message):
            monitor.record(0, 1.0, gradient=[torch.ones(1)] * 3)
        with pytest.raises(InvalidArgument, match="got '5 gradients'"):
            monitor.record(0, 1.0, gradient=[None] * 5)
    assert monitor.history["step"] == []


def test_a_gradient_by_a_name_that_is_no_parameters():
    message = r"there is no such parameter \(got '0.wieght'\). Did you mean 0.weight.*Known: 0.weight, 0.bias, 2.weight"
    with Monitor(network()) as monitor, pytest.raises(UnknownName, match=message):
        monitor.record(0, 1.0, gradient={"0.wieght": torch.ones(6, 4)})
    assert monitor.history["step"] == []


@pytest.mark.parametrize("frozen", [["0.wieght"], ["encoder"], ["0", "head.*"], "1", [""]], ids=str)
def test_freezing_what_does_not_exist(frozen):
    with pytest.raises(UnknownName, match=r"there is no such parameter or module \(got "):
        Monitor(network(), frozen=frozen)


def test_a_refusal_says_which_name_it_does_not_know_and_which_it_does():
    with pytest.raises(UnknownName, match=r"got '0.wieght'\). Did you mean 0.weight.*Known: 0.weight, 0.bias"):
        Monitor(network(), frozen=["0.weight", "0.wieght"])


def test_a_refusal_inside_the_loop_leaves_the_monitor_watching():
    model = network()
    with Monitor(model) as monitor:
        with pytest.raises(InvalidArgument):
            monitor.record(0, torch.ones(3))
        model(torch.ones(2, 4)).sum().backward()
        monitor.record(0, torch.tensor(1.0))
    assert monitor.history["step"] == [0]
    assert monitor.history["activations"]["output"]["mean"][0] == pytest.approx(
        float(model(torch.ones(2, 4)).detach().mean()), abs=1e-5
    )


def test_every_refusal_is_an_error_of_this_library_and_a_value_error():
    for kind in (InvalidArgument, UnknownName):
        assert issubclass(kind, SteepestError)
        assert issubclass(kind, ValueError)
