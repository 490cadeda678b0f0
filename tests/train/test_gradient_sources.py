"""Training with gradients from a source that evaluates the loss."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.train.blobs import SCORE, Own, blobs, error_rate, run, sgd
from tests.train.distributed_tasks import normalised
from tests.train.distributed_tasks import task as in_float64
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from steepest.communication import Ring
from steepest.errors import ImportFailed, InvalidArgument, TaskError, UnknownName
from steepest.estimators import Backprop, Estimate, FiniteDifference, Pathwise, ScoreFunction
from steepest.train import History, Start, Step, Validated, train, train_distributed
from steepest.train._distributed.replica import Replica
from steepest.train._distributed.run import settings_of
from steepest.train._gradients import Gradients
from steepest.train._loss import LossOfParameters


class Classifier(nn.Module):
    """Hidden layers with noise and with statistics."""

    def __init__(self, *, noise: float = 0.2) -> None:
        super().__init__()
        self.first, self.statistics, self.noise = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(noise)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.noise(torch.relu(self.statistics(self.first(x)))))


def without_times(history: History) -> dict[str, object]:
    fields = dataclasses.asdict(history)
    return {name: each for name, each in fields.items() if name not in ("seconds_per_step", "seconds", "duration")}


@pytest.mark.parametrize("gradient", ["backprop", Backprop()], ids=str)
def test_backpropagation_by_name_is_the_default_to_the_bit_and_a_step_is_one_evaluation(gradient):
    task = blobs(model=Classifier)
    found = run(task, gradient)
    assert without_times(found) == without_times(run(task, None))
    assert found.evaluations == found.steps == [0, 3, 6, 9, 12]
    assert without_times(run(task, gradient, evaluations=12)) == without_times(found)


@pytest.mark.parametrize("gradient", [SCORE, FiniteDifference(samples=4, directions="random")], ids=repr)
def test_the_same_seed_gives_the_same_bits_and_another_one_other_noise(gradient, rng_untouched):
    task = blobs(model=Classifier)
    assert without_times(run(task, gradient, seed=3)) == without_times(run(task, gradient, seed=3))
    assert run(task, gradient, seed=3).valid_loss != run(task, gradient, seed=4).valid_loss


@pytest.mark.parametrize("model", [nn.Identity, lambda: Classifier(noise=0.0)], ids=["in one call", "point by point"])
def test_finite_differences_take_the_steps_of_backpropagation(model):
    def network() -> nn.Module:
        return nn.Sequential(model(), nn.LazyLinear(3)).double() if model is nn.Identity else model().double()

    x, labels = blobs().train
    x = x.double()
    task = blobs(model=lambda: nn.Linear(4, 3).double() if model is nn.Identity else network(), train=(x, labels))
    task = dataclasses.replace(task, valid=(x[:30], labels[:30]), clip_norm=0.5)
    by_differences, by_backpropagation = run(task, FiniteDifference(delta=1e-5)), run(task, None)
    assert by_differences.valid_loss == pytest.approx(by_backpropagation.valid_loss, rel=1e-6)
    assert by_differences.train_loss == pytest.approx(by_backpropagation.train_loss, rel=1e-6)
    assert by_differences.gradient_norm.keys() == by_backpropagation.gradient_norm.keys()
    for name, norms in by_differences.gradient_norm.items():
        assert norms == pytest.approx(by_backpropagation.gradient_norm[name], rel=1e-5, abs=1e-8)


def test_all_evaluations_of_a_step_draw_the_same_random_numbers_and_those_of_another_step_others():
    own = Own()
    run(blobs(model=Classifier, batch_size=96), own, lr=0.0)
    assert all(len(set(values)) == 1 for values in own.values)
    assert len({values[0] for values in own.values}) == 1 + 12  # one to measure the cost, and the steps


def test_statistics_of_a_step_are_those_of_one_evaluation():
    kept: list[nn.Module] = []

    def make(model: nn.Module, lr: float) -> Optimizer:
        kept.append(model)
        return sgd(model, lr)

    run(blobs(model=Classifier), SCORE, make)
    assert int(kept[0].statistics.num_batches_tracked) == 12
    assert not kept[0].statistics.running_mean.equal(torch.zeros(6))


class Counts(nn.Module):
    """Counts the calls in training in a buffer that it replaces, and looks at numbers if it is told to."""

    def __init__(self, *, looks: bool) -> None:
        super().__init__()
        self.linear, self.looks = nn.Linear(4, 3), looks
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls = self.calls + 1
        output = self.linear(x)
        return output if not self.looks or float(output.sum()) < 1e9 else output.detach()


def test_a_loss_that_cannot_be_vectorised_gives_the_same_values():
    task = blobs()
    batch = next(task.batches(torch.Generator().manual_seed(0)))
    gradients = []
    for looks in (False, True):
        model = blobs(model=lambda looks=looks: Counts(looks=looks)).build(0)
        found = Gradients(SCORE, task, model, 0, "cpu")
        found.rehearse(task, batch)
        assert found.changed == [True]
        assert float(model.calls) == 0
        found.compute(batch, step=0)
        assert float(model.calls) == 1
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_large_intermediate_tensors_are_not_multiplied_by_the_samples(monkeypatch):
    task = blobs()
    batch = next(task.batches(torch.Generator().manual_seed(0)))
    loss = LossOfParameters(task, task.build(0), "cpu", needs_autograd=False)
    assert loss.rehearse(batch)[0] == (1 << 22) // 48  # outputs of 16 x 3 numbers are the largest tensor
    monkeypatch.setattr("steepest.train._loss._TOGETHER", 2 * 48 - 1)
    assert loss.rehearse(batch)[0] == 1


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


def test_a_source_sees_each_parameter_that_trains_once_and_frozen_ones_stay():
    own = Own()
    run(blobs(model=Tied, frozen=("last",)), own)
    assert own.names == ["first.weight", "first.bias", "second.bias"]
    x, labels = blobs().train
    task = blobs(model=lambda: Tied().double(), train=(x.double(), labels), valid=(x.double(), labels))
    assert run(task, FiniteDifference(delta=1e-5)).valid_loss == pytest.approx(run(task, None).valid_loss, rel=1e-6)


def test_autograd_follows_the_loss_only_where_a_source_needs_it():
    tracked: list[bool] = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        tracked.append(torch.is_grad_enabled())
        return nn.functional.cross_entropy(output, target)

    task = blobs(loss=loss, steps=1, valid_loss=nn.functional.cross_entropy)
    run(task, SCORE)
    assert set(tracked) == {False}
    tracked.clear()
    run(task, Pathwise(sigma=0.1, samples=4))
    assert set(tracked) == {True}


def test_a_pathwise_gradient_without_noise_to_speak_of_is_that_of_backpropagation():
    found, expected = run(gradient=Pathwise(sigma=1e-6, samples=2)), run(gradient=None)
    assert found.valid_loss == pytest.approx(expected.valid_loss, rel=1e-4)


def test_evaluations_are_the_budget_and_the_run_never_spends_more():
    found = run(evaluations=105)
    assert found.steps[-1] == 5
    assert found.evaluations == [20 * step for step in found.steps]
    assert run(steps=3).evaluations[-1] == 60
    assert run().evaluations == [0, 60, 120, 180, 240]


def test_the_cost_of_a_source_that_does_not_say_it_is_measured_and_counted():
    found = run(gradient=Own(3), evaluations=20)
    assert (found.steps[-1], found.evaluations[0], found.evaluations[-1]) == (5, 3, 18)
    found = run(gradient=Own(3), steps=5)
    assert (found.steps[-1], found.evaluations[-1]) == (5, 18)


def test_schedule_and_validations_run_over_evaluations_where_the_cost_grows():
    rates: list[float] = []
    optimizers: list[Optimizer] = []

    def make(model: nn.Module, lr: float) -> Optimizer:
        optimizers.append(sgd(model, lr))
        return optimizers[0]

    def watch(event) -> None:
        if isinstance(event, Step):
            rates.append(optimizers[0].param_groups[0]["lr"])
        if isinstance(event, Validated):
            lasts.append(event.is_last)

    lasts: list[bool] = []
    found = run(gradient=Own(2, grows=1), optimizer=make, lr=1.0, steps=20, schedule="linear", observe=watch)
    spent = [0, 3, 7, 12, 18, 25, 33]  # after the measurement, which costs 2
    assert rates == pytest.approx([1 - (count // 2) / 20 for count in spent[:-1]])
    assert [each - 2 for each in found.evaluations] == [0, 12, 25, 33]  # where a quarter, half and all but 7 are spent
    assert found.evaluations[-1] <= 2 + 20 * 2
    assert lasts == [False, False, False, True]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"evaluations": 19}, InvalidArgument, "enough for a step, which needs 20"),
        ({"evaluations": 0}, InvalidArgument, "evaluations must be"),
        ({"evaluations": 20, "steps": 1}, InvalidArgument, "steps or evaluations, not both"),
        ({"evaluations": 40, "warmup": 2}, InvalidArgument, "warmup must be shorter than the run"),
        ({"evaluations": 5, "gradient": Own(3)}, InvalidArgument, "needs 3, after 3 to measure that"),
        ({"gradient": "score"}, UnknownName, "score-function"),
        ({"gradient": "score-function:sigma=-1"}, InvalidArgument, "sigma must be"),
        ({"gradient": "nowhere:source"}, ImportFailed, "nowhere"),
        ({"gradient": 3}, InvalidArgument, "gradient"),
        ({"gradient": lambda _f, _x: None}, InvalidArgument, "called as source(objective, x, generator)"),
        ({"gradient": lambda *_: None}, InvalidArgument, "must be a steepest.estimators.Estimate"),
        ({"gradient": lambda _f, x, _g: Estimate(torch.ones(()), x, evaluations=0)}, InvalidArgument, "evaluations"),
        ({"gradient": lambda _f, x, _g: Estimate(torch.ones(()), {**x, "b": x["bias"]})}, InvalidArgument, "names"),
        ({"gradient": lambda _f, x, _g: Estimate(torch.ones(()), {**x, "bias": x["weight"]})}, InvalidArgument, "(3,)"),
        ({"gradient": lambda _f, x, _g: Estimate(torch.ones(()), x["bias"])}, InvalidArgument, "names and shapes"),
        ({"gradient": lambda _f, x, _g: Estimate(1.0, x)}, InvalidArgument, "a scalar tensor (got 'a float')"),
        ({"gradient": lambda _f, x, _g: Estimate(torch.ones(2), x)}, InvalidArgument, "a scalar tensor"),
        ({"gradient": lambda _f, x, _g: Estimate(torch.ones(()) * 1j, x)}, InvalidArgument, "complex"),
        ({"gradient": lambda *_: Estimate(torch.ones(()), 0.0)}, InvalidArgument, "names and shapes"),
        ({"gradient": lambda _f, x, _g: Estimate(torch.ones(()), {**x, "bias": 0.0})}, InvalidArgument, "a float of"),
        (
            {"gradient": lambda _f, x, _g: Estimate(torch.ones(()), {**x, "bias": 1j * x["bias"]})},
            InvalidArgument,
            ", c",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, error, message):
    with pytest.raises(error) as caught:
        run(**options)
    assert message in str(caught.value)


def test_a_loss_without_a_gradient_is_trained_by_a_source_that_needs_none():
    task = blobs(loss=error_rate, steps=150, validations=1)
    found = run(task, ScoreFunction(sigma=0.3, samples=40), lr=3.0)
    assert found.valid_loss[-1] <= 0.25 < found.valid_loss[0]
    task.check(needs_gradient=False)
    for refused in (task.check, lambda: run(task, None), lambda: run(task, "pathwise")):
        with pytest.raises(TaskError, match=r"must depend on the model's parameters.*--gradient score-function"):
            refused()


def test_losses_and_gradient_norms_are_recorded_and_there_is_no_diagnosis():
    found = run()
    assert found.gradient_steps == [0, 3, 6, 9]
    assert found.diagnosis is None
    assert all(norm > 0 for norm in found.mean_gradient_norm)
    assert found.gradient_norm.keys() == {"weight", "bias"}
    both = [(w + b) / 2 for w, b in zip(*found.gradient_norm.values(), strict=True)]
    assert found.mean_gradient_norm == pytest.approx(both)
    assert found.train_loss[0] == pytest.approx(found.valid_loss[0], rel=0.3)


def test_observers_hear_of_evaluations():
    heard: list[tuple] = []

    def observe(event) -> None:
        if isinstance(event, Start):
            heard.append((event.steps, event.validations))
        elif isinstance(event, Validated):
            heard.append((event.step, event.evaluations, event.is_last))

    run(evaluations=100, validations=2, observe=observe)
    assert heard == [(5, 2), (0, 0, False), (3, 60, False), (5, 100, True)]


def test_values_that_are_not_finite_or_all_equal_are_remarked_once():
    def broken(output: Tensor, target: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(output, target)
        return torch.where((output[:, 0] > 4.2).any(), math.nan, loss)

    task = blobs(loss=broken, valid_loss=nn.functional.cross_entropy)
    found = run(task, ScoreFunction(sigma=0.3, samples=40))
    (remark,) = found.remarks
    assert not found.diverged
    assert " of 12 steps " in remark
    assert remark.endswith("values of the loss were NaN or infinite; each was treated as the worst finite one.")
    flat = blobs(loss=lambda output, target: 0 * output.sum() + len(target))
    (remark,) = run(flat).remarks
    assert remark.startswith("In 12 of 12 steps all values of the loss were equal")


def test_a_gradient_that_is_not_finite_ends_the_run_as_diverged():
    def infinite(_objective, x, _generator) -> Estimate:
        return Estimate(torch.ones(()), {name: torch.full_like(each, math.nan) for name, each in x.items()})

    lost = blobs(loss=lambda output, _target: output.sum() * math.nan, valid_loss=nn.functional.cross_entropy)
    for found in (run(gradient=infinite), run(lost), run(lost, FiniteDifference(delta=0.1))):
        assert found.diverged
        assert found.valid_loss[-1] == math.inf


class UnluckyError(Exception):
    """What the loss of a user raises."""


def test_the_error_of_a_loss_arrives_as_it_was_raised():
    def unlucky(output: Tensor, target: Tensor) -> Tensor:
        if not output.requires_grad and float(output.sum()) < 1e9:
            raise UnluckyError("no luck")
        return nn.functional.cross_entropy(output, target)

    with pytest.raises(UnluckyError, match="no luck"):
        run(blobs(loss=unlucky))


def test_a_history_that_was_stored_before_evaluations_were_counted_has_one_per_step():
    found = run()
    assert History.from_json(found.to_json()) == found
    stored = json.loads(found.to_json())
    del stored["evaluations"]
    assert History.from_json(json.dumps(stored)).evaluations == found.steps
    for wrong in ([0, 1], [5, 4, 3, 2, 1], [-1, 0, 1, 2, 3]):
        with pytest.raises(InvalidArgument):
            History.from_json(json.dumps({**stored, "evaluations": wrong}))


@pytest.mark.slow
def test_the_example_trains_a_network_on_its_accuracy():
    example = Path(__file__).parents[2] / "examples" / "train_on_accuracy.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\S+ ?\w*), .*?([\d.]+)% +([\d.]+)% +200 +([\d,]+)$", done.stdout, re.MULTILINE)
    before, after = ({name: float(row[i]) for name, *row in rows} for i in (0, 1))
    assert rows[-1][3] == "20,000"
    assert before["error rate"] < 20
    assert after["error rate"] > 80 < after["cross-entropy"]


def replica(gradient, model=normalised) -> Replica:
    options = {"lr": 0.05, "seed": 3, "steps": 4, "evaluations": None, "schedule": "cosine", "warmup": 0}
    more = {"validations": None, "device": "cpu", "gradient": gradient, "scheme": Ring()}
    return Replica(settings_of(in_float64(model=model), sgd, "default", **options, **more))


def test_a_worker_that_begins_again_from_a_saved_state_has_the_same_noise():
    first, second = replica(SCORE), replica(SCORE)
    for _ in range(2):
        first.gradient(first.shares.at(first.step, 0, 1)[0], 0)
        first.advance()
    second.load(first.save())
    for each in (first, second):
        each.gradient(each.shares.at(2, 1, 2)[0], 1)
    assert all(a.grad.equal(b.grad) for a, b in zip(first.parameters, second.parameters, strict=True))
    before = [each.grad.clone() for each in first.parameters]
    first.gradient(first.shares.at(2, 1, 2)[0], 0)
    assert not any(a.equal(b.grad) for a, b in zip(before, first.parameters, strict=True))  # another rank
    assert first.evaluations == 20
    first.gradient(None, 0)
    assert first.evaluations == 0
    assert not any(each.grad.any() for each in first.parameters)


def test_statistics_are_exchanged_where_a_source_evaluates_too():
    assert [each.shape for each in replica(SCORE)._statistics] == [(8,), (8,)]
    assert len(replica(SCORE, lambda: nn.Linear(5, 2).double())._statistics) == 0


def test_several_workers_end_where_backpropagation_does():
    options = {"lr": 0.05, "seed": 3, "steps": 8}
    found = train_distributed(
        in_float64(), sgd, "default", workers=2, scheme=Ring(), gradient=FiniteDifference(delta=1e-5), **options
    )
    alone = train(in_float64(), sgd, "default", **options)
    assert found.history.valid_loss == pytest.approx(alone.valid_loss, rel=1e-7)
    assert found.history.evaluations == [2 * 58 * step for step in found.history.steps]
    assert found.group.agrees
    assert found.settings["gradient"] == "FiniteDifference(delta=1e-05)"
    assert "928 evaluations of the loss" in found.headline
