"""A monitor in every kind of loop: it changes nothing, and still sees what there is to see."""

from __future__ import annotations

import copy
import datetime
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from steepest.diagnose import Monitor

Step = Callable[[nn.Module, int], Tensor]


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def batch(step: int, rows: int = 8, columns: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(rows, columns, generator=generator)
    return x, (x.sum(dim=1) > 0).long()


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 2))


def classify(model: nn.Module, step: int) -> Tensor:
    x, y = batch(step)
    return F.cross_entropy(model(x), y)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    monitor: Monitor | None,
    loss_of: Step = classify,
    steps: range = range(5),
) -> dict[str, Any]:
    """Train under a seed of its own; all that a run leaves behind."""
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for step in steps:
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            optimizer.step()
            if monitor is not None:
                monitor.record(step, loss, target=batch(step)[1])
            losses.append(loss.detach().clone())
        generator = torch.get_rng_state()
    state = {f"{i} {name}": value for i, s in optimizer.state_dict()["state"].items() for name, value in s.items()}
    return {
        "weights": {name: p.detach().clone() for name, p in model.named_parameters()},
        "buffers": {name: b.clone() for name, b in model.named_buffers()},
        "gradients": {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None},
        "optimizer": {name: value for name, value in state.items() if isinstance(value, Tensor)},
        "losses": {str(i): loss for i, loss in enumerate(losses)},
        "generator": {"": generator},
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two runs are the same bit for bit."""
    for part, tensors in one.items():
        assert list(tensors) == list(other[part]), part
        for name, tensor in tensors.items():
            assert torch.equal(tensor, other[part][name]), f"{part}: {name}"


class Shared(nn.Module):
    """One activation in all layers, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.act = nn.ReLU()

    def forward(self, x):
        x = self.act(self.first(x))
        x = self.act(self.again(x))
        x = self.act(self.again(x))
        return self.last(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.head = nn.LSTM(4, 6, num_layers=2, dropout=0.1, batch_first=True), nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.cells(x[:, None].expand(-1, 3, -1))[0][:, -1])


class Attentive(nn.Module):
    def __init__(self, norm_first: bool = True):
        super().__init__()
        self.embed, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first)

    def forward(self, x):
        return self.head(self.block(self.embed(x)[:, None].expand(-1, 3, -1)).mean(dim=1))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 6, 2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6, 2),
    )


def in_bfloat16(model: nn.Module, step: int) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return classify(model, step)


def in_double(model: nn.Module, step: int) -> Tensor:
    x, y = batch(step)
    return F.cross_entropy(model(x.double()), y)


def some(cases: Iterable[tuple[Any, ...]], fast: list[tuple[Any, ...]]) -> list[Any]:
    """All cases, of which only some are fast."""
    return [pytest.param(*case, marks=() if case in fast else pytest.mark.slow) for case in cases]


RUNS: dict[str, tuple[Callable[[], nn.Module], Step]] = {
    "mlp": (perceptron, classify),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.3), nn.ReLU(), nn.Linear(9, 2)), classify),
    "conv and BatchNorm": (convolutional, classify),
    "TransformerEncoderLayer": (Attentive, classify),
    "TransformerEncoderLayer, norm last": (lambda: Attentive(norm_first=False), classify),
    "LSTM": (Recurrent, classify),
    "shared modules": (Shared, classify),
    "float64": (lambda: perceptron().double(), in_double),
    "bf16 autocast": (perceptron, in_bfloat16),
    "bf16 weights": (
        lambda: perceptron().bfloat16(),
        lambda model, step: F.cross_entropy(model(batch(step)[0].bfloat16()).float(), batch(step)[1]),
    ),
}


@pytest.mark.parametrize(("name", "every"), some(product(RUNS, (1, 2)), [(n, 1 + i % 2) for i, n in enumerate(RUNS)]))
def test_with_and_without_it_a_run_is_the_same_bit_for_bit(name, every, rng_untouched):
    make, loss_of = RUNS[name]
    alone, watched = seeded(make), seeded(make)
    wanted = train(alone, adam(alone), None, loss_of)
    optimizer = adam(watched)
    with rng_untouched(), Monitor(watched, optimizer, every=every) as monitor:
        found = train(watched, optimizer, monitor, loss_of)
        assert monitor.diagnosis().cause == "healthy"
        monitor.summary().plot()
    same(found, wanted)
    assert monitor.history["step"] == [step for step in range(5) if step % every == 0]
    assert not any(map(math.isnan, monitor.history["activations"]["output"]["mean"]))


