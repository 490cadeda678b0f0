"""The training loop, on a task of a few milliseconds."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer
from torch.utils.data import Dataset

from steepest.errors import InvalidArgument, SteepestError, TaskError, UnknownName
from steepest.init import Initializer, Normal
from steepest.norms import L2
from steepest.optim import Muon, Scion, SignDescent, SteepestDescent
from steepest.tasks import Task, curve
from steepest.train import SCHEDULES, End, Event, History, Start, Step, Validated, train

EXAMPLES = 60


def small(**changes) -> Task:
    """Regression with a model that draws random numbers of its own while it trains."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(EXAMPLES, 4, generator=generator)
    y = torch.sin(x.sum(dim=1, keepdim=True))
    return Task(
        **{
            "model": lambda: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1)),
            "loss": nn.functional.mse_loss,
            "train": (x, y),
            "valid": (x[:20], y[:20]),
            "metric": lambda output, target: (output - target).abs().mean(),
            "batch_size": 10,
            "steps": 12,
            **changes,
        }
    )


def sgd(model: nn.Module, lr: float) -> Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


def adamw(model: nn.Module, lr: float) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr)


def run(task: Task | None = None, optimizer=sgd, init="he", *, lr=0.05, seed=0, **options) -> History:
    return train(task or small(), optimizer, init, lr=lr, seed=seed, **options)


class Recorder(Optimizer):
    """Wraps an optimizer; keeps the starting weights and each step's learning rate and gradients."""

    def __init__(self, inner: Optimizer) -> None:
        self.inner = inner
        self.rates: list[float] = []
        self.gradients: list[list[Tensor]] = []
        super().__init__([p for group in inner.param_groups for p in group["params"]], {"lr": inner.defaults["lr"]})
        self.start = [p.detach().clone() for p in self.param_groups[0]["params"]]

    def step(self, closure=None) -> None:  # noqa: ARG002
        self.rates.append(self.param_groups[0]["lr"])
        self.gradients.append([p.grad.clone() for p in self.param_groups[0]["params"]])
        for group in self.inner.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        self.inner.step()


def recorded(optimizer, **options) -> tuple[Recorder, History]:
    held: list[Recorder] = []

    def make(model: nn.Module, lr: float) -> Optimizer:
        held.append(Recorder(optimizer(model, lr)))
        return held[0]

    history = run(optimizer=make, **options)
    return held[0], history


def without_times(history: History) -> dict[str, object]:
    fields = dataclasses.asdict(history)
    for name in ("seconds_per_step", "seconds", "duration"):
        del fields[name]
    return fields


@pytest.mark.parametrize("optimizer", [sgd, adamw, lambda model, lr: SignDescent(model.parameters(), lr)])
def test_the_same_seed_gives_the_same_bits(optimizer):
    assert without_times(run(optimizer=optimizer, seed=3)) == without_times(run(optimizer=optimizer, seed=3))


@pytest.mark.parametrize("init", ["he", "default", Normal(std=0.1)])
def test_another_seed_gives_other_weights_and_another_order(init):
    first, _ = recorded(sgd, init=init, seed=0)
    second, _ = recorded(sgd, init=init, seed=1)
    assert not torch.equal(first.start[0], second.start[0])
    assert not torch.equal(first.gradients[0][0], second.gradients[0][0])


def test_the_order_of_other_runs_does_not_matter():
    alone = without_times(run(seed=5))
    run(seed=6)
    torch.rand(100)
    assert without_times(run(seed=5)) == alone


def logged(task: Task, seen: list[list[Tensor]]) -> Task:
    """The task, which writes down each batch that its loss is asked about."""

    def loss(output: Tensor, target: Tensor) -> Tensor:
        if output.requires_grad:
            seen.append([target.clone()])
        return nn.functional.mse_loss(output, target)

    return dataclasses.replace(task, loss=loss)


