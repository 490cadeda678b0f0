"""One optimizer step on the parameters of a small GPT-2: time, bytes of state, and how good a Muon's direction is.

Three geometries, each against those who offer it: L2 (SGD), the largest entry with momentum (Lion, and AdamW as what
people use), and the spectral norm on the hidden matrices (Muon). The alignment <G, O> / (||G||_* ||O||_2) of a step O
with its gradient G is 1 for the exact polar factor; what is missing to 1 is lost of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from benchmarks.harness import Candidate, Row, Seconds, Table, installed, interleave, milliseconds, ratio
from steepest.norms import L2, Scaled, Spectral
from steepest.optim import Muon, SignDescent, SteepestDescent

ROUNDS = 15
WIDTH, LAYERS, VOCABULARY, CONTEXT = 256, 4, 4096, 1024
CONDITION = 1e2

Build = Callable[[list[nn.Parameter]], Optimizer]


@dataclass(frozen=True)
class Group:
    """Optimizers that answer to one another: ours first, then the peers, by name."""

    step: str
    hidden_only: bool
    optimizers: dict[str, Build]


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
        "L2",
        False,
        {
            "steepest SteepestDescent(L2)": lambda params: SteepestDescent(params, L2(), lr=1e-4),
            "torch SGD": lambda params: torch.optim.SGD(params, lr=1e-4),
            "torch SGD, fused": lambda params: torch.optim.SGD(params, lr=1e-4, fused=True),
        },
    ),
    Group(
        "sign, momentum",
        False,
        {
            "steepest SignDescent": lambda params: SignDescent(params, 1e-4, mode="constrained", momentum=0.9),
            "pytorch_optimizer Lion": _lion,
            "torch AdamW, fused": lambda params: torch.optim.AdamW(params, lr=1e-4, fused=True),
        },
    ),
    Group(
        "spectral",
        True,
        {
            "steepest Muon": lambda params: Muon(params, lr=1e-4),
            "torch Muon": lambda params: torch.optim.Muon(params, lr=1e-4, weight_decay=0),
            "heavyball Muon": _heavyball_muon,
            "pytorch_optimizer Muon": _pytorch_optimizer_muon(),
            "pytorch_optimizer Muon, Polar Express": _pytorch_optimizer_muon(ns_coeffs="polar_express_safer"),
        },
    ),
)
"""The optimizers by name; the name's first word is the module it needs."""


def run() -> Table:
    rows = [row for group in GROUPS for row in _rows(group)]
    exact = _alignment(lambda params: SteepestDescent(params, Scaled(Spectral(exact=True), 1), 1.0, mode="constrained"))
    rows.append(("", "the exact polar factor (an SVD)", "", "", "", exact))
    return Table(
        title="One optimizer step",
        method=f"A step on the parameters of a GPT-2 of width {WIDTH}, {LAYERS} layers, a vocabulary of {VOCABULARY} "
        "(spectral: on its hidden matrices), without weight decay, gradients restored untimed before each, first steps "
        f"(compilation) untimed, in turns, CPU time, median of {ROUNDS} rounds (and quartiles of the ratio); alignment "
        f"is that of a first step on a {WIDTH} x {4 * WIDTH} gradient of condition {CONDITION:.0f}, 1 being exact.",
        columns=("step", "optimizer", "ms", "steepest / this", "state, bytes a parameter", "alignment"),
        rows=rows,
        packages=("heavyball", "pytorch_optimizer"),
    )


def _rows(group: Group) -> list[Row]:
    candidates: dict[str, Candidate] = {}
    state: dict[str, str] = {}
    alignment: dict[str, str] = {}
    absent: dict[str, str] = {}
    for name, build in group.optimizers.items():
        module = name.split()[0]
        if not installed(module):
            absent[name] = "not installed"
            continue
        try:
            params = _parameters(group.hidden_only)
            candidates[name], optimizer = _candidate(params, build(params))
            state[name] = f"{_bytes(list(optimizer.state.values())) / sum(p.numel() for p in params):.2f}"
            alignment[name] = _alignment(build) if group.hidden_only else ""
        except Exception as error:  # a peer that does not run here must not end the others
            if module == "steepest":
                raise
            candidates.pop(name, None)
            absent[name] = f"failed: {type(error).__name__}"
    seconds = interleave(candidates, ROUNDS)
    ours = next(iter(group.optimizers))

    def row(name: str) -> Row:
        if name in absent:
            return (group.step, name, absent[name], "", "", "")
        taken: Seconds = seconds[name]
        against = "" if name == ours else ratio(seconds[ours].cpu, taken.cpu)
        return (group.step, name, milliseconds(taken.cpu, digits=2), against, state[name], alignment[name])

    return [row(name) for name in group.optimizers]


def _candidate(params: list[nn.Parameter], optimizer: Optimizer) -> tuple[Candidate, Optimizer]:
    """Take a first step, in which state is made and code compiled, and return what times the next ones."""
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(p.shape, generator=generator) * 1e-2 for p in params]

    def restore() -> None:
        """Some peers write into p.grad, some clear it."""
        for parameter, gradient in zip(params, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient.clone()
            else:
                parameter.grad.copy_(gradient)

    restore()
    optimizer.step()
    return Candidate(optimizer.step, restore), optimizer


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
    u, _, vh = torch.linalg.svd(
        torch.randn(WIDTH, 4 * WIDTH, generator=generator, dtype=torch.float64), full_matrices=False
    )
    singular_values = torch.logspace(0, -torch.tensor(CONDITION).log10().item(), WIDTH, dtype=torch.float64)
    gradient = (u * singular_values) @ vh
    parameter = nn.Parameter(torch.zeros(WIDTH, 4 * WIDTH))
    parameter.grad = gradient.float()
    build([parameter]).step()
    step = -parameter.detach().double()
    return f"{float((gradient * step).sum() / singular_values.sum() / torch.linalg.matrix_norm(step, ord=2)):.3f}"