def test_an_activation_that_serves_many_layers_is_seen_once_a_layer():
    model = seeded(Shared)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor)
    sites = list(monitor.history["activations"])
    assert sites == ["input of first", "first", "act", "again", "act after again", "last", "output"]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def compile_root(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def compile_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def compile_part(model: nn.Sequential) -> nn.Module:
    model[0] = torch.compile(model[0], backend="eager")
    return model


def compile_part_in_place(model: nn.Sequential) -> nn.Module:
    model[0].compile(backend="eager")
    return model


class Block(nn.Module):
    def __init__(self, inputs: int):
        super().__init__()
        self.layer, self.act = nn.Linear(inputs, 12), nn.ReLU()

    def forward(self, x):
        return self.act(self.layer(x))


def blocks() -> nn.Sequential:
    return nn.Sequential(Block(4), Block(12), nn.Linear(12, 2))


def graphs() -> tuple[int, int]:
    counters = torch._dynamo.utils.counters
    return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())


COMPILATIONS = [compile_root, compile_in_place, compile_part, compile_part_in_place]

# torch's compiler looks at `.grad` of what it is given; a warning that is an error here stops it.
looks_at_grad = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


def no_storm(counts: list[list[tuple[int, int]]]) -> None:
    """Watching breaks no graph, and makes few: a variant with hooks and one without, and none later on."""
    (_, alone), (early, watched) = counts
    assert watched[1] == alone[1] == 0
    assert watched == early
    assert watched[0] <= 3 * max(1, alone[0])


# Each way of compiling once, each value beside each other one; all together are slow.
BEFORE = [
    (compile_root, False, 2),
    (compile_in_place, True, 1),
    (compile_part, True, 2),
    (compile_part_in_place, False, 1),
]
INSIDE = [(compile_root, 1), (compile_in_place, 2)]


@looks_at_grad
@pytest.mark.parametrize(("how", "warm", "every"), some(product(COMPILATIONS, (False, True), (1, 2)), BEFORE))
def test_a_model_compiled_before_the_block_trains_the_same_without_a_storm_of_graphs(how, warm, every, fresh_compiler):
    results, counts = [], []
    for watched in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = how(seeded(blocks))
        optimizer = adam(model)
        if warm:
            train(model, optimizer, None, steps=range(100, 102))
        with Monitor(model, optimizer, every=every) if watched else nullcontext() as monitor:
            train(model, optimizer, monitor, steps=range(6))
            early = graphs()
            results.append(train(model, optimizer, monitor, steps=range(6, 20)))
            counts.append([early, graphs()])
    same(*results)
    no_storm(counts)
    assert monitor.history["step"] == list(range(0, 20, every))
    assert not any(map(math.isnan, monitor.history["mean_gradient_norm"]))
    assert monitor.diagnosis().cause == "healthy"


@looks_at_grad
@pytest.mark.parametrize(("how", "every"), some(product(COMPILATIONS, (1, 2)), INSIDE))
def test_a_model_compiled_inside_the_block_trains_the_same_without_a_storm_of_graphs(how, every, fresh_compiler):
    results, counts = [], []
    for watched in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = seeded(blocks)
        optimizer = adam(model)
        with Monitor(model, optimizer, every=every) if watched else nullcontext() as monitor:
            train(model, optimizer, monitor, steps=range(2))
            compiled = how(model)
            train(compiled, optimizer, monitor, steps=range(2, 8))
            early = graphs()
            results.append(train(compiled, optimizer, monitor, steps=range(8, 20)))
            counts.append([early, graphs()])
    same(*results)
    no_storm(counts)
    assert monitor.history["step"] == list(range(0, 20, every))
    assert not any(map(math.isnan, monitor.history["mean_gradient_norm"]))
    assert monitor.diagnosis().cause == "healthy"


def test_what_is_not_compiled_of_a_model_is_still_seen(fresh_compiler):
    model = compile_part(seeded(blocks))
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor)
    assert not any(map(math.isnan, monitor.history["activations"]["2"]["mean"]))
    assert not any(map(math.isnan, monitor.history["activations"]["1.act"]["mean"]))


def test_an_empty_container_hides_no_layer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.skip, self.net = nn.Sequential(), nn.Sequential(nn.Linear(4, 2))

        def forward(self, x):
            return self.net(x)

    model = seeded(Net)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor)
    assert "net.0" in monitor.history["activations"]