def test_different_optimizers_with_one_seed_start_alike_and_see_the_same_data_and_noise():
    targets: list[list[list[Tensor]]] = [[], []]
    still, _ = recorded(sgd, task=logged(small(), targets[0]), lr=0.0, schedule="constant")
    moving, _ = recorded(adamw, task=logged(small(), targets[1]), lr=0.01)
    assert all(torch.equal(a, b) for a, b in zip(still.start, moving.start, strict=True))
    # The first gradient passes through the same dropout mask.
    assert all(torch.equal(a, b) for a, b in zip(still.gradients[0], moving.gradients[0], strict=True))
    assert not torch.equal(still.gradients[5][0], moving.gradients[5][0])
    assert len(targets[0]) == len(targets[1]) == 12
    for (a,), (b,) in zip(*targets, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("optimizer", [sgd, adamw, lambda model, lr: SteepestDescent(model.parameters(), L2(), lr)])
def test_global_random_numbers_are_left_alone(optimizer, rng_untouched):
    with rng_untouched():
        run(optimizer=optimizer)


def test_a_model_with_dropout_is_trained_with_it_and_validated_without():
    modes: list[tuple[bool, bool]] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            modes.append((self.training, torch.is_grad_enabled()))
            return self.linear(x)

    run(small(model=Watched, eval_batch_size=20), steps=4, validations=2)
    # First the init looks at what follows each layer.
    validated, trained = (False, False), (True, True)
    expected = [(True, False), validated, trained, trained, validated, trained, trained, validated]
    assert modes == expected


class Augmented(Dataset):
    """Examples with noise from torch's global generator, new at each look."""

    def __init__(self) -> None:
        (self.x, self.y), self.looks = small().train, 0

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        self.looks += 1
        return self.x[i] + 0.1 * torch.randn(4), self.y[i]


@pytest.mark.parametrize("init", ["he", "lsuv"])
def test_data_that_draw_random_numbers_are_seeded_from_the_first_batch_on(init, rng_untouched):
    with rng_untouched():
        first = run(small(train=Augmented()), init=init, seed=3)
    torch.rand(7)
    again = run(small(train=Augmented()), init=init, seed=3)
    assert first.train_loss == again.train_loss
    assert first.valid_loss == again.valid_loss


def test_every_batch_is_drawn_once_the_one_that_the_init_sees_too():
    data = Augmented()
    task = small(train=data, batch_size=10)
    before = data.looks
    run(task, steps=4)
    assert data.looks - before == 4 * 10


def test_it_is_the_plain_loop():
    """Against the loop written out, without any of the library's packages but the task and the init."""
    task = small(model=lambda: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1)))
    history = run(task, lr=0.1, seed=2, steps=9, validations=3)
    model = task.build(2)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(2)
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                behind = "relu" if name == "0.weight" else "linear"
                nn.init.kaiming_normal_(parameter, nonlinearity=behind, generator=generator)
            else:
                parameter.zero_()
    order = torch.Generator().manual_seed(2)
    x, y = task.train
    losses, valid, norms = [], [float(nn.functional.mse_loss(model(task.valid[0]), task.valid[1]).detach())], []
    permutation = torch.cat([torch.randperm(EXAMPLES, generator=order) for _ in range(2)])
    for step in range(9):
        chosen = permutation[step * 10 : step * 10 + 10]
        loss = nn.functional.mse_loss(model(x[chosen]), y[chosen])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        lr = 0.1 * (1 + math.cos(math.pi * step / 9)) / 2
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= lr * gradient
        if step % 3 == 0:
            losses.append(float(loss.detach()))
            norms.append(sum(float(g.norm()) for g in gradients) / 4)
        if step % 3 == 2:
            valid.append(float(nn.functional.mse_loss(model(task.valid[0]), task.valid[1]).detach()))
    assert history.train_loss == pytest.approx(losses, rel=1e-5)
    assert history.mean_gradient_norm == pytest.approx(norms, rel=1e-5)
    assert history.valid_loss == pytest.approx(valid, rel=1e-5)


def test_training_lowers_the_loss():
    history = run(steps=200, lr=0.1)
    assert history.valid_loss[-1] < 0.5 * history.valid_loss[0]
    assert not history.diverged


@pytest.mark.parametrize(
    ("steps", "validations", "at"),
    [
        (12, 3, [0, 4, 8, 12]),
        (12, 12, list(range(13))),
        (12, 1, [0, 12]),
        (5, 30, [0, 1, 2, 3, 4, 5]),
        (7, 2, [0, 4, 7]),
        (59, 30, [*range(0, 59, 2), 59]),
        (1, 30, [0, 1]),
    ],
)
def test_validations_are_evenly_spread_and_the_last_step_has_one(steps, validations, at):
    history = run(steps=steps, validations=validations)
    every = history.steps[1]
    assert len(history.steps) <= 1 + validations
    assert history.steps == at
    assert history.gradient_steps == list(range(0, steps, every))


