"""Which forward pass of a step is looked at, and which of its tensors is the prediction."""

from __future__ import annotations

import math
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from steepest.diagnose import Monitor
from steepest.diagnose._watch.outputs import Output, feeds, prediction


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def batch(step: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(step))
    return x, (x[:, 0] > 0).long()


def train(
    model: nn.Module,
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor],
    steps: int = 30,
    lr: float = 0.01,
    with_target: bool = True,
) -> Monitor:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    with Monitor(model, optimizer) as monitor:
        for step in range(steps):
            x, y = batch(step)
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            optimizer.step()
            monitor.record(step, loss, target=y if with_target else None)
    return monitor


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))


def plain(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


# Which output


class Returns(nn.Module):
    """A network that returns its scores among other things."""

    def __init__(self, wrap: Callable[[Tensor, Tensor, nn.Parameter], Any]):
        super().__init__()
        self.body, self.head, self.wrap = nn.Linear(8, 16), nn.Linear(16, 2), wrap
        self.penalty = nn.Parameter(torch.ones(3))

    def forward(self, x):
        hidden = self.body(x).relu()
        return self.wrap(hidden, self.head(hidden), self.penalty)


@dataclass
class Answer:
    aux: Tensor
    scores: Tensor


class Named(NamedTuple):
    aux: Tensor
    scores: Tensor


def zeros() -> Tensor:
    return torch.zeros(3)


SHAPES: dict[str, tuple[Callable[[Tensor, Tensor, nn.Parameter], Any], Callable[[Any], tuple[Tensor, Any]]]] = {
    "constant first": (lambda _h, s, _p: {"aux": zeros(), "scores": s}, lambda out: (out["scores"], 0)),
    "nested": (lambda _h, s, _p: ([zeros()], {"a": {"b": (zeros(), s)}}), lambda out: (out[1]["a"]["b"][1], 0)),
    "dataclass": (lambda _h, s, _p: Answer(zeros(), s), lambda out: (out.scores, 0)),
    "named tuple": (lambda _h, s, _p: Named(zeros(), s), lambda out: (out.scores, 0)),
    "namespace": (lambda _h, s, _p: types.SimpleNamespace(aux=zeros(), scores=s), lambda out: (out.scores, 0)),
    "hidden states first": (lambda h, s, _p: (h, s), lambda out: (out[1], 0)),
    "hidden states in the loss too": (lambda h, s, _p: (h, s), lambda out: (out[1], 0.01 * out[0].square().mean())),
    "what the loss does not use": (lambda _h, s, _p: (0 * s.exp(), s), lambda out: (out[1], 0)),
    "detached": (lambda _h, s, _p: (0 * s.detach(), s), lambda out: (out[1], 0)),
    "a learned penalty": (lambda _h, s, p: (p - p + 1, s), lambda out: (out[1], out[0].sum())),
    "constant logits": (lambda _h, s, _p: {"logits": 0 * s.detach(), "out": s}, lambda out: (out["out"], 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_prediction_is_what_the_loss_depends_on(name):
    wrap, unwrap = SHAPES[name]

    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        scores, more = unwrap(model(x))
        return F.cross_entropy(scores, y) + more

    monitor = train(seeded(lambda: Returns(wrap)), loss_of)
    found = monitor.history["activations"]
    assert found["output"]["mean"] == found["head"]["mean"]
    assert monitor.diagnosis().cause in ("healthy", "disconnected_parameters")  # the penalty is not always used


def test_where_it_is_not_known_nothing_is_said_of_the_output():
    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        one, other = model(x)
        return F.cross_entropy(one, y) + other.square().mean()

    model = seeded(lambda: Returns(lambda _h, s, p: (s, p - p + 1)))
    assert "output" in train(model, loss_of).history["activations"]  # the target's shape tells
    silent = train(seeded(lambda: Returns(model.wrap)), loss_of, with_target=False)
    assert "output" not in silent.history["activations"]
    assert silent.diagnosis().cause == "healthy"


def test_an_output_that_the_loss_does_not_use_is_not_the_prediction():
    class Metrics(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = perceptron()

        def forward(self, x):
            self.scores = self.net(x)
            return torch.zeros(4, 2)

    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        model(x)
        return F.cross_entropy(model.scores, y)

    monitor = train(seeded(Metrics), loss_of)
    assert "output" not in monitor.history["activations"]
    assert monitor.diagnosis().cause == "healthy"


def test_a_constant_prediction_is_still_named_wherever_it_stands():
    model = seeded(lambda: Returns(lambda h, s, p: {"noise": h.detach(), "scores": 0 * s + p[:2]}))
    monitor = train(model, lambda model, x, y: F.cross_entropy(model(x)["scores"], y))
    assert monitor.diagnosis().cause == "constant_output"


def out(*shape: int, gradient: float | None = 1.0, feeds: frozenset[int] = frozenset()) -> Output:
    return Output(shape, torch.zeros(shape), feeds, gradient)


@pytest.mark.parametrize(
    ("shape", "target", "fits"),
    [
        ((8, 2), (8,), True),
        ((8, 5, 2), (8, 5), True),
        ((8, 2, 5, 5), (8, 5, 5), True),
        ((8, 2), (8, 2), True),
        ((8, 1), (8,), True),
        ((8,), (8, 1), True),
        ((3,), (8,), False),
        ((4, 2), (8,), False),
        ((8, 5, 2), (8,), False),
    ],
)
def test_shapes_that_a_loss_can_compare_go_together(shape, target, fits):
    other = out(1, 7, 7, 7)
    found = prediction([other, out(*shape)], target)
    assert (found is not None and found.shape == shape) == fits


def test_of_several_that_fit_none_is_the_prediction():
    assert prediction([out(8, 2), out(8, 2)], (8,)) is None
    assert prediction([out(8, 2), out(8, 2, feeds=frozenset([0]))], None).feeds == frozenset()
    assert prediction([out(8, 2, gradient=None), out(8, 2, feeds=frozenset([0]))], None).feeds == {0}
    assert prediction([out(8, 2, gradient=None), out(8, 3)], None).shape == (8, 3)
    assert prediction([], (8,)) is None


def test_outputs_feed_those_that_were_computed_from_them():
    x = torch.ones(2, requires_grad=True)
    a = 2 * x
    b, c = a.exp(), a.detach().requires_grad_() * 3
    assert feeds([a, b, c, (b + 1) * a, x]) == [{1, 3}, {3}, set(), set(), set()]


# Which pass


def outputs_seen(monitor: Monitor) -> list[float]:
    return monitor.history["activations"]["output"]["spread"]


@pytest.mark.parametrize("training", [True, False])
def test_validation_with_a_graph_between_the_steps_is_not_what_is_looked_at(training):
    seen = []
    for validate in (0, 1, 3):

        def loss_of(model: nn.Module, x: Tensor, y: Tensor, validate: int = validate) -> Tensor:
            for _ in range(validate):
                model.train(training)
                model(100 * x)
                model.train()
            return F.cross_entropy(model(x), y)

        monitor = train(seeded(perceptron), loss_of)
        assert monitor.diagnosis().cause == "healthy"
        seen.append(outputs_seen(monitor))
    assert seen[0] == seen[1] == seen[2]


def test_a_metric_between_loss_and_backward_is_not_what_is_looked_at():
    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(model(x), y)
        model(100 * x)
        return loss

    assert outputs_seen(train(seeded(perceptron), loss_of)) == outputs_seen(train(seeded(perceptron), plain))


def test_a_model_that_trains_in_evaluation_mode_is_seen():
    monitor = train(seeded(perceptron).eval(), plain)
    assert not any(map(math.isnan, outputs_seen(monitor)))


def test_of_accumulated_passes_the_first_is_sampled_and_the_gradient_is_that_of_all():
    monitors = []
    for parts in (1, 4):
        model = seeded(perceptron)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Monitor(model, optimizer) as monitor:
            x, y = batch()
            for _ in range(parts):
                loss = F.cross_entropy(model(x), y) / parts
                loss.backward()
            optimizer.step()
            monitor.record(0, loss, target=y)
        monitors.append(monitor)
    one, four = (monitor._result.output_gradient for monitor in monitors)
    assert one == pytest.approx(four, rel=1e-5)
    assert outputs_seen(monitors[0]) == outputs_seen(monitors[1])


def test_two_views_before_one_backward_pass_are_one_record():
    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y) + F.cross_entropy(model(x.flip(1) + x), y)

    monitor = train(seeded(perceptron), loss_of)
    assert not any(map(math.isnan, outputs_seen(monitor)))
    assert monitor.diagnosis().cause == "healthy"


def test_passes_in_two_threads_do_not_mix():
    model = seeded(lambda: nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)))
    turns = threading.Barrier(2, timeout=20)

    def wait(*_: object) -> None:
        turns.wait()

    model[2].register_forward_hook(wait)

    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found: dict[int, Tensor] = {}

        def half(i: int) -> None:
            found[i] = model(x[i::2])

        workers = [threading.Thread(target=half, args=(i,)) for i in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return F.cross_entropy(torch.cat([found[0], found[1]]), torch.cat([y[0::2], y[1::2]]))

    monitor = train(model, loss_of, steps=12)
    assert list(monitor.history["activations"]) == ["input of 0", "0", "1", "2", "3", "4", "output"]
    assert [site.producer for site in monitor._result.sites.values()][1:5] == ["0", "0", "2", "2"]
    assert monitor.diagnosis().cause == "healthy"


# Which layer is the last


class Checkpointed(nn.Module):
    """A body that is run again during backward, with a head and a sigmoid at the end."""

    def __init__(self, reentrant: bool, tail: bool):
        super().__init__()
        self.inp, self.mid = nn.Linear(8, 64), nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.head, self.prob = nn.Linear(64, 1), nn.Sigmoid()
        self.reentrant, self.tail = reentrant, tail

    def end(self, x):
        return self.prob(self.head(x))

    def forward(self, x):
        x = checkpoint(self.mid, self.inp(x).relu(), use_reentrant=self.reentrant)
        return (checkpoint(self.end, x, use_reentrant=self.reentrant) if self.tail else self.end(x))[:, 0]


def probability(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy(model(x), y.float())


def confident(model: nn.Module, layer: nn.Linear) -> nn.Module:
    with torch.no_grad():
        layer.weight.mul_(1e4)
    return model


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("parts", [1, 3])
def test_layers_that_are_run_again_during_backward_change_no_order(reentrant, tail, parts):
    model = seeded(lambda: Checkpointed(reentrant, tail))
    confident(model, model.head)  # a probability of 0 or 1 is an output and no hidden unit
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    with Monitor(model, optimizer) as monitor:
        for step in range(6):
            optimizer.zero_grad()
            for part in range(parts):
                x, y = batch(step + part)
                loss = probability(model, x, y)
                loss.backward()
            optimizer.step()
            monitor.record(step, loss)
    sites = [name for name in monitor.history["activations"] if not name.startswith("input")]
    assert sites == ["inp", "mid.0", "mid.1", "head", "prob", "output"]
    assert not any(map(math.isnan, monitor.history["activations"]["mid.1"]["mean"]))
    assert monitor._result.sites["prob"].producer == "head"
    assert "head" in monitor._result.output_layers
    assert monitor.diagnosis().cause != "saturated_units", monitor.diagnosis()


def test_heads_that_end_in_sigmoids_are_all_outputs():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 1), nn.Linear(16, 1)
            self.left, self.right = nn.Sigmoid(), nn.Sigmoid()

        def forward(self, x):
            hidden = self.body(x).relu()
            return self.left(self.one(hidden))[:, 0], self.right(self.two(hidden))[:, 0]

    def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return sum(F.mse_loss(each, y.float()) for each in model(x))

    model = seeded(TwoHeads)
    monitor = train(confident(confident(model, model.one), model.two), loss_of, steps=5)
    assert monitor._result.output_layers == {"one", "two"}
    assert monitor.diagnosis().cause != "saturated_units"


def test_a_layer_that_is_used_first_and_last_is_the_last():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.ends, self.mid, self.prob = nn.Linear(8, 8), nn.Linear(8, 8), nn.Sigmoid()

        def forward(self, x):
            return self.prob(self.ends(self.mid(self.ends(x).relu()).relu()))[:, 0]

    monitor = train(seeded(Loop), probability, steps=5)
    assert monitor._result.output_layers == {"ends"}


def test_a_teacher_that_is_run_without_a_graph_is_no_part_of_what_trains():
    class Distilled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.teacher = perceptron(), perceptron().requires_grad_(False)
            nn.init.constant_(self.teacher[0].bias, -1e3)  # of which all units are dead

        def forward(self, x):
            with torch.no_grad():
                self.hint = self.teacher(x)
            return self.net(x)

    model = seeded(Distilled)
    optimizer = torch.optim.Adam(model.net.parameters(), lr=0.01)
    with Monitor(model, optimizer, frozen=["teacher"]) as monitor:
        for step in range(12):
            optimizer.zero_grad()
            loss = plain(model, *batch(step))
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
    assert not [name for name in monitor.history["activations"] if "teacher" in name]
    assert monitor.diagnosis().cause == "healthy"


def test_parts_that_are_called_without_the_model_have_no_output():
    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder, self.unused = nn.Linear(8, 16), nn.Linear(16, 2), nn.ReLU()

    monitor = train(seeded(Parts), lambda m, x, y: F.cross_entropy(m.decoder(m.unused(m.encoder(x))), y))
    assert list(monitor.history["activations"]) == ["input of encoder", "encoder", "unused", "decoder"]
    assert monitor.diagnosis().cause == "healthy"
