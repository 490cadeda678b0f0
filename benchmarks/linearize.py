"""Features, kernels and spectra of a network's Jacobian, against the libraries that make them.

Every measurement is a process of its own, so that its peak of memory is its own: `python -m benchmarks.linearize CASE
METHOD` prints a line of JSON. The peak is the kernel's (VmHWM, reset before the call), beyond what was resident.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.harness import Row, Table
from steepest.linearize import Linearization

ROUNDS, SMALL_REPEATS, CHILD_SECONDS, TOP = 3, 30, 400, 20
CHECKED_CALLS = 200, 16
"""Calls with the check, of small networks and of others: one batch in eight is compared, so that few say nothing."""

Method = Callable[[], object]


def network(*sizes: int) -> nn.Sequential:
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class Transformer(nn.Module):
    """Two layers over 16 tokens, with embeddings of tokens and positions, and four outputs."""

    def __init__(self, width: int = 64, tokens: int = 30, length: int = 16) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(tokens, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return [n, 4]."""
        return self.head(self.encoder(self.tokens(x) + self.positions(torch.arange(x.shape[1]))).mean(1))


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(16 * 49, 10),
    )  # fmt: skip


CASES: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "1-10-1": lambda: (network(1, 10, 1), torch.rand(200, 1)),
    "1-20-1": lambda: (network(1, 20, 1), torch.rand(200, 1)),
    "1-40-1": lambda: (network(1, 40, 1), torch.rand(200, 1)),
    "1-40-40-1": lambda: (network(1, 40, 40, 1), torch.rand(200, 1)),
    "C=10": lambda: (network(64, 280, 280, 10), torch.randn(1000, 64)),
    "P=966,801": lambda: (network(64, 1000, 900, 1), torch.randn(500, 64)),
    "P=98,476,001": lambda: (network(64, 7000, 7000, 7000, 1), torch.randn(256, 64)),
    "convolutional": lambda: (convolutional(), torch.randn(100, 1, 28, 28)),
    "transformer": lambda: (Transformer(), torch.randint(30, (64, 16))),
}


def ours(model: nn.Module, x: Tensor, what: str) -> Method:
    """Features at new inputs, the probe check beside them; all else from the model on, construction included."""
    if what.startswith("features"):
        known = Linearization(model, x.roll(1, 0), check=what == "features, checked")
        out = known.features(x) if what == "features, memory given" else None
        return lambda: known.features(x, out=out)
    fresh = torch.randn(1000, *x.shape[1:]) if x.is_floating_point() else x
    ways: dict[str, Method] = {
        "construction": lambda: Linearization(model, x),
        "construction, no check": lambda: Linearization(model, x, check=False),
        "kernel": lambda: Linearization(model, x).kernel(),
        "top": lambda: _top(Linearization(model, x), fresh, right=False),
        "top, right": lambda: _top(Linearization(model, x), fresh, right=True),
    }
    return ways[what]