def test_without_a_number_of_steps_the_task_decides():
    recorder, history = recorded(sgd)
    assert history.steps[-1] == len(recorder.rates) == 12
    recorder, history = recorded(sgd, steps=5)
    assert history.steps[-1] == len(recorder.rates) == 5


def test_the_curves_of_a_history_have_one_length_each():
    history = run(steps=10, validations=4)
    assert len(history.steps) == len(history.valid_loss) == len(history.seconds)
    assert {len(history.steps)} == {len(values) for values in history.valid_metrics.values()}
    assert len(history.gradient_steps) == len(history.train_loss) == len(history.mean_gradient_norm)
    assert list(history.gradient_norm) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert {len(norms) for norms in history.gradient_norm.values()} == {len(history.gradient_steps)}
    means = [sum(norms) / 4 for norms in zip(*history.gradient_norm.values(), strict=True)]
    assert history.mean_gradient_norm == pytest.approx(means, rel=1e-6)
    assert history.seconds_per_step > 0


def test_a_history_is_plain_numbers():
    history = run()
    curves = [history.train_loss, history.valid_loss, history.mean_gradient_norm, history.seconds]
    for values in (*curves, *history.valid_metrics.values()):
        assert {type(value) for value in values} == {float}
    assert {type(step) for step in history.steps + history.gradient_steps} == {int}
    assert type(history.diverged) is bool
    assert type(history.state_bytes) is int


def test_the_first_validation_is_of_the_initialised_model():
    history = run(small(), init="zero")
    _, y = small().valid
    assert history.valid_loss[0] == pytest.approx(float(y.square().mean()), rel=1e-6)
    assert history.valid_metrics[small().metric_name][0] == pytest.approx(float(y.abs().mean()), rel=1e-6)


def test_each_metric_has_its_own_curve_and_without_one_there_is_none():
    def mean_error(output: Tensor, target: Tensor) -> Tensor:
        return (output - target).abs().mean()

    history = run(small(metric={"mean": mean_error, "twice": lambda *given: 2 * mean_error(*given)}))
    assert list(history.valid_metrics) == ["mean", "twice"]
    assert history.valid_metrics["twice"] == pytest.approx([2 * value for value in history.valid_metrics["mean"]])
    assert run(small(metric=None)).valid_metrics == {}


def test_seconds_are_those_of_training_and_the_duration_is_that_of_the_whole_run(monkeypatch):
    class Timed(nn.Linear):
        """Takes a second to train with a batch, and ten to evaluate one."""

        def forward(self, x: Tensor) -> Tensor:
            now[0] += 1.0 if self.training else 10.0
            return super().forward(x)

    now = [100.0]
    monkeypatch.setattr("steepest.train._loop.time", SimpleNamespace(perf_counter=lambda: now[0]))
    history = run(small(model=lambda: Timed(4, 1)), steps=6, validations=3)
    assert history.seconds == [0.0, 2.0, 4.0, 6.0]
    assert history.seconds_per_step == 1.0
    assert history.duration == now[0] - 100.0 > 40.0


def test_the_cosine_schedule_falls_from_lr_along_a_cosine_and_ends_at_zero():
    recorder, _ = recorded(sgd, lr=0.03, steps=8)
    expected = [0.03 * (1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)]
    assert recorder.rates == pytest.approx(expected, rel=1e-12)
    assert recorder.rates[0] == 0.03
    assert recorder.param_groups[0]["lr"] == 0


def test_the_constant_schedule_stays_at_lr():
    recorder, _ = recorded(sgd, lr=0.03, steps=8, schedule="constant")
    assert recorder.rates == [0.03] * 8
    assert recorder.param_groups[0]["lr"] == 0.03


