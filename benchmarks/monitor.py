"""What watching costs: a training step with `steepest.diagnose.Monitor` against the same step without.

Two twins, copies of one model, take the same steps in turns, one of them watched. What a watcher does at a step depends
on the number of the step alone, so each step's time is the median over repeated runs: that keeps what is done only now
and then, and drops what the machine did meanwhile.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.harness import Row, Table, installed
from steepest.diagnose import Monitor

BATCHES = 8
WARM_UP = 5
ROUNDS = 3
CUT = 0.05

Record = Callable[[int, Tensor, Tensor], None]
Watch = Callable[[nn.Module, Optimizer], AbstractContextManager[Record]]


@dataclass(frozen=True)
class Setting:
    """A model and its data: `batch` makes inputs and target."""

    name: str
    steps: int
    model: Callable[[], nn.Module]
    batch: Callable[[torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Watcher:
    """Something that watches; `steps` is what it gets where its steps take long, `goal` what its ratios are to be."""

    watch: Watch
    rounds: int = 1
    steps: int | None = None
    goal: str = ""
    needs: str = "torch"


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 768), nn.ReLU(), nn.Linear(768, 512), nn.ReLU(), nn.Linear(512, 10))


def _convolutional() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def _transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Embedding(256, 128), nn.TransformerEncoder(layer, 4), nn.Linear(128, 256))


def _labelled(*shape: int) -> Callable[[torch.Generator], tuple[Tensor, Tensor]]:
    return lambda g: (torch.randn(shape, generator=g), torch.randint(10, shape[:1], generator=g))


def _text(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(256, (16, 65), generator=generator)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


SETTINGS = (
    Setting("MLP", 300, _perceptron, _labelled(256, 784)),
    Setting("CNN", 300, _convolutional, _labelled(64, 1, 28, 28)),
    Setting("transformer", 100, _transformer, _text),
)


@contextmanager
def nothing(_model: nn.Module, _optimizer: Optimizer) -> Iterator[Record]:
    """Watch nothing."""
    yield lambda _step, _loss, _target: None


def monitored(every: int) -> Watch:
    """Watch by steepest; a monitor that has given up would be cheap, so its records are counted."""

    @contextmanager
    def watch(model: nn.Module, optimizer: Optimizer) -> Iterator[Record]:
        last = -1
        with Monitor(model, optimizer, every) as monitor:

            def record(step: int, loss: Tensor, target: Tensor) -> None:
                nonlocal last
                monitor.record(step, loss, target=target)
                last = step

            yield record
        if len(monitor.history["step"]) != last // every + 1:
            raise RuntimeError(f"the monitor has {len(monitor.history['step'])} records of {last + 1} steps")

    return watch


@contextmanager
def exact(model: nn.Module, optimizer: Optimizer) -> Iterator[Record]:
    """Watch as one would write it: whole activations in hooks, gradients, updates against a copy of all weights."""
    history: list[dict[str, float]] = []
    row: dict[str, float] = {}
    before: dict[str, Tensor] = {}

    def see(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            if isinstance(output, Tensor):
                seen = output.detach()
                row[f"{name} mean"], row[f"{name} std"] = float(seen.mean()), float(seen.std())
                row[f"{name} zeros"] = float((seen == 0).float().mean())

        return hook

    def copy_weights(*_: object) -> None:
        before.update((name, p.detach().clone()) for name, p in model.named_parameters())

    def record(_step: int, loss: Tensor, _target: Tensor) -> None:
        row["loss"] = float(loss.detach())
        for name, p in model.named_parameters():
            if p.grad is not None:
                row[f"{name} gradient"] = float(p.grad.norm())
            row[f"{name} update"] = float((p.detach() - before[name]).norm() / before[name].norm())
        history.append(dict(row))

    handles = [m.register_forward_hook(see(name)) for name, m in model.named_modules() if not any(m.children())]
    handles.append(optimizer.register_step_pre_hook(copy_weights))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


def wandb_watched(log_freq: int) -> Watch:
    """Watch by wandb, which makes histograms of all weights and gradients; it writes to a folder that goes away."""

    @contextmanager
    def watch(model: nn.Module, _optimizer: Optimizer) -> Iterator[Record]:
        import wandb

        with tempfile.TemporaryDirectory() as folder:
            settings = wandb.Settings(
                mode="offline", root_dir=folder, silent=True, console="off", x_disable_stats=True, disable_git=True
            )
            run = wandb.init(dir=folder, settings=settings)
            run.watch(model, log="all", log_freq=log_freq)
            try:
                yield lambda _step, loss, _target: run.log({"loss": loss.detach()})
            finally:
                run.unwatch(model)
                run.finish()

    return watch


WATCHERS = {
    "nothing (A/A)": Watcher(nothing, ROUNDS),
    "steepest Monitor, every=1": Watcher(monitored(1), ROUNDS, goal="1.05"),
    "steepest Monitor, every=10": Watcher(monitored(10), ROUNDS, goal="1.01"),
    "everything exactly, by hand": Watcher(exact),
    "wandb.watch, log_freq=1": Watcher(wandb_watched(1), steps=20, needs="wandb"),
    "wandb.watch, log_freq=10": Watcher(wandb_watched(10), steps=60, needs="wandb"),
}


def run() -> Table:
    return Table(
        title="What watching costs",
        method="A training step (AdamW; cross entropy) watched, over the same step of a twin that is not; the twins "
        "step in turns, the first one alternating, in CPU time. An MLP 784-768-512-10 (batch 256), a CNN of three 3x3 "
        "convolutions 16/32/64, strides 1, 2, 2, on 28x28 (batch 64), a transformer encoder of 4 layers, d=128, 4 "
        f"heads, 64 tokens (batch 16). {ROUNDS} runs for steepest and for a twin that nobody watches (A/A, the noise), "
        "one for peers, and fewer steps for wandb (those in the table; its service is a process of its own, whose time "
        "is not counted). `median` is the ratio of the medians over all steps: what most steps cost. `sums` is the "
        "ratio of the sums over all steps of each step's median over the runs: with what is done now and then. `cut` "
        f"is the ratio of the sums over all steps of all runs without the {CUT:.0%} that took longest, of either twin: "
        "the machine's noise, and the rarest work with it. `opening, closing` is what is done outside the steps, in "
        "steps. Goals are "
        "for median and sums.",
        columns=(
            *("model", "watched by", "steps", "ms unwatched", "median", "sums", "cut", "goal <=", "opening, closing"),
            "weights at the end",
        ),
        rows=[_row(setting, name, watcher) for setting in SETTINGS for name, watcher in WATCHERS.items()],
        packages=("wandb",),
    )


@dataclass(frozen=True)
class Times:
    """One loop's seconds on a processor: a number a step, and what opening and closing took."""

    steps: list[float]
    around: float


