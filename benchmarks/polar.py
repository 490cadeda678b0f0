"""The polar factor, the kernel of a Muon step: how good, how fast, and how fast where nothing computes in bfloat16.

The alignment <G, O> / (||G||_* ||O||_2) of an approximate factor O with its matrix G is 1 for the exact one. It falls
with what an iteration leaves undone of small singular values and with what it overshoots at large ones, so that the
spectrum decides: matrices are made with a given one, U diag(s) V' of random U and V.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz

from benchmarks.harness import Candidate, Row, Table, interleave, milliseconds, ratio
from steepest.norms._polar import factor as _polar
from steepest.norms._polar.factor import polar_factor
from steepest.norms._polar.products import ProductSpeed, product_speed

ROUNDS = 9
SHAPES = ((64, 64), (256, 256), (256, 1024), (512, 2048), (768, 3072))
HARD_SHAPES = ((256, 256), (256, 1024))
HARD_TIMED, TIMED_CONDITIONS = (512, 2048), (1e2, 1e4, 1e7)
TIMED = ((512, 512), (1536, 512), (2048, 512), (512, 2048), (768, 3072), (256, 256), (256, 1024))

# The easy ones, where nothing is small, and the others.
CONDITIONS = {"1, 10": (1e0, 1e1), "1e2, 1e4, 1e7": (1e2, 1e4, 1e7)}

HARD: dict[str, Callable[[int], Tensor]] = {
    "rank 8": lambda n: (torch.arange(n) < 8).double(),
    "one 1, the others 0.01": lambda n: torch.where(torch.arange(n) < 1, 1.0, 0.01).double(),
    "k^-2": lambda n: torch.arange(1, n + 1, dtype=torch.float64) ** -2,
}

JORDAN = (3.4445, -4.7750, 2.0315)
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.0429299351667245, -2.808917465908704, 0.5000178451051299),
    (3.8916678022926563, -2.7724841532176825, 0.5060648178503389),
    (3.285753657755658, -2.3681294933425394, 0.46449024233003117),
    (2.3005307116270983, -1.6111665557258408, 0.3833374427545273),
)
"""The coefficients of pytorch_optimizer's `polar_express_safer`."""

CHILD_SECONDS = 300
CHILD_ENVIRONMENT = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}

Method = Callable[[Tensor], Tensor]


def newton_schulz(g: Tensor, steps: tuple[tuple[float, float, float], ...] = (JORDAN,) * 5) -> Tensor:
    """Take five steps on the matrix in its own dtype, as everybody does it: three products a step, none symmetric."""
    tall = g.shape[0] > g.shape[1]
    x = g.mT if tall else g
    x = x / x.norm().clamp(min=1e-7)
    for p, q, r in steps:
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=q, alpha=r), x, beta=p)
    return x.mT if tall else x


@contextmanager
def _without_bfloat16() -> Iterator[None]:
    """Let steepest believe that bfloat16 is slow here."""
    measure = _polar.product_speed
    _polar.product_speed = lambda device="cpu": ProductSpeed(str(device), bfloat16_time=9.0, float32_error=1e-7)
    try:
        yield
    finally:
        _polar.product_speed = measure


def _single(g: Tensor) -> Tensor:
    with _without_bfloat16():
        return polar_factor(g)


def _torch(g: Tensor) -> Tensor:
    return _zeropower_via_newtonschulz(g, JORDAN, 5, 1e-7)


METHODS: dict[str, Method] = {
    "steepest": polar_factor,
    "steepest, float32": _single,
    "steepest, exact": lambda g: polar_factor(g, exact=True),
    "torch (bf16)": _torch,
    "Polar Express (bf16)": lambda g: newton_schulz(g.bfloat16(), POLAR_EXPRESS),
}


def run() -> tuple[Table, ...]:
    return _alignments(), _times(), _times_without_bfloat16()


def _alignments() -> Table:
    rows: list[Row] = []
    for shape in SHAPES:
        spectra = {
            name: [torch.logspace(0, -_log10(c), min(shape), dtype=torch.float64) for c in conditions]
            for name, conditions in CONDITIONS.items()
        }
        for name, of_name in spectra.items():
            rows.append(_row(shape, name, [_matrix(shape, s) for s in of_name]))
        rows.append(_row(shape, "Gaussian", [torch.randn(shape, generator=torch.Generator().manual_seed(1))]))
    for shape in HARD_SHAPES:
        for name, values in HARD.items():
            rows.append(_row(shape, name, [_matrix(shape, values(min(shape)))]))
    return Table(
        title="How good a polar factor is",
        method="The least alignment over the matrices of a row, 1 being exact: random matrices with singular values "
        "log-uniform from 1 down to 1 / condition, or as named; exact is an SVD, torch and Polar Express take "
        "five polynomial steps, steepest five and more where it finds them too few. steepest is what is chosen here: "
        f"{_choice()}.",
        columns=("shape", "condition", *METHODS),
        rows=rows,
    )


def _row(shape: tuple[int, int], name: str, matrices: list[Tensor]) -> Row:
    nuclear = [torch.linalg.svdvals(g.double()).sum() for g in matrices]
    least = (
        min(_alignment(g, norm, method) for g, norm in zip(matrices, nuclear, strict=True))
        for method in METHODS.values()
    )
    return (_name(shape), name, *(f"{value:.3f}" for value in least))


def _alignment(g: Tensor, nuclear_norm: Tensor, method: Method) -> float:
    o = method(g).double()
    spectral_norm = torch.linalg.eigvalsh(o @ o.mT).amax().sqrt()  # faster than by singular values
    return float((g.double() * o).sum() / nuclear_norm / spectral_norm)


