"""A model that has learned what there is to learn is healthy, however small its steps and its gradients are."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steepest.diagnose import Diagnosis, Monitor
from steepest.diagnose._rules.learning_rate import suggestion
from steepest.diagnose._rules.measures import trained_before, typical_updates
from steepest.diagnose._rules.step_size import learning_rate_too_high, learning_rate_too_low

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
Make = Callable[..., torch.optim.Optimizer]


def classify(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def regress(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x)[:, 0], y)


def momentum(model: nn.Module, lr: float = 0.5) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def adam(model: nn.Module, lr: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


class Training:
    """A model on data that fit into one batch."""

    def __init__(self, make: Make = momentum, loss: Loss = classify, noise: float = 0.0):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(256, 10, generator=generator)
        if loss is not regress:
            self.y = (self.x[:, 0] > 0).long()
        else:
            self.y = 0.5 * self.x[:, 0] + noise * torch.randn(256, generator=generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))
        self.make, self.loss, self.optimizer = make, loss, make(self.model)

    def step(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(self.model, self.x, self.y)
        loss.backward()
        self.optimizer.step()
        return loss

    def earlier(self, steps: int = 200) -> Training:
        """Steps that nobody watched."""
        for _ in range(steps):
            self.step()
        return self

    def watched(self, steps: int = 40, after: Callable[[int], None] = lambda _: None, target: bool = True) -> Monitor:
        with Monitor(self.model, self.optimizer) as monitor:
            for step in range(steps):
                monitor.record(step, self.step(), target=self.y if target else None)
                after(step)
        return monitor

    def rate(self, lr: float) -> Training:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return self


def said(monitor: Monitor) -> Diagnosis:
    found = monitor.diagnosis()
    rate = re.search(r"rate of (\S+) in place", found.remedy)
    assert rate is None or float(rate[1]) <= 1, found
    return found


@pytest.mark.parametrize("target", [True, False])
@pytest.mark.parametrize("lr", [1e-5, *(pytest.param(lr, marks=pytest.mark.slow) for lr in (1e-3, 1e-8))])
@pytest.mark.parametrize("make", [momentum, adam])
def test_at_the_end_of_a_schedule(make, lr, target):
    assert said(Training(make).earlier().rate(lr).watched(target=target)).cause == "healthy"


@pytest.mark.parametrize("target", [True, False])
def test_of_a_schedule_that_the_optimizer_knows(target):
    training = Training(lambda model: torch.optim.SGD(model.parameters(), lr=0.5))  # without a state
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(training.optimizer, 240)
    for _ in range(238):
        training.step()
        schedule.step()
    monitor = training.watched(target=target)
    assert monitor._result.peak_lr == 0.5
    assert said(monitor).cause == "healthy"


@pytest.mark.parametrize("target", [True, False])
def test_with_warm_restarts(target):
    training = Training().earlier()
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(training.optimizer, 15)
    monitor = training.watched(59, after=lambda _: schedule.step(), target=target)
    assert said(monitor).cause == "healthy"


@pytest.mark.parametrize("target", [True, False])
@pytest.mark.parametrize("make", [momentum, adam])
def test_resumed_from_a_checkpoint(make, target):
    old = Training(make).earlier()
    state = copy.deepcopy((old.model.state_dict(), old.optimizer.state_dict()))
    new = Training(make)
    new.model.load_state_dict(state[0])
    new.optimizer.load_state_dict(state[1])
    monitor = new.rate(1e-5).watched(target=target)
    assert monitor._result.resumed
    assert said(monitor).cause == "healthy"


@pytest.mark.parametrize("target", [True, False])
@pytest.mark.parametrize("make", [momentum, adam])
def test_with_a_new_optimizer(make, target):
    training = Training(make).earlier()
    training.optimizer = make(training.model, lr=1e-5)
    monitor = training.watched(target=target)
    assert not monitor._result.resumed
    assert said(monitor).cause == "healthy"


@pytest.mark.parametrize("target", [True, False])
@pytest.mark.parametrize("noise", [0.6, *(pytest.param(noise, marks=pytest.mark.slow) for noise in (0.0, 0.3))])
def test_at_the_floor_of_a_regression(noise, target):
    training = Training(adam, regress, noise).earlier()
    training.optimizer = adam(training.model, lr=1e-6)
    assert said(training.watched(target=target)).cause == "healthy"


def test_a_large_step_at_the_floor_does_no_harm():
    records = Training().earlier().rate(1e-5).watched()._result
    rows = replace(records.rows, update=np.full_like(records.rows.update, 0.6))
    assert learning_rate_too_high(replace(records, rows=rows)) is None
    assert learning_rate_too_high(replace(records, rows=rows, baselines={"cross entropy": 1e-9})) is not None


@pytest.mark.parametrize("make", [momentum, adam])
def test_an_untrained_model_at_such_a_rate_is_still_told_to_raise_it(make):
    monitor = Training(make).rate(1e-7).watched()
    found = monitor.diagnosis()
    assert found.cause == "learning_rate_too_low"
    assert trained_before(monitor._result) is False
    assert 1e-4 < float(re.findall(r"rate of (\S+) in place", found.remedy)[0]) < 1


def test_where_no_constant_predictor_is_known_the_rate_is_raised_a_thousandfold_at_most():
    records = Training(momentum).rate(1e-7).watched()._result
    unknown = replace(records, baselines={}, inferred=math.nan, rows=replace(records.rows, persistence=1.0))
    assert trained_before(unknown) is None
    found = learning_rate_too_low(unknown)
    assert float(re.findall(r"rate of (\S+) in place", found.remedy)[0]) == pytest.approx(1e-4)
    assert learning_rate_too_low(replace(unknown, resumed=True)) is None
    assert learning_rate_too_low(replace(unknown, peak_lr=1.0)) is None


def test_the_rate_to_try_is_at_most_that_of_the_schedule():
    training = Training(lambda model: torch.optim.SGD(model.parameters(), lr=1e-6))
    training.optimizer.param_groups[0]["initial_lr"] = 3e-6
    found = training.rate(1e-6).watched().diagnosis()
    assert found.cause == "learning_rate_too_low"
    assert "rate of 3.0e-06 in place" in found.remedy


def test_a_rate_is_lowered_where_it_is_too_high_and_raised_where_it_is_too_low():
    for lr in (1e-7, 1e4):
        for make in (momentum, adam):
            found = Training(make).rate(lr).watched(30).diagnosis()
            rate = float(re.findall(r"rate of (\S+) in place", found.remedy)[0])
            assert (rate > lr) == (found.cause == "learning_rate_too_low"), found


def test_a_step_that_is_too_large_later_asks_for_less_than_that_step():
    training = Training(lambda model: torch.optim.SGD(model.parameters(), lr=1e-3))

    def jump(step: int) -> None:
        training.rate(300.0 if step == 19 else 1e-3)

    records = training.watched(after=jump)._result
    updates = typical_updates(records)
    update = float(np.nanmax(updates))
    assert int(np.nanargmax(updates)) == 20
    found = learning_rate_too_high(records)
    rate = float(re.findall(r"rate of (\S+) in place", found.remedy)[0])
    assert rate <= 300.0 * 0.035 / update * 1.05


def test_the_rate_to_try_does_not_rest_on_what_follows_the_first_step_that_did_harm():
    training = Training(lambda model: torch.optim.SGD(model.parameters(), lr=3.0), regress)
    records = training.watched(60)._result
    assert float(np.nanmax(typical_updates(records))) > 1e10
    rate = float(re.findall(r"rate of (\S+) in place", learning_rate_too_high(records).remedy)[0])
    assert rate > 1e-3
    healthy = Training(lambda model: torch.optim.SGD(model.parameters(), lr=rate), regress).watched(60)
    assert healthy.diagnosis().cause == "healthy"


@pytest.mark.parametrize("how", ["never stepped", "a rate of 0"])
def test_a_model_that_stands_still_is_not_healthy_where_no_target_is_known(how):
    training = Training(lambda model: torch.optim.SGD(model.parameters(), lr=0.0))
    if how == "never stepped":
        training.optimizer.step = lambda: None
    found = training.watched(12, target=False).diagnosis()
    assert found.cause == "learning_rate_too_low"
    assert "no weight has changed" in str(found.evidence)
    assert "optimizer.step() is called" in found.remedy


@pytest.mark.parametrize("warm_up", [False, True])
def test_a_slow_start_is_no_loss_that_has_settled(warm_up):
    training = Training(lambda model: adam(model, 1e-4))

    def rise(step: int) -> None:
        if warm_up:
            training.rate(1e-5 * step)

    monitor = training.watched(40, after=rise)
    losses = monitor.history["loss"]
    assert 0.95 * losses[0] < losses[-1] < losses[20]
    assert monitor.diagnosis().cause != "data_unrelated_to_target"


def test_a_trained_model_may_stand_still():
    assert Training().earlier().rate(0.0).watched(12, target=False).diagnosis().cause == "healthy"


def test_a_first_step_that_is_large_enough_is_no_sign_of_a_small_rate():
    records = Training().rate(1e-6).watched()._result
    rows = replace(records.rows, update=np.full_like(records.rows.update, 0.1))
    assert learning_rate_too_low(records) is not None
    assert learning_rate_too_low(replace(records, rows=rows)) is None
    assert suggestion(records, least=math.inf) == ""


def test_weights_that_begin_at_zero_do_not_make_the_first_steps_large():
    training = Training(adam)
    nn.init.zeros_(training.model[2].weight)
    records = training.watched()._result
    assert np.nanmax(records.rows.update[:9, 2]) > 0.4
    assert np.nanmax(typical_updates(records)) < 0.4