def test_schedules_start_at_one_and_all_but_the_constant_one_end_at_zero():
    assert set(SCHEDULES) == {"constant", "cosine", "linear", "wsd"}
    assert all(factor(0) == 1 for factor in SCHEDULES.values())
    assert {name: factor(1) for name, factor in SCHEDULES.items() if name != "constant"} == {
        "cosine": 0,
        "linear": 0,
        "wsd": 0,
    }


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ("wsd", [1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5]),
        (lambda progress: progress**2, [t**2 / 100 for t in range(10)]),
    ],
    ids=["linear", "wsd", "own"],
)
def test_the_rates_of_a_run_follow_its_schedule(schedule, expected):
    recorder, _ = recorded(sgd, lr=0.03, steps=10, schedule=schedule)
    assert recorder.rates == pytest.approx([0.03 * factor for factor in expected])


@pytest.mark.parametrize("schedule", [*SCHEDULES, lambda progress: 1 - progress / 2])
@pytest.mark.parametrize("warmup", [4, 0.4, "40%", "4"])
def test_a_warm_up_rises_to_the_rate_and_the_schedule_runs_over_the_rest(schedule, warmup):
    recorder, history = recorded(sgd, lr=0.04, steps=10, schedule=schedule, warmup=warmup)
    after, _ = recorded(sgd, lr=0.04, steps=6, schedule=schedule)
    assert recorder.rates[:4] == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert recorder.rates[4:] == pytest.approx(after.rates)
    assert history.remarks == []


def test_a_constant_schedule_with_a_warm_up_overrules_what_the_optimizer_sets_itself_and_says_so():
    made: list[Warming] = []
    history = run(optimizer=warming(made), lr=0.05, steps=8, schedule="constant", warmup=2)
    assert made[0].rates == pytest.approx([0.025, *[0.05] * 7])
    assert "constant, overrules it; schedule='constant' without a warm-up would not" in history.remarks[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "lineer"}, r"no such schedule \(got 'lineer'\). Did you mean linear"),
        ({"schedule": "mine"}, r"Known: cosine, linear, constant, wsd, or a function of progress"),
        ({"schedule": lambda: 1.0}, r"schedule must be a function of progress \(got '.*takes 0 positional"),
        ({"schedule": lambda progress: 1 / progress if progress else math.nan}, r"schedule\(0\) must be a number in"),
        ({"warmup": -1}, r"warmup must be a whole number of steps, or a share of the run in \(0, 1\) or in percent"),
        ({"warmup": 1.5}, r"\(got 1.5\). Pass for example 100, 0.05 or \"5%\""),
        ({"warmup": "100%"}, r"\(got '100%'\)"),
        ({"warmup": True}, r"\(got True\)"),
        ({"warmup": 10, "steps": 10}, r"warmup must be shorter than the run \(got '10 of 10 steps'\)"),
    ],
)
def test_what_is_no_schedule_or_no_warm_up_is_refused(options, message):
    with pytest.raises(SteepestError, match=message):
        run(**options)


DIVERGING = {
    "sgd": sgd,
    "steepest, which sees the gradient": lambda model, lr: SteepestDescent(model.parameters(), L2(), lr),
    "sign": lambda model, lr: SignDescent(model.parameters(), lr),
}


@pytest.mark.parametrize("optimizer", DIVERGING.values(), ids=DIVERGING)
@pytest.mark.parametrize("validations", [1, 6, 30])
def test_a_run_that_diverges_ends_with_an_infinite_loss_and_no_exception(optimizer, validations):
    history = run(optimizer=optimizer, lr=1e10, steps=30, validations=validations)
    assert history.diverged
    assert history.valid_loss[-1] == math.inf
    assert all(math.isfinite(loss) for loss in history.valid_loss[:-1])
    assert len(history.steps) == len(history.valid_loss) == len(history.seconds)
    assert {len(history.steps)} == {len(values) for values in history.valid_metrics.values()}
    assert history.steps == sorted(set(history.steps))
    assert history.steps[-1] <= 30


def test_a_gradient_that_is_not_finite_ends_the_run_where_it_appears():
    def loss(output: Tensor, target: Tensor) -> Tensor:
        value = nn.functional.mse_loss(output, target)
        calls.append(1)
        return value * math.nan if len(calls) == 4 else value

    calls: list[int] = []
    history = run(
        small(loss=loss, eval_batch_size=20),
        lambda model, lr: SteepestDescent(model.parameters(), L2(), lr),
        steps=12,
        validations=1,
    )
    # Calls 1 to 4: the first validation, and three steps.
    assert history.diverged
    assert history.steps == [0, 3]
    assert history.valid_loss[1] == math.inf
    assert all(math.isnan(values[1]) for values in history.valid_metrics.values())