def _row(setting: Setting, name: str, watcher: Watcher) -> Row:
    steps = watcher.steps or setting.steps
    if not installed(watcher.needs):
        return (setting.name, name, "not installed", *[""] * 7)
    rounds = []
    same = True
    for turn in range(-1, watcher.rounds):
        plain, watched, equal = twins(setting, watcher.watch, WARM_UP if turn < 0 else steps)
        same = same and equal
        if turn >= 0:
            rounds.append((plain, watched))
    plains, watcheds = ([of.steps for of in kind] for kind in zip(*rounds, strict=True))
    middle = statistics.median(chain(*plains))
    around = statistics.median(watched.around - plain.around for plain, watched in rounds)
    return (
        setting.name,
        name,
        str(steps),
        f"{middle * 1e3:.2f}",
        f"{statistics.median(chain(*watcheds)) / middle:.3f}",
        f"{_typical(watcheds) / _typical(plains):.3f}",
        f"{_cut(watcheds) / _cut(plains):.3f}",
        watcher.goal,
        f"{around / middle:.1f}",
        "the same bits" if same else "DIFFERENT",
    )


def twins(setting: Setting, watch: Watch, steps: int) -> tuple[Times, Times, bool]:
    """Train a model and its watched twin in turns: their times, and whether they end at the same bits."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    batches = [setting.batch(generator) for _ in range(BATCHES)]
    plain = setting.model()
    models = (plain, copy.deepcopy(plain))
    loops = [_loop(model, kind, batches) for model, kind in zip(models, (nothing, watch), strict=True)]
    taken: list[list[float]] = [[], []]
    for step in range(-1, steps + 1):  # the first resumption opens, the last one closes
        for which in (0, 1) if step % 2 else (1, 0):
            begin = time.process_time()
            loops[which].send(None if step < 0 else step < steps)
            taken[which].append(time.process_time() - begin)
    same = all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model in models), strict=True))
    first, second = (Times(seconds[1:-1], seconds[0] + seconds[-1]) for seconds in taken)
    return first, second, same


def _loop(model: nn.Module, watch: Watch, batches: list[tuple[Tensor, Tensor]]) -> Generator[None, bool | None, None]:
    """Open at the first resumption, take a step at each one that is sent True, close at the one that is sent False."""
    optimizer = torch.optim.AdamW(model.parameters())
    with watch(model, optimizer) as record:
        step = 0
        while (yield):
            inputs, target = batches[step % BATCHES]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs).flatten(0, -2), target.flatten())
            loss.backward()
            optimizer.step()
            record(step, loss, target)
            step += 1
    yield


def _typical(runs: list[list[float]]) -> float:
    """Return the sum over the steps of each one's median over the runs."""
    return sum(map(statistics.median, zip(*runs, strict=True)))


def _cut(runs: list[list[float]]) -> float:
    """Return the sum over all steps of all runs but those that took longest."""
    seconds = sorted(chain(*runs))
    return sum(seconds[: len(seconds) - int(CUT * len(seconds))])