@looks_at_grad
def test_a_compiled_model_with_a_traced_backward_trains_the_same(fresh_compiler):
    results = []
    for watched in (False, True):
        model = torch.compile(seeded(perceptron), backend="aot_eager")
        optimizer = adam(model)
        with Monitor(model, optimizer) if watched else nullcontext() as monitor:
            results.append(train(model, optimizer, monitor))
    same(*results)
    assert monitor.history["gradient_norm"].keys() == {name for name, _ in perceptron().named_parameters()}
    assert not math.isnan(monitor.history["activations"]["output"]["mean"][0])


@looks_at_grad
def test_a_compiled_step_with_the_forward_pass_inside_is_survived(fresh_compiler):
    results = []
    for watched in (False, True):
        model = seeded(perceptron)
        optimizer = adam(model)
        loss_of = torch.compile(lambda x, y, model=model: F.cross_entropy(model(x), y), backend="eager")
        with Monitor(model, optimizer) if watched else nullcontext() as monitor:
            results.append(train(model, optimizer, monitor, lambda _, step, f=loss_of: f(*batch(step))))
    same(*results)
    assert monitor.history["step"] == list(range(5))
    assert monitor.diagnosis().cause == "healthy"


@pytest.mark.parametrize("every", [1, 3])
def test_accumulated_gradients_are_one_record_a_step(every):
    results, forwards = [], 0
    for watched in (False, True):
        model = seeded(perceptron)
        optimizer = adam(model)
        with Monitor(model, optimizer, every=every) if watched else nullcontext() as monitor:
            norms = []
            for step in range(7):
                optimizer.zero_grad()
                for part in range(3):
                    loss = classify(model, 3 * step + part) / 3
                    loss.backward()
                    forwards += 1
                norms.append(float(model[0].weight.grad.norm()))
                optimizer.step()
                if monitor is not None:
                    monitor.record(step, loss)
            results.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))
    steps = list(range(0, 7, every))
    assert monitor.history["step"] == steps
    assert monitor.history["gradient_norm"]["0.weight"] == pytest.approx([norms[step] for step in steps], rel=1e-6)
    assert not any(map(math.isnan, monitor.history["activations"]["1"]["mean"]))
    assert not any(map(math.isnan, monitor.history["update_ratio"]["0.weight"]))
    assert monitor.diagnosis().cause == "healthy"


@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize("skipped", [{3}, {0, 1, 2}, {2, 3, 7}, {9}])
def test_steps_that_a_gradient_scaler_skips_are_no_fault(skipped, with_optimizer):
    model = seeded(perceptron)
    optimizer = adam(model)
    with Monitor(model, optimizer if with_optimizer else None) as monitor:
        for step in range(10):
            optimizer.zero_grad()
            loss = classify(model, step)
            (loss * math.inf if step in skipped else loss).backward()
            if step not in skipped:
                optimizer.step()
            monitor.record(step, loss)
    assert monitor.history["step"] == list(range(10))
    assert monitor.diagnosis().cause == "healthy", monitor.diagnosis()
    updates = monitor.history["update_ratio"]["0.weight"]
    assert [update == 0 for update in updates] == [step in skipped for step in range(10)]


def test_torchs_own_gradient_scaler_can_be_used():
    model = seeded(perceptron)
    optimizer = adam(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    with Monitor(model, optimizer) as monitor:
        for step in range(60):
            optimizer.zero_grad()
            loss = classify(model, step)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            monitor.record(step, loss)
    assert monitor.history["step"] == list(range(60))
    assert monitor.diagnosis().cause in ("healthy", "learning_rate_too_low")


def test_a_closure_that_calls_the_model_many_times_is_one_step():
    results = []
    for watched in (False, True):
        model = seeded(perceptron)
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
        with Monitor(model, optimizer) if watched else nullcontext() as monitor:
            for step in range(4):

                def closure(model=model, optimizer=optimizer):
                    optimizer.zero_grad()
                    loss = classify(model, 0)
                    loss.backward()
                    return loss

                loss = optimizer.step(closure)
                if monitor is not None:
                    monitor.record(step, loss)
            results.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))
    assert monitor.history["step"] == list(range(4))
    assert not any(map(math.isnan, monitor.history["loss"]))
    assert all(update > 0 for update in monitor.history["update_ratio"]["0.weight"])
    assert monitor.diagnosis().cause == "healthy"


