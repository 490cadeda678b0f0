"""One optimizer step on the parameters of a small GPT-2: time, bytes of state, and how good a Muon's direction is.

Three geometries, each against those who offer it: L2 (SGD), the largest entry with momentum (Lion, and AdamW as what
people use), and the spectral norm on the hidden matrices (Muon). The alignment <G, O> / (||G||_* ||O||_2) of a step O
with its gradient G is 1 for the exact polar factor; what is missing to 1 is lost of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.harness import Candidate, Row, Table, installed, interleave, milliseconds, ratio
from benchmarks.memory import peak
from steepest.norms import L2, Scaled, Spectral
from steepest.optim import Muon, Scion, SignDescent, SteepestDescent

WIDTH, LAYERS, VOCABULARY, CONTEXT = 512, 6, 8192, 1024
CONDITION = 1e2
COMPILED = ", compiled"

Build = Callable[[list[nn.Parameter]], Optimizer]


@dataclass(frozen=True)
class Group:
    """Optimizers that answer to one another, by name; those whose name ends in `COMPILED` are run by torch.compile.

    Attributes:
        step: What they do.
        rounds: How often each is timed.
        hidden_only: Whether on the hidden matrices alone, which is where alignment and memory are of interest.
        reference: The name of the one that all are held against.
        optimizers: A name's first word is the module that it needs.
        goals: What a ratio is to be, for those that have a goal.
    """

    step: str
    rounds: int
    hidden_only: bool
    reference: str
    optimizers: dict[str, Build]
    goals: dict[str, str] = field(default_factory=dict)


def _sign(**options: Any) -> Build:
    return lambda params: SignDescent(params, 1e-4, mode="constrained", momentum=0.9, **options)


def _heavyball_muon(params: list[nn.Parameter]) -> Optimizer:
    import heavyball

    return heavyball.Muon(params, lr=1e-4)


def _lion(params: list[nn.Parameter]) -> Optimizer:
    import pytorch_optimizer

    return pytorch_optimizer.Lion(params, lr=1e-4)


def _pytorch_optimizer_muon(**options: Any) -> Build:
    def build(params: list[nn.Parameter]) -> Optimizer:
        import pytorch_optimizer

        return pytorch_optimizer.Muon([{"params": params, "use_muon": True, "lr": 1e-4, **options}])

    return build


GROUPS = (
    Group(
        step="L2",
        rounds=15,
        hidden_only=False,
        reference="torch SGD, fused",
        optimizers={
            "steepest SteepestDescent(L2)": lambda params: SteepestDescent(params, L2(), lr=1e-4),
            'steepest, nonfinite="ignore"': lambda params: SteepestDescent(params, L2(), lr=1e-4, nonfinite="ignore"),
            "torch SGD": lambda params: torch.optim.SGD(params, lr=1e-4),
            "torch SGD, fused": lambda params: torch.optim.SGD(params, lr=1e-4, fused=True),
        },
    ),
    Group(
        step="sign, momentum",
        rounds=15,
        hidden_only=False,
        reference="torch AdamW, fused",
        optimizers={
            "steepest SignDescent": _sign(),
            'steepest, nonfinite="ignore"': _sign(nonfinite="ignore"),
            f"steepest SignDescent{COMPILED}": _sign(),
            f'steepest, nonfinite="ignore"{COMPILED}': _sign(nonfinite="ignore"),
            "pytorch_optimizer Lion": _lion,
            "torch AdamW, fused": lambda params: torch.optim.AdamW(params, lr=1e-4, fused=True),
        },
        goals={
            "steepest SignDescent": "1.2",
            'steepest, nonfinite="ignore"': "1.2",
            f"steepest SignDescent{COMPILED}": "0.8",
            f'steepest, nonfinite="ignore"{COMPILED}': "0.8",
        },
    ),
    Group(
        step="spectral",
        rounds=7,
        hidden_only=True,
        reference="torch Muon",
        optimizers={
            "steepest Muon": lambda params: Muon(params, lr=1e-4),
            "steepest Scion": lambda params: Scion(params, lr=1e-4),
            "torch Muon": lambda params: torch.optim.Muon(params, lr=1e-4, weight_decay=0),
            "heavyball Muon": _heavyball_muon,
            "pytorch_optimizer Muon": _pytorch_optimizer_muon(),
            "pytorch_optimizer Muon, Polar Express": _pytorch_optimizer_muon(ns_coeffs="polar_express_safer"),
        },
        goals={"steepest Muon": "1.0, aim 0.75", "steepest Scion": "1.0, aim 0.75"},
    ),
)


@dataclass(frozen=True)
class Measured:
    """What is known of an optimizer beside its time."""

    candidate: Candidate
    state: str
    alignment: str = ""
    memory: str = ""


def run() -> Table:
    exact = _alignment(lambda params: SteepestDescent(params, Scaled(Spectral(exact=True), 1), 1.0, mode="constrained"))
    rows = [row for group in GROUPS for row in _rows(group)]
    rows.append(("", "the exact polar factor (an SVD)", "", "", "", "", exact, ""))
    millions = sum(p.numel() for p in _parameters(hidden_only=False)) / 1e6
    rounds = ", ".join(f"{group.rounds} ({group.step})" for group in GROUPS)
    return Table(
        title="One optimizer step",
        method=f"A step on the parameters of a GPT-2 of width {WIDTH}, {LAYERS} layers, a vocabulary of {VOCABULARY} "
        f"and a context of {CONTEXT}, {millions:.1f} million (spectral: on its hidden matrices), without weight decay, "
        "gradients restored untimed before each, first steps (compilation) untimed, in turns, CPU time, median of "
        f"{rounds} rounds, and quartiles of the ratio; state is in bytes a parameter; alignment is that of a first "
        f"step on a {WIDTH} x {4 * WIDTH} gradient of condition {CONDITION:.0f}, 1 being exact; memory is the highest "
        "sum of tensors allocated and not yet freed in a step, beyond what was there before it (parameters, gradients, "
        f"state), as torch's profiler records them, in copies of the largest matrix ({4 * WIDTH} x {WIDTH}, float32), "
        "goal for steepest <= 3.",
        columns=("step", "optimizer", "ms", "/ reference", "goal <=", "state", "alignment", "memory"),
        rows=rows,
        packages=("heavyball", "pytorch_optimizer"),
    )


def _rows(group: Group) -> list[Row]:
    measured: dict[str, Measured] = {}
    absent: dict[str, str] = {}
    # All of a group step the same tensors: the time does not depend on the numbers, and the memory would not suffice.
    params = _parameters(group.hidden_only)
    restore = _restorer(params)
    for name, build in group.optimizers.items():
        module = name.split()[0].rstrip(",")
        if not installed(module):
            absent[name] = "not installed"
            continue
        try:
            measured[name] = _measure(build, params, restore, compiled=name.endswith(COMPILED), more=group.hidden_only)
        except Exception as error:  # a peer that does not run here, or a compiler that is not, must not end the others
            if module == "steepest" and not name.endswith(COMPILED):
                raise
            absent[name] = f"failed: {type(error).__name__}"
    seconds = interleave({name: of.candidate for name, of in measured.items()}, group.rounds)

    def row(name: str) -> Row:
        goal = group.goals.get(name, "")
        if name in absent:
            return (group.step, name, absent[name], "", goal, "", "", "")
        cpu, of = seconds[name].cpu, measured[name]
        against = "reference" if name == group.reference else ratio(cpu, seconds[group.reference].cpu)
        return (group.step, name, milliseconds(cpu, digits=2), against, goal, of.state, of.alignment, of.memory)

    return [row(name) for name in group.optimizers]


def _measure(
    build: Build, params: list[nn.Parameter], restore: Callable[[], None], *, compiled: bool, more: bool
) -> Measured:
    """Take the first steps, in which state is made and code compiled, and return what times the next ones."""
    optimizer = build(params)
    restore()
    optimizer.step()
    step: Callable[[], object] = torch.compile(optimizer.step) if compiled else optimizer.step
    restore()
    step()
    state = f"{_bytes(list(optimizer.state.values())) / sum(p.numel() for p in params):.2f}"
    if not more:
        return Measured(Candidate(step, restore), state)
    restore()
    memory = f"{peak(step) / max(p.numel() * p.element_size() for p in params):.2f}"
    return Measured(Candidate(step, restore), state, _alignment(build), memory)


def _restorer(params: list[nn.Parameter]) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(p.shape, generator=generator) * 1e-2 for p in params]

    def restore() -> None:
        """Some peers write into p.grad, some clear it."""
        for parameter, gradient in zip(params, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient.clone()
            else:
                parameter.grad.copy_(gradient)

    return restore


def _parameters(hidden_only: bool) -> list[nn.Parameter]:
    """Return the parameters of a GPT-2 with tied embeddings: the hidden matrices, and all others."""
    d = WIDTH
    hidden = [(3 * d, d), (d, d), (4 * d, d), (d, 4 * d)] * LAYERS
    vectors = [(d,), (d,), (d,), (d,), (3 * d,), (d,), (4 * d,), (d,)] * LAYERS + [(d,), (d,)]
    shapes = hidden if hidden_only else [*hidden, (VOCABULARY, d), (CONTEXT, d), *vectors]
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator) * 0.02) for shape in shapes]


def _bytes(state: Any) -> int:
    """Return the bytes of all tensors in a state, however it is nested."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(map(_bytes, state.values()))
    return sum(map(_bytes, state)) if isinstance(state, (list, tuple)) else 0


def _alignment(build: Build) -> str:
    """Return <G, O> / (||G||_* ||O||_2) of the first step of a new optimizer, whose momentum is G alone.

    The parameter is 0 before the step, so that it is the step after it, to the last bit.
    """
    generator = torch.Generator().manual_seed(2)
    shape = (WIDTH, 4 * WIDTH)
    u, _, vh = torch.linalg.svd(torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False)
    singular_values = torch.logspace(0, -torch.tensor(CONDITION).log10().item(), WIDTH, dtype=torch.float64)
    gradient = (u * singular_values) @ vh
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = gradient.float()
    build([parameter]).step()
    step = -parameter.detach().double()
    return f"{float((gradient * step).sum() / singular_values.sum() / torch.linalg.matrix_norm(step, ord=2)):.3f}"