def _top(lin: Linearization, fresh: Tensor, right: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    svd = lin.svd(TOP)
    return svd.singular_values, lin.principal_features(fresh, TOP), svd.right() if right else None


def notebook(model: nn.Module, x: Tensor, what: str) -> Method:
    """The course's loop: a backward pass a point, and a Python list for each scalar."""
    assert what == "features"

    def run() -> Tensor:
        found: dict[str, list[float]] = {}
        for point in x:
            model.zero_grad()
            model(point).backward()
            for name, parameter in model.named_parameters():
                assert parameter.grad is not None
                for i, entry in enumerate(parameter.grad.flatten()):
                    found.setdefault(f"{name}.{i}", []).append(entry.item())
        return torch.tensor(list(found.values())).T

    return run


def vectorized(model: nn.Module, x: Tensor, what: str) -> Method:
    """vmap(grad), vmap(jacrev) and, for the kernel, the product of what they give."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def one(values: Mapping[str, Tensor], point: Tensor) -> Tensor:
        return functional_call(model, dict(values), (point[None],))[0]

    def features() -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            single = one(parameters, x[0]).numel() == 1
            transform = grad(lambda v, p: one(v, p).squeeze()) if single else jacrev(one)
            found = vmap(transform, (None, 0))(parameters, x)
        return torch.cat([block.reshape(len(x), -1, p.numel()) for block, p in _pairs(found, parameters)], 2)

    def kernel() -> Tensor:
        rows = features().flatten(0, 1)
        return rows @ rows.T

    return features if what == "features" else kernel


def _pairs(found: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    return [(found[name], p) for name, p in parameters.items()]


def nngeometry(model: nn.Module, x: Tensor, what: str) -> Method:
    from nngeometry import GramMatrix, Jacobian
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(x), batch_size=len(x))

    def call(d: Tensor) -> Tensor:
        return model(d)

    def features() -> Tensor:
        return Jacobian(model=model, loader=loader, function=call).to_torch().transpose(0, 1)

    def kernel() -> Tensor:
        found = GramMatrix(model=model, loader=loader, function=call).to_torch()
        size = found.shape[0] * found.shape[1]
        return found.permute(1, 0, 3, 2).reshape(size, size)

    return features if what == "features" else kernel


def curvlinops(model: nn.Module, x: Tensor, what: str) -> Method:
    """ARPACK on its Jacobian, and its products at the new points."""
    from curvlinops import JacobianLinearOperator
    from scipy.sparse.linalg import svds

    assert what in ("top", "top, right")
    fresh = torch.randn(1000, *x.shape[1:])

    def operator(inputs: Tensor) -> Any:
        return JacobianLinearOperator(
            model, list(model.parameters()), [(inputs, torch.zeros(len(inputs), 1))], check_deterministic=False
        )

    def run() -> tuple[Tensor, object]:
        _, values, right = svds(operator(x).to_scipy(), k=TOP)
        return torch.from_numpy(values[::-1].copy()), operator(fresh) @ torch.from_numpy(right.T.copy()).float()

    return run


def gram(model: nn.Module, x: Tensor, what: str) -> Method:
    """The dense feature matrix and the eigenvalues of its product in float32."""
    assert what in ("top", "top, right")
    fresh = torch.randn(1000, *x.shape[1:])

    def run() -> tuple[Tensor, Tensor]:
        rows = vectorized(model, x, "features")()
        assert isinstance(rows, Tensor)
        rows = rows.flatten(0, 1)
        squares, left = torch.linalg.eigh(rows @ rows.T)
        values = squares[-TOP:].flip(0).clamp_min(0).sqrt()
        right = rows.T @ (left[:, -TOP:].flip(1) / values)
        products = [vectorized(model, part, "features")().flatten(0, 1) @ right for part in fresh.split(250)]  # type: ignore[attr-defined]
        return values, torch.cat(products)

    return run


METHODS = {
    "steepest": ours,
    "notebook": notebook,
    "vmap": vectorized,
    "nngeometry": nngeometry,
    "curvlinops": curvlinops,
    "dense Gram": gram,
}

PLAN: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    *((case, "features", ("notebook", "vmap", "nngeometry")) for case in list(CASES)[:4]),
    *((case, "features, checked", ()) for case in list(CASES)[:4]),
    ("C=10", "features, checked", ()),
    ("1-40-40-1", "construction", ()),
    ("1-40-40-1", "construction, no check", ()),
    ("C=10", "construction", ()),
    ("C=10", "construction, no check", ()),
    ("C=10", "features", ("vmap", "nngeometry")),
    ("C=10", "features, memory given", ()),
    ("C=10", "kernel", ("nngeometry", "vmap")),
    ("P=966,801", "top", ("curvlinops", "dense Gram")),
    ("P=966,801", "top, right", ("curvlinops",)),
    ("P=98,476,001", "kernel", ()),
    ("convolutional", "features", ("vmap", "nngeometry")),
    ("convolutional", "kernel", ("vmap", "nngeometry")),
    ("transformer", "features", ("vmap", "nngeometry")),
    ("transformer", "kernel", ("vmap", "nngeometry")),
)


def main(case: str, what: str, method: str) -> None:
    """Measure once and print it, with the error against plain autograd."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")
    model, x = CASES[case]()
    model.eval()
    _warm_up(what, method)
    run = METHODS[method](model, x, what)
    checked = what == "features, checked"
    small = case.startswith("1-") and method != "notebook"
    repeats = CHECKED_CALLS[0 if small else 1] if checked else SMALL_REPEATS if small else 1
    result = run() if repeats > 1 else None
    del result
    _touch(8 if case == "C=10" else 4 if repeats == 1 else 0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        times.append(time.process_time() - start)
    cpu = statistics.fmean(times) if checked else statistics.median(times)  # a median leaves out what is rare
    seen = {"cpu": cpu, "peak": _memory("VmHWM") - before}
    print(json.dumps(seen | {"error": _error(model, x, what, result)}))


def _warm_up(what: str, method: str) -> None:
    """Load what is loaded at first use."""
    METHODS[method](network(3, 32, 1), torch.randn(64, 3), what)()


def _touch(gibibytes: int) -> None:
    """Use memory once: a virtual machine gets it at its first touch, for which only the first method would pay."""
    torch.zeros(gibibytes << 30, dtype=torch.uint8).fill_(1)


def _memory(field: str) -> float:
    """Return MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def _error(model: nn.Module, x: Tensor, what: str, result: Any) -> float:
    """Return the relative error: of two rows of the features, of two rows' product, of the values against float64."""
    if what.startswith("top"):
        model, x = model.double(), x.double()
        exact = Linearization(model, x).kernel()
        expected = torch.linalg.eigvalsh(exact)[-TOP:].flip(0).sqrt()
        return float(((result[0].double() - expected) / expected).abs().max())
    if what.startswith("construction"):
        return 0.0
    parameters = list(model.parameters())
    outputs = model(x[3:8])
    pair = [torch.autograd.grad(o, parameters, retain_graph=True) for o in (outputs[0, -1], outputs[4, 0])]
    one, other = (torch.cat([g.flatten() for g in gradients]) for gradients in pair)
    c = outputs.shape[1]
    if what.startswith("features"):
        rows = result.reshape(-1, one.numel())
        found = torch.stack([rows[3 * c + c - 1], rows[7 * c]])
        return float((found - torch.stack([one, other])).norm() / (one.norm() ** 2 + other.norm() ** 2).sqrt())
    return float((result[3 * c + c - 1, 7 * c] - one @ other).abs() / (one.norm() * other.norm()))


def run() -> list[Table]:
    print("each measurement is a process; the slowest take a minute", flush=True)
    seen: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for turn in range(ROUNDS):
        for case, what, peers in PLAN:
            for method in ("steepest", *peers):
                key = case, what, method
                slow = turn > 0 and (not seen.get(key) or seen[key][0]["cpu"] > 20)
                if not slow and (found := _child(*key)) is not None:
                    seen.setdefault(key, []).append(found)
    return [_compared(seen), _accuracy(), _ranks()]


def _child(case: str, what: str, method: str) -> dict[str, float] | None:
    command = [sys.executable, "-m", "benchmarks.linearize", case, what, method]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


def _compared(seen: Mapping[tuple[str, str, str], list[dict[str, float]]]) -> Table:
    rows: list[Row] = []
    for case, what, peers in PLAN:
        base = seen[case, what, "steepest"]
        for method in ("steepest", *peers):
            found = seen.get((case, what, method))
            if not found:
                rows.append((case, what, method, "fails, or over the time", "", "", ""))
                continue
            own, theirs = (statistics.median(f["cpu"] for f in of) for of in (base, found))
            error = max(f["error"] for f in found)
            rows.append(
                (
                    case,
                    what,
                    method,
                    f"{theirs * 1e3:.2f}" if theirs < 1 else f"{theirs * 1e3:.0f}",
                    f"{theirs / own:.2f}" if theirs / own < 100 else f"{theirs / own:.0f}",
                    f"{max(f['peak'] for f in found):.0f}",
                    f"{error:.0e}" if error < 1e-3 else f"wrong by {error:.0%}",
                )
            )
    return Table(
        title="Features, kernels and spectra",
        method=(
            "ReLU networks of these sizes; n = 200 for the course's, 1,000 with C = 10 outputs (64-280-280-10, "
            "P = 99,690), 500 (64-1000-900-1), 256 (64-7000-7000-7000-1), 100 images of 28 x 28, 64 sequences of 16 "
            "tokens; float32. Features are at inputs that are new, from a linearization that exists, without the probe "
            "check, and checked with it (the mean of many calls, as one batch in eight is compared), and "
            "written into a matrix that exists; kernels and the 20 largest singular "
            "values with 20 principal features at 1,000 new points are from the model on, with construction and check. "
            "vmap is vmap(grad) for one output, vmap(jacrev) for more, J J' for kernels; notebook is the course's "
            "loop. Processor time, medians over rounds; the ratio is that to steepest; the "
            "peak is beyond what was resident, the result included. The error is that of two rows, or of the singular "
            "values, against float64."
        ),
        columns=("network", "what", "method", "ms", "times steepest", "peak, MiB", "error"),
        rows=rows,
        packages=("nngeometry", "curvlinops-for-pytorch", "scipy"),
    )


def _accuracy() -> Table:
    rows: list[Row] = []
    cases: dict[str, tuple[nn.Module, Tensor]] = {
        "1-40-40-1": (network(1, 40, 40, 1), torch.rand(100, 1)),
        "64-100-90-3": (network(64, 100, 90, 3), torch.randn(50, 64)),
        "convolutional": (convolutional(), torch.randn(8, 1, 28, 28)),
        "transformer": (Transformer().eval(), torch.randint(30, (12, 16))),
    }
    for name, (model, x) in cases.items():
        for dtype in (torch.float64, torch.float32):
            lin = Linearization(model.to(dtype), x.to(dtype) if x.is_floating_point() else x)
            exact = _dense(model.double(), x.double() if x.is_floating_point() else x)
            kernel = exact @ exact.T
            values = torch.linalg.svdvals(exact)[:TOP]
            svd = lin.svd(TOP)
            relative = (svd.singular_values - values).abs() / values
            rows.append(
                (
                    name,
                    str(dtype).removeprefix("torch."),
                    f"{float((lin.kernel().double() - kernel).norm() / kernel.norm()):.0e}",
                    f"{float(relative[0]):.0e}",
                    f"{float(relative[-1]):.0e}",
                    f"{float(values[-1] / values[0]):.0e}",
                    svd.plan.method,
                )
            )
            model.to(dtype)
    return Table(
        title="Against dense autograd in float64",
        method="Relative errors of kernel (Frobenius) and singular values; the reference is a backward pass an output.",
        columns=("network", "precision", "kernel", "largest value", "20th value", "20th / largest", "plan"),
        rows=rows,
    )


def _dense(model: nn.Module, x: Tensor) -> Tensor:
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(o, list(model.parameters()), retain_graph=True)])
        for o in model(x).flatten()
    ]
    return torch.stack(rows)


def _ranks() -> Table:
    from steepest.tasks import curve

    rows: list[Row] = []
    for width, depth in ((10, 1), (20, 1), (40, 1), (40, 2)):
        task = curve(width, depth)
        assert isinstance(task.train, tuple)
        found: dict[torch.dtype, list[int]] = {torch.float64: [], torch.float32: []}
        columns = 0
        for seed in range(5):
            for dtype, ranks in found.items():
                lin = Linearization(task.build(seed).to(dtype), task.train[0].to(dtype))
                ranks.append(lin.svd().rank)
                columns = lin.shape[1]
                dense = np.linalg.matrix_rank(lin.features().numpy())
                assert dense == ranks[-1], (dense, ranks[-1])
        rows.append((f"{width} x {depth}", str(columns), *(", ".join(map(str, ranks)) for ranks in found.values())))
    return Table(
        title="Numerical ranks of the course's networks at initialisation",
        method="200 points, kinks in [0, 1], seeds 0 to 4; the same as numpy.linalg.matrix_rank of the features.",
        columns=("width x depth", "parameters", "rank in float64", "in float32"),
        rows=rows,
    )


if __name__ == "__main__":
    main(*sys.argv[1:4])
