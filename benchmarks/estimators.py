"""One step along an estimated gradient: its time over that of drawing the samples and evaluating the objective alone.

Two objectives: the reference one in two dimensions, and Rastrigin's in a thousand. A step is the estimate and the move;
where a library adapts more than the point, such as the scales of its samples, that is part of its step.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Candidate, Row, Seconds, Table, installed, interleave, ratio
from steepest._objectives import multimodal
from steepest.estimators import Backprop, FiniteDifference, Pathwise, ScoreFunction

ROUNDS, SECONDS = 9, 0.15
"""Rounds in turns, and about how long a candidate takes in each."""

FLOOR = "drawing and evaluating"
LR = 1e-4

Step = Callable[[], object]


@dataclass(frozen=True)
class Setting:
    """What is minimised.

    Attributes:
        name: Its name in the table.
        objective: f(points [..., d]) -> values.
        start: The entries of the first point.
        dimension: d.
        samples: Evaluations in a step of a method that draws.
        sigma: The scale of the samples.
    """

    name: str
    objective: Callable[[Tensor], Tensor]
    start: float
    dimension: int
    samples: int
    sigma: float

    def point(self) -> Tensor:
        """Return where a run starts."""
        return torch.full((self.dimension,), self.start)


def _rastrigin(x: Tensor) -> Tensor:
    return 10 * x.shape[-1] + (x * x - 10 * torch.cos(2 * math.pi * x)).sum(-1)


SETTINGS = (
    Setting("the reference objective", lambda x: -multimodal(x), 0.5, 2, 50, 0.3),
    Setting("Rastrigin's", _rastrigin, 3.0, 1000, 200, 0.3),
)


def _floor(setting: Setting) -> Step:
    x, f, generator = setting.point(), setting.objective, torch.Generator().manual_seed(0)
    shape = setting.samples, setting.dimension
    return lambda: f(x + setting.sigma * torch.randn(shape, generator=generator))


def _of(make: Callable[[Setting], Any]) -> Callable[[Setting], Step]:
    def build(setting: Setting) -> Step:
        source, x, generator = make(setting), setting.point(), torch.Generator().manual_seed(0)

        def step() -> None:
            x.sub_(source(setting.objective, x, generator).gradient, alpha=LR)

        return step

    return build


def _by_hand(setting: Setting) -> Step:
    x, f, sigma = setting.point(), setting.objective, setting.sigma
    half, generator = setting.samples // 2, torch.Generator().manual_seed(0)

    def step() -> None:
        noise = torch.randn(half, setting.dimension, generator=generator)
        change = sigma * noise
        values = f(torch.cat((x + change, x - change)))
        x.sub_((values[:half] - values[half:]) @ noise, alpha=LR / (setting.samples * sigma))

    return step


def _log_density(setting: Setting) -> Step:
    x = setting.point().requires_grad_()
    optimizer = torch.optim.SGD([x], LR)

    def step() -> None:
        normal = torch.distributions.Normal(x, setting.sigma)
        points = normal.sample((setting.samples,))
        values = setting.objective(points)
        others = (values.sum() - values) / (setting.samples - 1)
        optimizer.zero_grad()
        ((values - others) * normal.log_prob(points).sum(-1)).mean().backward()
        optimizer.step()

    return step


def _torchopt(setting: Setting) -> Step:
    import torchopt

    x = setting.point().requires_grad_()
    optimizer, normal = torch.optim.SGD([x], LR), torch.distributions.Normal(0.0, 1.0)
    wrap = torchopt.diff.zero_order(
        distribution=normal,
        method="antithetic",
        argnums=0,
        sigma=setting.sigma,
        num_samples=setting.samples // 2,
    )
    smoothed: Any = wrap(setting.objective)

    def step() -> None:
        optimizer.zero_grad()
        smoothed(x).backward()
        optimizer.step()

    return step


def _evotorch(name: str, **options: Any) -> Callable[[Setting], Step]:
    def build(setting: Setting) -> Step:
        logging.disable(logging.WARNING)  # it tells of every search
        from evotorch import Problem, algorithms

        problem = Problem(
            "min",
            setting.objective,
            initial_bounds=(-5, 5),
            solution_length=setting.dimension,
            vectorized=True,
            dtype=torch.float32,
        )
        start = {"stdev_init": setting.sigma, "center_init": setting.point()}
        searcher: Any = getattr(algorithms, name)(problem, popsize=setting.samples, **start, **options)
        return searcher.step

    return build


def _pycma(setting: Setting) -> Step:
    import cma

    never = {"tolfun": 0, "tolx": 0, "tolflatfitness": 10**9, "tolstagnation": 10**9, "tolfunhist": 0}
    options = {"popsize": setting.samples, "verbose": -9, "seed": 1, "CMA_diagonal": setting.dimension > 100, **never}
    search = cma.CMAEvolutionStrategy(setting.dimension * [setting.start], setting.sigma, options)

    def step() -> None:
        asked = search.ask()
        values = setting.objective(torch.tensor(asked, dtype=torch.float32))
        search.tell(asked, values.tolist())

    return step


STEEPEST = "steepest, score function"
CANDIDATES: dict[str, tuple[str, Callable[[Setting], Step]]] = {
    FLOOR: ("", _floor),
    "score function by hand": ("", _by_hand),
    "by hand, with log_prob and backward": ("", _log_density),
    STEEPEST: ("", _of(lambda s: ScoreFunction(s.sigma, s.samples))),
    "steepest, single samples": ("", _of(lambda s: ScoreFunction(s.sigma, s.samples, antithetic=False))),
    "steepest, control variate": ("", _of(lambda s: ScoreFunction(s.sigma, s.samples, baseline="control-variate"))),
    "steepest, pathwise": ("", _of(lambda s: Pathwise(s.sigma, s.samples))),
    "steepest, random differences": (
        "",
        _of(lambda s: FiniteDifference(0.01, s.samples // 2, directions="random")),
    ),
    "steepest, backpropagation (one point)": ("", _of(lambda _: Backprop())),
    "TorchOpt zero_order": ("torchopt", _torchopt),
    "evotorch SNES": ("evotorch", _evotorch("SNES")),
    "evotorch PGPE": ("evotorch", _evotorch("PGPE", center_learning_rate=LR, stdev_learning_rate=0.1)),
    "pycma": ("cma", _pycma),
}
"""By name: the module that is needed, and what makes a step."""


def run() -> tuple[Table, ...]:
    return tuple(_table(setting) for setting in SETTINGS)


def _table(setting: Setting) -> Table:
    here = {name: build for name, (module, build) in CANDIDATES.items() if not module or installed(module)}
    steps = {name: build(setting) for name, build in here.items()}
    counts = {name: _count(step) for name, step in steps.items()}
    candidates = {name: Candidate(lambda s=steps[name], n=counts[name]: [s() for _ in range(n)]) for name in here}
    taken = interleave(candidates, ROUNDS)
    each = {name: [total / counts[name] for total in of.cpu] for name, of in taken.items()}
    rows = [_row(name, each, taken) for name in CANDIDATES]
    if "TorchOpt zero_order" in each:
        faster = ratio(each["TorchOpt zero_order"], each[STEEPEST])
        goal = ">= 20" if setting.dimension == 2 else ""
        rows.append(("TorchOpt zero_order / steepest, score function", "", faster, goal))
    return Table(
        title=f"A step on {setting.name}, d = {setting.dimension:,}, N = {setting.samples}",
        method="CPU time of this process per step, in turns, medians, and quartiles of the ratios of the same round. N "
        "evaluations in a step of each, also of what draws pairs or differences; one in backpropagation. steepest's "
        "standard error is computed when it is read, which it is not here; evotorch and pycma adapt scales as well.",
        columns=("step", "us", f"time / {FLOOR}", "goal"),
        rows=rows,
        packages=("torchopt", "evotorch", "cma"),
    )


def _row(name: str, each: dict[str, list[float]], taken: dict[str, Seconds]) -> Row:
    if name not in taken:
        return name, "not installed", "", ""
    goal = "<= 2" if name == STEEPEST else ""
    return name, f"{statistics.median(each[name]) * 1e6:,.0f}", ratio(each[name], each[FLOOR]), goal


def _count(step: Step) -> int:
    """Return how many steps take about so long."""
    for _ in range(3):
        step()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        step()
        done += 1
    return done