def test_several_optimizers_are_one_step():
    model = seeded(perceptron)
    optimizers = [torch.optim.SGD(model[0].parameters(), lr=0.05), torch.optim.Adam(model[2:].parameters(), lr=0.01)]
    with Monitor(model, optimizers) as monitor:
        for step in range(5):
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss = classify(model, step)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            monitor.record(step, loss)
    assert monitor.history["step"] == list(range(5))
    assert monitor.history["learning_rate"] == pytest.approx([0.05] * 5)
    for updates in monitor.history["update_ratio"].values():
        assert all(update > 0 for update in updates)
    assert monitor.diagnosis().cause == "healthy"
    assert not optimizers[0]._optimizer_step_post_hooks
    assert not optimizers[1]._optimizer_step_post_hooks


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_several_optimizers_without_record_are_one_step_in_any_order(order):
    model = seeded(perceptron)
    optimizers = [torch.optim.SGD(model[0].parameters(), lr=0.05), torch.optim.Adam(model[2:].parameters(), lr=0.01)]
    with Monitor(model, optimizers) as monitor:
        for step in range(5):
            model.zero_grad()
            classify(model, step).backward()
            for i in order:
                optimizers[i].step()
    assert monitor.history["step"] == list(range(5))
    for name, updates in monitor.history["update_ratio"].items():
        assert all(update > 0 for update in updates[1:]), name


@pytest.mark.parametrize("sparse", [False, True])
def test_sparse_gradients_have_the_norm_of_the_dense_ones(sparse):
    model = seeded(lambda: nn.Sequential(nn.Embedding(10, 4, sparse=sparse), nn.Flatten(), nn.Linear(12, 2)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        for step in range(4):
            optimizer.zero_grad()
            tokens = torch.tensor([[1, 1, 2], [3, 1, 4]]) + step
            loss = F.cross_entropy(model(tokens), torch.tensor([0, 1]))
            loss.backward()
            gradient = model[0].weight.grad
            norm = float((gradient.to_dense() if sparse else gradient).norm())
            optimizer.step()
            monitor.record(step, loss)
            assert monitor.history["gradient_norm"]["0.weight"][-1] == pytest.approx(norm, rel=1e-5)
    assert monitor.diagnosis().cause == "healthy"


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_may_be_set_to_none_or_to_zero(set_to_none):
    model = seeded(perceptron)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        for step in range(4):
            loss = classify(model, step)
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
            optimizer.zero_grad(set_to_none=set_to_none)
    assert not any(norm == 0 or math.isnan(norm) for norm in monitor.history["gradient_norm"]["0.weight"])
    assert monitor.diagnosis().cause == "healthy"


class Output(OrderedDict):
    """What a transformers model returns: a mapping whose entries are attributes too, the loss first."""

    def __getattr__(self, name):
        return self[name]


@dataclass
class Prediction:
    logits: Tensor


class Wrapped(nn.Module):
    """A model with unusual inputs and outputs."""

    def __init__(self, returns):
        super().__init__()
        self.net, self.returns = perceptron(), returns

    def forward(self, inputs):
        x = inputs["x"] if isinstance(inputs, dict) else inputs[0] if isinstance(inputs, (tuple, list)) else inputs
        return self.returns(self.net(x))


WRAPPINGS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]] = {
    "dict": (lambda y: {"out": y}, lambda out: out["out"]),
    "dict with a loss": (lambda y: {"loss": y.sum(), "logits": y}, lambda out: out["logits"]),
    "model output": (lambda y: Output(loss=y.sum(), logits=y), lambda out: out.logits),
    "tuple": (lambda y: (y, None, [y.detach()]), lambda out: out[0]),
    "nested": (lambda y: ([{"deep": (y,)}], 3), lambda out: out[0][0]["deep"][0]),
    "dataclass": (Prediction, lambda out: out.logits),
}


@pytest.mark.parametrize("takes", [lambda x: x, lambda x: (x,), lambda x: {"x": x, "mask": None}, lambda x: [x, 3]])
@pytest.mark.parametrize("name", WRAPPINGS)
def test_inputs_and_outputs_may_be_wrapped(name, takes):
    wrap, unwrap = WRAPPINGS[name]
    model = seeded(lambda: Wrapped(wrap))
    optimizer = adam(model)

    def loss_of(model: nn.Module, step: int) -> Tensor:
        x, y = batch(step)
        return F.cross_entropy(unwrap(model(takes(x))), y)

    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor, loss_of)
    found = monitor.history["activations"]
    assert not any(map(math.isnan, found["net.1"]["mean"]))
    if name != "dataclass":
        assert found["output"]["mean"] == found["net.4"]["mean"]
    assert monitor.diagnosis().cause == "healthy"