def test_a_run_that_starts_from_an_infinite_loss_has_diverged():
    task = small(loss=lambda output, target: nn.functional.mse_loss(output, target) * math.inf)
    history = run(task)
    assert history.diverged
    assert history.valid_loss == [math.inf]
    assert history.steps == [0]


def test_an_error_that_is_not_divergence_passes_through():
    class Broken(torch.optim.SGD):
        def step(self, closure=None):  # noqa: ARG002
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(optimizer=lambda model, lr: Broken(model.parameters(), lr))


PARAMETERS = 4 * 16 + 16 + 16 + 1


@pytest.mark.parametrize(
    ("optimizer", "state_bytes"),
    [
        (sgd, 0),
        (lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.9), 4 * PARAMETERS),
        (adamw, 8 * PARAMETERS + 4 * 4),  # two moments, and a step count for each of four parameters
        (lambda model, lr: SteepestDescent(model.parameters(), L2(), lr), 0),
        (lambda model, lr: SignDescent(model.parameters(), lr, momentum=0.9), 4 * PARAMETERS),
    ],
    ids=["sgd", "sgd momentum", "adamw", "steepest", "sign momentum"],
)
def test_the_state_of_an_optimizer_is_counted_in_bytes(optimizer, state_bytes):
    assert run(optimizer=optimizer, lr=1e-4).state_bytes == state_bytes


def test_the_task_is_not_changed_by_training():
    task = small()
    before = copy.deepcopy((task.train, task.valid))
    fingerprint = task.fingerprint()
    run(task, lr=1.0)
    torch.testing.assert_close((task.train, task.valid), before, rtol=0, atol=0)
    assert task.fingerprint() == fingerprint


def test_a_part_of_the_model_that_is_frozen_stays_and_has_no_gradient():
    def model() -> nn.Module:
        net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
        net[0].requires_grad_(False)
        return net

    history = run(small(model=model), lambda m, lr: SteepestDescent(m.parameters(), L2(), lr, weight_decay=0.1))
    assert all(math.isnan(norm) for norm in history.gradient_norm["0.weight"])
    assert all(norm > 0 for norm in history.gradient_norm["2.weight"])
    assert not history.diverged


class Pretrained(nn.Module):
    """A backbone that arrives with weights, and a head."""

    WEIGHT = torch.arange(64.0).view(16, 4) / 64

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(4, 16), nn.Linear(16, 1)
        with torch.no_grad():
            self.backbone.weight.copy_(self.WEIGHT)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).relu())


def test_a_model_that_arrives_trained_starts_as_it_is_unless_an_init_is_asked_for():
    starts = {}
    for init in (small().init, "he"):
        recorder, _ = recorded(sgd, task=small(model=Pretrained), init=init)
        starts[init] = torch.equal(recorder.start[0], Pretrained.WEIGHT)
    assert starts == {"default": True, "he": False}


OPTIMIZERS_OF_ALL = {
    "sgd": lambda m, lr: torch.optim.SGD(m.parameters(), lr, momentum=0.9, weight_decay=0.1),
    "adamw": lambda m, lr: torch.optim.AdamW(m.parameters(), lr, weight_decay=0.1),
    "l2": lambda m, lr: SteepestDescent(m.parameters(), L2(), lr, weight_decay=0.1),
    "sign": lambda m, lr: SignDescent(m.parameters(), lr, mode="constrained", weight_decay=0.1),
    "muon": lambda m, lr: Muon([p for p in m.parameters() if p.ndim == 2], lr, weight_decay=0.1),
    "scion": Scion,
    "of the head alone": lambda m, lr: torch.optim.SGD(m.head.parameters(), lr),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS_OF_ALL.values(), ids=OPTIMIZERS_OF_ALL)
def test_what_is_frozen_keeps_every_bit_under_any_init_and_optimizer(optimizer):
    models: list[nn.Module] = []

    def model() -> nn.Module:
        models.append(Pretrained())
        return models[-1]

    history = run(small(model=model, frozen=("backbone.weight",)), optimizer, "he", lr=0.01)
    assert torch.equal(models[0].backbone.weight, Pretrained.WEIGHT)
    assert not models[0].backbone.weight.requires_grad
    assert not torch.equal(models[0].head.weight, Pretrained().head.weight)
    assert history.diagnosis.cause != "frozen_parameters"