def _matrix(shape: tuple[int, int], singular_values: Tensor) -> Tensor:
    """Return a random matrix that has these singular values."""
    generator = torch.Generator().manual_seed(0)
    u, v = (
        torch.linalg.qr(torch.randn(side, min(shape), generator=generator, dtype=torch.float64))[0] for side in shape
    )
    return ((u * singular_values) @ v.mT).float()


def _times() -> Table:
    """Time the set of shapes, and beside it matrices for which five steps may be too few."""
    methods: dict[str, Method] = {
        "ours": polar_factor,
        "ours32": _single,
        "torch": _torch,
        "plain": newton_schulz,
    }
    generator = torch.Generator().manual_seed(0)
    matrices = {_name(shape): torch.randn(shape, generator=generator) for shape in TIMED}
    the_set = list(matrices)
    for condition in TIMED_CONDITIONS:
        spectrum = torch.logspace(0, -_log10(condition), min(HARD_TIMED), dtype=torch.float64)
        matrices[f"{_name(HARD_TIMED)}, 1e{_log10(condition):.0f}"] = _matrix(HARD_TIMED, spectrum)
    for name, values in HARD.items():
        matrices[f"{_name(HARD_TIMED)}, {name}"] = _matrix(HARD_TIMED, values(min(HARD_TIMED)))
    # Small ones often enough that the clock's grain is nothing.
    times = {of: max(1, 512**3 // (min(g.shape) * g.numel())) for of, g in matrices.items()}

    def repeated(method: Method, of: str) -> Callable[[], None]:
        def run() -> None:
            for _ in range(times[of]):
                method(matrices[of])

        return run

    candidates = {
        f"{name} {of}": Candidate(repeated(method, of)) for of in matrices for name, method in methods.items()
    }
    seconds = interleave(candidates, ROUNDS)
    taken = {name: {of: [s / times[of] for s in seconds[f"{name} {of}"].cpu] for of in matrices} for name in methods}
    rows = [_time_row(of, {name: taken[name][of] for name in methods}) for of in matrices]
    whole = {name: [sum(of) for of in zip(*(taken[name][of] for of in the_set), strict=True)] for name in methods}
    goals = ("goal for all of these", "", "", "<= 1.0, aim 0.75", "", "", "<= 0.70, aim 0.55")
    rows[len(the_set) : len(the_set)] = [_time_row("all of these", whole), goals]
    return Table(
        title="How long a polar factor takes",
        method="One float32 matrix, Gaussian or with the condition or spectrum named (as above), in turns, CPU time, "
        f"median of {ROUNDS} rounds (and quartiles of the ratios). torch is the kernel of its Muon, five steps in "
        "bfloat16; float32 is steepest made to believe that bfloat16 is slow here, against five plain Newton-Schulz "
        f"steps in float32. steepest is what is chosen here: {_choice()}.",
        columns=("matrix", "steepest ms", "torch ms", "/ torch", "float32 ms", "plain float32 ms", "/ plain"),
        rows=rows,
    )


def _time_row(name: str, taken: Mapping[str, list[float]]) -> Row:
    return (
        name,
        milliseconds(taken["ours"], digits=2),
        milliseconds(taken["torch"], digits=2),
        ratio(taken["ours"], taken["torch"]),
        milliseconds(taken["ours32"], digits=2),
        milliseconds(taken["plain"], digits=2),
        ratio(taken["ours32"], taken["plain"]),
    )


def _times_without_bfloat16() -> Table:
    """Time Muon in a process that is kept from the bfloat16 instructions."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.without_bfloat16"]
    environment = {**os.environ, **CHILD_ENVIRONMENT}
    try:
        child = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, timeout=CHILD_SECONDS, env=environment
        )
        lines = child.stdout.splitlines()
    except subprocess.TimeoutExpired as expired:
        lines = (expired.stdout or b"").decode().splitlines()
    found: dict[str, list[float]] = {}
    choice = "unknown"
    for line in lines:
        record = json.loads(line)
        choice = record.get("choice", choice)
        if "seconds" in record:
            found.setdefault(record["optimizer"], []).append(record["seconds"])
    ours, theirs = (found.get(name, []) for name in ("steepest Muon", "torch Muon"))
    share = f"1/{statistics.median(theirs) / statistics.median(ours):.0f}" if ours and theirs else ""
    rows: list[Row] = [
        (name, milliseconds(of, digits=0) if of else f"none in {CHILD_SECONDS} s", str(len(of)), against, goal)
        for name, of, against, goal in (("steepest Muon", ours, share, "1/50"), ("torch Muon", theirs, "", ""))
    ]
    settings = " ".join(f"{name}={value}" for name, value in CHILD_ENVIRONMENT.items())
    return Table(
        title="A Muon step where nothing computes in bfloat16",
        method=f"A process of its own with {settings}, which keeps torch and oneDNN, not the library of its float32 "
        "products, from instructions that this processor may have: one step on the hidden matrices of one GPT-2 layer "
        "of width 512, CPU time, median of the rounds, the first step untimed for steepest; at most "
        f"{CHILD_SECONDS} s in all. The choice there: {choice}.",
        columns=("optimizer", "ms", "rounds", "steepest / torch", "goal <="),
        rows=rows,
    )


def _choice() -> str:
    return describe(product_speed("cpu"))


def describe(speed: ProductSpeed) -> str:
    """Return what was measured of products, and which dtype follows for matrices that are not small."""
    return (
        f"{'bfloat16' if speed.prefers_bfloat16 else 'float32'}, as a product in bfloat16 takes "
        f"{speed.bfloat16_time:.2f} of the time in float32, whose error is {speed.float32_error:.0e}"
    )


def _name(shape: tuple[int, int]) -> str:
    return " x ".join(map(str, shape))


def _log10(condition: float) -> float:
    return float(torch.tensor(condition, dtype=torch.float64).log10())