def test_keyword_arguments_are_no_obstacle():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, *, x):
            return self.two(input=torch.relu(self.one(input=x)))

    model = seeded(Net)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor, lambda model, step: F.cross_entropy(model(x=batch(step)[0]), batch(step)[1]))
    assert monitor.history["step"] == list(range(5))
    assert monitor.diagnosis().cause == "healthy"


@pytest.mark.parametrize("sizes", [[1] * 6, [8, 3, 1, 8, 100, 8], [8, 0, 8, 0, 8, 8]], ids=str)
def test_batches_may_have_any_size_and_none(sizes):
    model = seeded(perceptron)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with Monitor(model, optimizer) as monitor:
        for step, rows in enumerate(sizes):
            x, y = batch(step, rows)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y, reduction="sum")
            loss.backward()
            optimizer.step()
            monitor.record(step, loss, target=y)
    seen = [not math.isnan(mean) for mean in monitor.history["activations"]["1"]["mean"]]
    assert seen == [rows > 0 for rows in sizes]
    assert monitor.diagnosis().cause == "healthy"


def test_examples_of_different_lengths_are_no_obstacle():
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        for step, shape in enumerate([(2, 3, 4), (5, 1, 4), (7, 4), (2, 2, 2, 4), (3, 9, 4)]):
            optimizer.zero_grad()
            loss = model(torch.randn(shape, generator=torch.Generator().manual_seed(step))).square().mean()
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
    assert monitor.history["step"] == list(range(5))
    assert not any(map(math.isnan, monitor.history["activations"]["1"]["mean"]))


def test_an_output_with_one_number_an_example_is_seen():
    class Regression(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

        def forward(self, x):
            return self.net(x).squeeze(-1)

    model = seeded(Regression)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor, lambda model, step: F.mse_loss(model(batch(step)[0]), batch(step)[0].sum(1)))
        assert monitor.diagnosis().cause == "healthy"
    output = monitor.history["activations"]["output"]
    assert output["mean"] == monitor.history["activations"]["net.2"]["mean"]
    assert all(variation > 0 for variation in output["variation"])


def test_examples_one_by_one_without_an_axis_of_their_own_are_no_obstacle():
    model = seeded(perceptron)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        train(
            model, optimizer, monitor, lambda model, step: F.cross_entropy(model(batch(step)[0][0]), batch(step)[1][0])
        )
        assert monitor.diagnosis().cause == "healthy"
    assert not any(map(math.isnan, monitor.history["activations"]["1"]["mean"]))


def test_a_loss_that_the_model_itself_returns_is_no_obstacle():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = perceptron()

        def forward(self, x, y):
            return F.cross_entropy(self.net(x), y)

    model = seeded(WithLoss)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor, lambda model, step: model(*batch(step)))
    assert not any(map(math.isnan, monitor.history["activations"]["net.1"]["mean"]))
    assert monitor.diagnosis().cause == "healthy"


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_validation_between_the_steps_is_not_seen(context):
    histories = []
    for validate in (False, True):
        model = seeded(perceptron)
        optimizer = adam(model)
        with Monitor(model, optimizer) as monitor:
            for step in range(6):
                train(model, optimizer, monitor, steps=range(step, step + 1))
                if validate:
                    model.eval()
                    with context():
                        model(100 * batch(step)[0])
                    model.train()
        histories.append(repr(monitor.history))
    assert histories[0] == histories[1]