def written_by_the_optimizer(model: nn.Module, lr: float) -> Optimizer:
    class Writing(torch.optim.SGD):
        def step(self, closure=None):
            model.backbone.weight.data.view(-1)[3] += 1e-6
            return super().step(closure)

    return Writing(model.parameters(), lr)


def unfrozen_by_the_optimizer(model: nn.Module, lr: float) -> Optimizer:
    model.backbone.requires_grad_(True)
    return sgd(model, lr)


def replaced_by_the_optimizer(model: nn.Module, lr: float) -> Optimizer:
    del model.backbone.weight
    model.backbone.weight = nn.Parameter(torch.ones(16, 4))
    return sgd(model, lr)


@pytest.mark.parametrize("optimizer", [written_by_the_optimizer, unfrozen_by_the_optimizer, replaced_by_the_optimizer])
def test_what_is_frozen_and_moves_is_an_error_that_names_it(optimizer):
    task = small(model=Pretrained, frozen=("backbone",))
    with pytest.raises(TaskError, match=r"a frozen parameter must not change \(got 'backbone.weight'\)"):
        run(task, optimizer, "default", steps=2)


def test_an_init_that_touches_what_is_frozen_is_an_error_that_names_it():
    class Filling(Initializer):
        def weight(self, weight, layer, generator): ...

        def __call__(self, model, *_, **__):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.zero_()

    with pytest.raises(TaskError, match=r"a frozen parameter must not change \(got 'backbone"):
        run(small(model=Pretrained, frozen="backbone"), sgd, Filling(), steps=2)