def test_validation_before_the_first_step_is_not_seen():
    model = seeded(perceptron)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        with torch.no_grad():
            model(100 * batch(0)[0])
        train(model, optimizer, monitor)
    assert max(monitor.history["activations"]["input of 0"]["spread"]) < 2


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool | None):
        super().__init__()
        self.reentrant = reentrant
        self.one, self.two, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.act, self.drop = nn.ReLU(), nn.Dropout(0.2)

    def part(self, x):
        return self.drop(self.act(self.two(x)))

    def forward(self, x):
        x = torch.relu(self.one(x))
        x = self.part(x) if self.reentrant is None else checkpoint(self.part, x, use_reentrant=self.reentrant)
        return self.head(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_trains_the_same_and_its_layers_are_seen(reentrant):
    results = []
    for kind, watched in ((None, False), (reentrant, False), (reentrant, True)):
        model = seeded(lambda kind=kind: Checkpointed(kind))
        optimizer = adam(model)
        with Monitor(model, optimizer) if watched else nullcontext() as monitor:
            results.append(train(model, optimizer, monitor))
    same(results[1], results[2])
    same(results[0], results[2])
    found = monitor.history["activations"]
    for name in ("two", "act", "head", "output"):
        assert not any(map(math.isnan, found[name]["mean"])), name
    assert monitor.diagnosis().cause == "healthy"


@pytest.mark.parametrize("transform", ["autograd", "torch.func.grad", "vmap of grad"])
def test_functional_calls_are_recorded_with_the_gradients_that_are_given(transform):
    model = seeded(perceptron)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    def loss_of(weights, x, y):
        return F.cross_entropy(torch.func.functional_call(model, weights, (x,)), y)

    with Monitor(model) as monitor:
        norms = []
        for step in range(5):
            x, y = batch(step)
            if transform == "autograd":
                leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
                loss = loss_of(leaves, x, y)
                gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
            elif transform == "torch.func.grad":
                gradients, loss = torch.func.grad_and_value(loss_of)(weights, x, y)
            else:
                each = torch.func.vmap(torch.func.grad_and_value(loss_of), in_dims=(None, 0, 0))
                gradients, losses = each(weights, x[:, None], y[:, None])
                gradients, loss = {name: g.mean(0) for name, g in gradients.items()}, losses.mean()
            weights = {name: w - 0.1 * gradients[name] for name, w in weights.items()}
            monitor.record(step, loss, gradient=gradients)
            norms.append(float(gradients["0.weight"].norm()))
        assert monitor.diagnosis().cause in ("healthy", "learning_rate_too_low")
    assert monitor.history["step"] == list(range(5))
    assert monitor.history["gradient_norm"]["0.weight"] == pytest.approx(norms, rel=1e-5)


def test_penalties_on_gradients_and_double_backward_are_no_obstacle():
    def penalised(model: nn.Module, step: int) -> Tensor:
        x, y = batch(step)
        x.requires_grad_()
        loss = F.cross_entropy(model(x), y)
        return loss + torch.autograd.grad(loss, x, create_graph=True)[0].square().sum()

    results = []
    for watched in (False, True):
        model = seeded(lambda: nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 2)))
        optimizer = adam(model)
        with Monitor(model, optimizer) if watched else nullcontext() as monitor:
            results.append(train(model, optimizer, monitor, penalised))
    same(*results)
    assert monitor.diagnosis().cause == "healthy"


def test_an_output_that_is_changed_in_place_is_no_obstacle():
    def in_place(model: nn.Module, step: int) -> Tensor:
        x, y = batch(step)
        return F.cross_entropy(model(x).mul_(2).add_(1), y)

    results = []
    for watched in (False, True):
        model = seeded(perceptron)
        optimizer = adam(model)
        with Monitor(model, optimizer) if watched else nullcontext() as monitor:
            results.append(train(model, optimizer, monitor, in_place))
    same(*results)


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group(
        "gloo", store=dist.HashStore(), rank=0, world_size=1, timeout=datetime.timedelta(seconds=20)
    )
    yield
    dist.destroy_process_group()


def test_a_replicated_model_trains_the_same(one_process):
    results = []
    for watched in (False, True):
        model = nn.parallel.DistributedDataParallel(seeded(perceptron))
        optimizer = adam(model)
        with Monitor(model, optimizer) if watched else nullcontext() as monitor:
            results.append(train(model, optimizer, monitor))
    same(*results)
    assert next(iter(monitor.history["gradient_norm"])) == "module.0.weight"
    assert not any(map(math.isnan, monitor.history["activations"]["module.1"]["mean"]))
    assert monitor.diagnosis().cause == "healthy"


def test_a_sharded_model_trains_the_same_and_norms_are_those_of_the_whole(one_process):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    alone = seeded(perceptron)
    with Monitor(alone) as wanted:
        train(alone, adam(alone), wanted)
    model = seeded(perceptron)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        for step in range(5):
            optimizer.zero_grad()
            loss = classify(model, step)
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
    assert monitor.history["step"] == list(range(5))
    for group in ("gradient_norm", "weight_norm", "update_ratio"):
        for name, values in monitor.history[group].items():
            assert values == pytest.approx(wanted.history[group][name], rel=1e-4), (group, name)
    assert monitor.diagnosis().cause == "healthy"


def updates_by_hand(model: nn.Module, optimizer: torch.optim.Optimizer, monitor: Monitor, name: str) -> list[float]:
    """The update ratio of one parameter at each step, over all of its entries."""
    ratios = []
    for step in range(5):
        optimizer.zero_grad()
        loss = model(batch(step)[0]).square().mean()
        loss.backward()
        before = dict(model.named_parameters())[name].detach().clone()
        optimizer.step()
        after = dict(model.named_parameters())[name].detach()
        ratios.append(float((after - before).norm() / before.norm()))
        monitor.record(step, loss)
    return ratios


def transposed() -> nn.Module:
    model = nn.Linear(4, 50)
    model.weight = nn.Parameter(torch.randn(4, 50).t())
    return nn.Sequential(model)


def sliced() -> nn.Module:
    """A weight that is a part of a larger buffer, with gaps between its rows."""
    model = nn.Linear(4, 50)
    model.weight = nn.Parameter(torch.randn(50, 16)[:, 2:6])
    return nn.Sequential(model)


def flat() -> nn.Module:
    """Parameters that are pieces of one buffer, as some frameworks keep them."""
    model = perceptron()
    buffer = torch.cat([p.detach().flatten() for p in model.parameters()])
    start = 0
    for p in model.parameters():
        p.data = buffer[start : start + p.numel()].view_as(p)
        start += p.numel()
    return model


def channels_last() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (4, 4, 4)), nn.Conv2d(4, 12, 3, padding=1), nn.Flatten())
    return model.to(memory_format=torch.channels_last)


LAYOUTS = [(transposed, "0.weight"), (sliced, "0.weight"), (flat, "2.weight"), (channels_last, "2.weight")]


@pytest.mark.parametrize(("make", "name"), LAYOUTS)
def test_updates_are_seen_in_any_layout_in_memory(make, name):
    model = seeded(make)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Monitor(model, optimizer) as monitor:
        wanted = updates_by_hand(model, optimizer, monitor, name)
    assert monitor.history["update_ratio"][name] == pytest.approx(wanted, rel=0.15)


def test_updates_are_seen_after_the_storage_of_the_parameters_was_replaced():
    model = seeded(perceptron)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Monitor(model, optimizer) as monitor:
        wanted = updates_by_hand(model, optimizer, monitor, "2.weight")
        for p in model.parameters():
            p.data = p.data.clone()
        more = []
        for step in range(5, 10):
            optimizer.zero_grad()
            loss = model(batch(step)[0]).square().mean()
            loss.backward()
            before = model[2].weight.detach().clone()
            optimizer.step()
            more.append(float((model[2].weight.detach() - before).norm() / before.norm()))
            monitor.record(step, loss)
            for p in model.parameters():
                p.data = p.data.clone()
    assert monitor.history["update_ratio"]["2.weight"] == pytest.approx(wanted + more, rel=1e-3)
    assert monitor.history["weight_norm"]["2.weight"][-1] == pytest.approx(float(model[2].weight.detach().norm()))


def test_parameters_that_change_their_shape_half_way_are_survived():
    model = seeded(perceptron)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor)
        model[0].weight.data, model[0].bias.data = torch.randn(20, 4), torch.zeros(20)
        model[2].weight.data = torch.randn(12, 20) / 4
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        model.zero_grad()
        train(model, optimizer, monitor, steps=range(5, 50))
        assert monitor.diagnosis().cause == "healthy"
    assert monitor.history["step"] == list(range(50))
    assert not any(map(math.isnan, monitor.history["gradient_norm"]["0.weight"]))


def test_a_parameter_that_is_frozen_half_way_is_no_fault():
    model = seeded(perceptron)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor)
        model[0].requires_grad_(False)
        train(model, optimizer, monitor, steps=range(5, 12))
    norms = monitor.history["gradient_norm"]["0.weight"]
    assert [math.isnan(norm) for norm in norms] == [False] * 5 + [True] * 7
    assert monitor.diagnosis().cause == "healthy"


def test_a_module_that_is_added_half_way_is_no_obstacle():
    model = seeded(perceptron)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor)
        head = seeded(lambda: nn.Linear(2, 2))
        model.append(head)
        optimizer.add_param_group({"params": head.parameters()})
        train(model, optimizer, monitor, steps=range(5, 12))
    assert monitor.history["step"] == list(range(12))
    assert monitor.diagnosis().cause == "healthy"


def test_a_layer_that_is_replaced_half_way_is_no_obstacle():
    model = seeded(perceptron)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor)
        model[4] = seeded(lambda: nn.Linear(12, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        train(model, optimizer, monitor, steps=range(5, 12))
    assert monitor.history["step"] == list(range(12))
    monitor.summary().plot()


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.uint8])
def test_parameters_of_whole_numbers_are_no_obstacle(dtype):
    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = nn.Parameter(torch.eye(4).to(dtype), requires_grad=False)
            self.net = perceptron()

        def forward(self, x):
            return self.net(x @ self.base.float())

    model = seeded(Quantised)
    optimizer = torch.optim.SGD(model.net.parameters(), lr=0.05)
    with Monitor(model, optimizer, frozen=["base"]) as monitor:
        train(model, optimizer, monitor)
    assert monitor.history["step"] == list(range(5))
    assert not any(map(math.isnan, monitor.history["gradient_norm"]["net.0.weight"]))
    assert monitor.diagnosis().cause == "healthy"