class Warming(torch.optim.SGD):
    """Has a warm-up of its own."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.rates: list[float] = []
        self.inner = torch.optim.lr_scheduler.LinearLR(self, 0.1, total_iters=5)

    def step(self, closure=None):
        self.rates.append(float(self.param_groups[0]["lr"]))
        out = super().step(closure)
        self.inner.step()
        return out


def warming(made: list[Warming]):
    def make(model, lr):
        made.append(Warming(model.parameters(), lr))
        return made[-1]

    return make


def test_a_constant_schedule_leaves_alone_what_the_optimizer_sets_itself_and_says_so():
    made: list[Warming] = []
    history = run(optimizer=warming(made), lr=0.05, steps=8, schedule="constant")
    assert made[0].rates == pytest.approx([0.005, 0.014, 0.023, 0.032, 0.041, 0.05, 0.05, 0.05])
    (remark,) = history.remarks
    assert "The learning rate is not the one that was set (0.014 instead of 0.005)" in remark
    assert "constant, leaves it alone" in remark


def test_the_cosine_overrules_what_the_optimizer_sets_itself_and_says_so():
    made: list[Warming] = []
    history = run(optimizer=warming(made), lr=0.05, steps=8)
    assert made[0].rates == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 8)) / 2 for t in range(8)])
    assert "cosine, overrules it" in history.remarks[0]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_that_nobody_else_sets_are_not_remarked(schedule):
    def tensors(model, lr):
        return torch.optim.Adam(model.parameters(), torch.tensor(lr), capturable=False, foreach=False)

    def decoupled(model, lr):
        groups = [{"params": [p], "lr": lr * k} for k, p in enumerate(model.parameters(), 1)]
        return torch.optim.SGD(groups, lr)

    for optimizer in (sgd, Scion, tensors, decoupled):
        assert run(optimizer=optimizer, lr=1e-3, schedule=schedule).remarks == []


def test_a_rate_that_is_a_tensor_follows_the_cosine_in_place_and_a_foreign_hand_is_noticed():
    rate = torch.tensor(0.05)
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(float(rate))
            super().step(closure)
            if len(seen) == 3:
                rate.mul_(0.5)

    history = run(optimizer=lambda model, _: Watched(model.parameters(), rate), steps=4)
    assert seen == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)])
    assert len(history.remarks) == 1


def test_groups_that_come_later_or_have_no_rate_do_not_disturb_the_schedule():
    class Growing(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            rates.append([group["lr"] for group in self.param_groups])
            if len(rates) == 2:
                self.add_param_group({"params": self.later, "lr": 1.0})

    rates: list[list[float]] = []

    def make(model, lr):
        *first, last = model.parameters()
        grown = Growing(first, lr)
        grown.later = [last]
        return grown

    assert run(optimizer=make, lr=0.1, steps=4).remarks == []
    factors = [(1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)]
    assert rates == [pytest.approx([0.1 * f, 1.0 * f][: 1 if t < 2 else 2]) for t, f in enumerate(factors)]


def test_optimizers_of_this_house_and_of_torch_train_the_curve():
    optimizers = [
        (sgd, 0.1),
        (adamw, 0.01),
        (lambda model, lr: Muon([p for p in model.parameters() if p.ndim == 2], lr), 0.1),
        (lambda model, lr: SignDescent(model.parameters(), lr, mode="constrained"), 0.01),
    ]
    for optimizer, lr in optimizers:
        history = run(curve(20), optimizer, "default", lr=lr, steps=100, validations=2)
        assert history.valid_loss[-1] < history.valid_loss[0]


def test_an_unknown_schedule_or_init_is_refused_with_the_known_ones():
    with pytest.raises(UnknownName, match=r"no such schedule \(got 'cosin'\). .*linear, constant"):
        run(schedule="cosin")
    with pytest.raises(UnknownName, match=r"no such init \(got 'hee'\). Did you mean he\?"):
        run(init="hee")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("steps", 0),
        ("steps", True),
        ("steps", 2.5),
        ("validations", 0),
        ("validations", math.nan),
        ("seed", -1),
        ("seed", math.nan),
        ("lr", -1.0),
        ("lr", math.nan),
        ("optimizer", None),
        ("task", "digits"),
        ("schedule", None),
    ],
)
def test_a_number_outside_its_range_is_refused(option, value):
    given = {"task": small(), "optimizer": sgd, "init": "he", "lr": 0.1, "seed": 0, option: value}
    with pytest.raises(InvalidArgument, match=rf"{option}.* must be .* \(got {value!r}\)"):
        train(given.pop("task"), given.pop("optimizer"), given.pop("init"), **given)


def test_an_observer_sees_the_start_and_each_validation_in_evaluation_mode():
    seen: list[tuple[int, bool, Tensor]] = []

    def observe(event: Event) -> None:
        if isinstance(event, Validated):
            seen.append((event.step, event.model.training, event.model[0].weight.detach().clone()))

    history = run(steps=9, validations=3, observe=observe)
    assert [step for step, _, _ in seen] == history.steps == [0, 3, 6, 9]
    assert {training for _, training, _ in seen} == {False}
    recorder, _ = recorded(sgd, steps=9)
    assert torch.equal(seen[0][2], recorder.start[0])
    assert not torch.equal(seen[0][2], seen[3][2])


def test_an_observer_changes_nothing_whatever_random_numbers_it_draws():
    def observe(event: Event) -> None:
        if isinstance(event, Validated):
            torch.rand(7)
            copy.deepcopy(event.model).train()(torch.ones(2, 4)).sum().backward()

    assert without_times(run(observe=observe)) == without_times(run())


def test_events_come_in_order_to_each_observer_and_the_last_says_whether_the_run_diverged():
    seen: tuple[list[Event], list[Event]] = [], []
    history = run(lr=1e10, steps=30, validations=30, observe=[seen[0].append, seen[1].append])
    assert history.diverged
    assert seen[0] == seen[1]
    kinds = [type(event).__name__ for event in seen[0]]
    steps = len(history.steps) - 1
    assert kinds == ["Start", "Validated", *["Step", "Validated"] * steps, "End"]
    assert [e.step for e in seen[0] if isinstance(e, Validated)] == history.steps
    assert [e.loss for e in seen[0] if isinstance(e, Validated)] == history.valid_loss
    assert history.valid_loss[-1] == math.inf
    assert seen[0][-1].diverged
    (start,) = (event for event in seen[0] if isinstance(event, Start))
    assert (start.steps, start.validations, start.device) == (30, 30, "cpu")


def test_the_end_is_told_when_a_task_fails_too():
    seen: list[Event] = []

    def loss(output: Tensor, target: Tensor) -> Tensor:
        if sum(isinstance(event, Step) for event in seen) == 2:
            raise ZeroDivisionError
        return nn.functional.mse_loss(output, target)

    task = dataclasses.replace(small(), loss=loss)
    with pytest.raises(ZeroDivisionError):
        train(task, sgd, "he", lr=0.1, seed=0, steps=9, observe=seen.append)
    assert type(seen[-1]).__name__ == "End"
    assert sum(type(event).__name__ == "End" for event in seen) == 1


def test_a_history_comes_back_from_its_text_and_one_that_was_changed_is_refused():
    history = run(lr=1e10, steps=30, validations=30)
    assert repr(History.from_json(history.to_json())) == repr(history)
    plain = json.loads(history.to_json())
    for field, value in (
        ("steps", [0, 0]),
        ("valid_loss", "x"),
        ("diverged", False),
        ("seconds_per_step", True),
        ("state_bytes", -1),
        ("valid_metrics", {"error": [1.0]}),
        ("seconds", [0.0] * 9),
        ("seconds", [1.0 - i for i in range(len(history.steps))]),
        ("duration", -1.0),
    ):
        with pytest.raises(InvalidArgument, match="text must be a History"):
            History.from_json(json.dumps({**plain, field: value}))


def test_what_an_observer_raises_at_the_start_ends_the_run_before_its_first_step():
    def observe(event: Event) -> None:
        if isinstance(event, Validated):
            raise ZeroDivisionError

    steppers: list[Recorder] = []

    def make(model: nn.Module, lr: float) -> Optimizer:
        steppers.append(Recorder(sgd(model, lr)))
        return steppers[0]

    with pytest.raises(ZeroDivisionError):
        run(optimizer=make, observe=observe)
    assert steppers[0].rates == []


def test_the_steps_to_validate_after_can_be_given_and_the_last_one_is_added():
    assert run(steps=12, validations=[7, 2]).steps == [0, 2, 7, 12]
    assert run(steps=12, validations=[]).steps == [0, 12]
    for step in (0, 13):
        with pytest.raises(InvalidArgument, match=rf"must be a whole number from 1 to 12 \(got {step}\)"):
            run(steps=12, validations=[3, step])


class Centred(nn.Module):
    """A loss with a running mean and a count, which go on from batch to batch."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(()))
        self.calls = 0

    def forward(self, output, target):
        self.calls += 1
        self.centre += output.detach().mean()
        return (output - target - self.centre / self.calls).square().mean()