def test_complex_parameters_are_no_obstacle():
    class Fourier(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.net = nn.Parameter(torch.randn(4, 4, dtype=torch.complex64) / 2), perceptron()

        def forward(self, x):
            return self.net((x.to(torch.complex64) @ self.mix).abs())

    model = seeded(Fourier)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Monitor(model, optimizer) as monitor:
        wanted = updates_by_hand(model, optimizer, monitor, "mix")
    assert monitor.history["update_ratio"]["mix"] == pytest.approx(wanted, rel=1e-3)
    assert monitor.history["weight_norm"]["mix"][-1] == pytest.approx(float(model.mix.detach().norm()), rel=1e-5)


def test_parameters_without_entries_and_with_one_are_no_obstacle():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.scale = perceptron(), nn.Parameter(torch.tensor(1.0))
            self.nothing = nn.Parameter(torch.empty(0, 3))

        def forward(self, x):
            return self.scale * self.net(x) + self.nothing.sum()

    model = seeded(Net)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor)
    assert monitor.history["weight_norm"]["nothing"] == [0.0] * 5
    assert all(update > 0 for update in monitor.history["update_ratio"]["scale"])
    assert monitor.diagnosis().cause == "healthy"


def test_a_sparse_matrix_among_the_inputs_is_no_obstacle():
    class Convolution(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(inputs, outputs) / 2)

        def forward(self, adjacency, x):
            return torch.sparse.mm(adjacency, x @ self.weight)

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = Convolution(4, 8), Convolution(8, 2)

        def forward(self, adjacency, x):
            return self.two(adjacency, torch.relu(self.one(adjacency, x)))

    model = seeded(Graph)
    optimizer = adam(model)
    edges = (torch.eye(8) + torch.eye(8).roll(1, 0)).to_sparse()
    with Monitor(model, optimizer) as monitor:
        train(
            model, optimizer, monitor, lambda model, step: F.cross_entropy(model(edges, batch(step)[0]), batch(step)[1])
        )
    assert monitor.history["step"] == list(range(5))
    assert monitor.diagnosis().cause == "healthy"


def test_packed_sequences_are_no_obstacle():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells, self.head = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([3, 2, 1]), batch_first=True)
            return self.head(self.cells(packed)[1][-1])

    model = seeded(Net)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        for step in range(3):
            optimizer.zero_grad()
            x = batch(step, 9)[0].reshape(3, 3, 4)
            loss = F.cross_entropy(model(x), torch.tensor([0, 1, 0]))
            loss.backward()
            optimizer.step()
            monitor.record(step, loss)
    assert monitor.history["step"] == [0, 1, 2]
    assert monitor.diagnosis().cause == "healthy"


def test_a_moving_average_of_the_model_is_no_obstacle():
    model = seeded(perceptron)
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        average = torch.optim.swa_utils.AveragedModel(model)
        snapshot = copy.deepcopy(model)
        for step in range(5):
            train(model, optimizer, monitor, steps=range(step, step + 1))
            average.update_parameters(model)
            average(batch(step)[0])
            snapshot(batch(step)[0])
    assert monitor.history["step"] == list(range(5))
    assert monitor.history["activations"]["output"]["mean"] == monitor.history["activations"]["4"]["mean"]


def test_a_part_of_a_model_can_be_watched_by_itself():
    model = seeded(perceptron)
    optimizer = adam(model)
    with Monitor(model[2], optimizer) as monitor:
        train(model, optimizer, monitor)
    assert list(monitor.history["gradient_norm"]) == ["weight", "bias"]
    assert not any(map(math.isnan, monitor.history["activations"]["output"]["mean"]))


def test_parametrized_layers_are_layers():
    model = seeded(perceptron)
    for i in (0, 2):
        nn.utils.parametrizations.weight_norm(model[i])
    nn.utils.parametrizations.spectral_norm(model[4])
    optimizer = adam(model)
    with Monitor(model, optimizer) as monitor:
        train(model, optimizer, monitor)
    assert list(monitor.history["activations"]) == ["input of 0", "0", "1", "2", "3", "4", "output"]
    assert monitor.diagnosis().cause == "healthy"