def test_what_a_loss_keeps_from_batch_to_batch_does_not_go_on_from_run_to_run():
    loss = Centred()
    task = small(loss=loss)
    task.check()
    first, second = (train(task, sgd, "default", lr=0.01, seed=0, steps=3) for _ in range(2))
    assert first.train_loss == second.train_loss
    assert first.valid_loss == second.valid_loss
    assert loss.calls == 0


def test_what_an_observer_does_with_the_model_at_a_validation_changes_no_diagnosis():
    def probe(event: Event) -> None:
        if isinstance(event, Validated):
            loss = nn.functional.mse_loss(event.model(1e6 * torch.ones(3, 4)), torch.zeros(3, 1))
            loss.backward()
            event.model.zero_grad()

    assert without_times(run(observe=probe)) == without_times(run())


def test_random_numbers_drawn_at_the_start_and_the_end_leave_no_trace():
    def draw(event: Event) -> None:
        if not isinstance(event, Step):
            torch.rand(7)

    assert without_times(run(observe=draw)) == without_times(run())


def test_the_end_is_told_to_all_who_were_told_the_start_and_to_no_other():
    seen: list[Event] = []

    def at_start(event: Event) -> None:
        raise ZeroDivisionError(type(event).__name__)

    with pytest.raises(ZeroDivisionError, match="Start"):
        run(observe=[seen.append, at_start])
    assert [type(event).__name__ for event in seen] == ["Start", "End"]

    def at_end(event: Event) -> None:
        if isinstance(event, End):
            raise ZeroDivisionError("End")

    seen.clear()
    with pytest.raises(ZeroDivisionError, match="End"):
        run(observe=[at_end, seen.append])
    assert type(seen[-1]).__name__ == "End"
