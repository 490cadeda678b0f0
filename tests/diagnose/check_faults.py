"""Show by plain measurement, without a monitor, that every row is what it claims to be.

`python tests/diagnose/check_faults.py [dev|held_out] [a word of the rows' labels]` prints what does not hold.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.diagnose.faults import FAULTS, Fault, build
from tests.diagnose.healthy import HEALTHY, build_healthy
from tests.diagnose.models import hidden_layers
from tests.diagnose.plants import NORMS
from tests.diagnose.runs import Recipe, Run, constant_loss, forked


def fresh_loss(run: Run, count: int = 40) -> float:
    """The mean loss of a model as it is now on new batches."""
    with torch.no_grad(), forked(5):
        return sum(float(run.loss(run.model, next(run.batches))) for _ in range(count)) / count


def gradients(run: Run) -> dict[str, Tensor]:
    """The gradient at a run's first batch, by parameter name; zeros where there is none."""
    with forked(run.seed):
        run.optimizer.zero_grad()
        run.loss(run.model, next(run.batches)).backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in run.model.named_parameters()}


def activations(run: Run) -> list[Tensor]:
    """What the readers of hidden layers get for one batch, layer by layer."""
    found: list[Tensor] = []
    hooks = [
        reader.register_forward_pre_hook(lambda _, x: found.append(x[0])) for _, reader in hidden_layers(run.model)
    ]
    with torch.no_grad(), forked(5):
        run.model(*next(run.batches)[:-1])
    for hook in hooks:
        hook.remove()
    return found


def spread(run: Run) -> float:
    """The largest deviation of an output over the examples of a batch, as a part of the outputs' size."""
    with torch.no_grad(), forked(5):
        output = run.model(*next(run.batches)[:-1]).double()
    return float(output.std(0).max() / output.abs().mean().clamp(min=1e-9))


def copies(weight: Tensor) -> float:
    """The share of rows that are copies of another row."""
    rows = weight.detach().flatten(1)
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    return float((distances.amin(1) <= 1e-3 * rows.norm(dim=1).clamp(min=1e-9)).float().mean())


def leaves(model: nn.Module) -> list[Tensor]:
    """All parameters, those that torch does not know of too."""
    hidden = [p for value in vars(model).values() if isinstance(value, list) for p in _parameters(value)]
    return [*model.parameters(), *hidden]


def _parameters(layers: list[object]) -> list[Tensor]:
    return [p for layer in layers if isinstance(layer, nn.Module) for p in layer.parameters()]


def unmoved(run: Run) -> int:
    """How many parameters are exactly what they were after ten steps."""
    run.steps = 10
    before = [p.detach().clone() for p in leaves(run.model)]
    run.train()
    return sum(bool(torch.equal(p, q)) for p, q in zip(leaves(run.model), before, strict=True))


class Case:
    """A fault and its sane twin in a split, built anew whenever they are asked for."""

    def __init__(self, fault: Fault, split: str, seed: int = 0) -> None:
        self.fault, self.split, self.seed = fault, split, seed
        self.task = str(Recipe(fault.family, fault.size, **fault.recipe).complete().task)

    def run(self) -> Run:
        return build(self.fault, self.split, self.seed)

    def twin(self) -> Run:
        return build(self.fault, self.split, self.seed, planted=False)

    def gains(self) -> tuple[float, float, float]:
        """How far below the constant predictor's loss fault and twin come, and that loss."""
        faulty, sane = self.run(), self.twin()
        faulty.train()
        sane.train()
        least = constant_loss(self.twin(), self.task, 40)
        return least - fresh_loss(faulty), least - fresh_loss(sane), least


def trains(gain: float, least: float, task: str) -> bool:
    """A sane twin comes well below the constant predictor's loss; on a text a hundred steps cannot gain as much."""
    return gain > (0.12 if task == "tokens" else 0.25) * least


def zero_gradients(case: Case) -> dict[str, bool]:
    run = case.run()
    norms = {id(p) for part in run.model.modules() if isinstance(part, NORMS) for p in part.parameters()}
    last = list(run.model.named_parameters())[-1][0]
    zero = all(bool((g == 0).all()) for n, g in gradients(run).items() if n != last or not n.endswith("bias"))
    run.train()
    stays = all(bool((p == 0).all()) for n, p in run.model.named_parameters() if id(p) not in norms and n != last)
    return {"gradients are zero": zero, "weights stay zero": stays}


def symmetric_units(case: Case) -> dict[str, bool]:
    run = case.run()
    some = any(bool((g != 0).any()) for n, g in gradients(case.run()).items() if not n.endswith("bias"))
    run.train()
    shares = []
    for layer, reader in hidden_layers(run.model):
        read = reader.weight.view(reader.weight.shape[0], layer.weight.shape[0], -1).transpose(0, 1)
        shares.append(min(copies(layer.weight), copies(read)))
    other = case.twin()
    other.train()
    return {
        "gradients are not zero": some,
        "units are copies at the end": max(shares) >= 0.5,
        "not in the twin": max(copies(layer.weight) for layer, _ in hidden_layers(other.model)) < 0.2,
    }


def _end_share(run: Run, at_end: Callable[[Tensor], Tensor]) -> float:
    return max(float(at_end(a).float().mean()) for a in activations(run))


def dead_units(case: Case) -> dict[str, bool]:
    def zero(a: Tensor) -> Tensor:
        return a.abs() < 1e-6

    run = case.run()
    start = _end_share(run, zero)
    run.train()
    return {
        "dead at the start": start >= 0.95,
        "dead at the end": _end_share(run, zero) >= 0.95,
        "not in the twin": _end_share(case.twin(), zero) < 0.8,
    }


def saturated_units(case: Case) -> dict[str, bool]:
    sigmoid = case.fault.recipe["act"] == "sigmoid"

    def pinned(a: Tensor) -> Tensor:
        return (a - 0.5).abs() > 0.49 if sigmoid else a.abs() > 0.99

    run = case.run()
    start = _end_share(run, pinned)
    run.train()
    return {
        f"pinned at the start ({start:.2f})": start >= 0.8,
        "pinned at the end": _end_share(run, pinned) >= 0.6,
        "not in the twin": _end_share(case.twin(), pinned) < 0.5,
    }


def _decay(run: Run) -> float:
    found = gradients(run)
    names = {id(p): n for n, p in run.model.named_parameters()}
    layers = [layer for layer, _ in hidden_layers(run.model)] + [hidden_layers(run.model)[-1][1]]
    norms = [float(torch.cat([found[names[id(p)]].flatten() for p in layer.parameters()]).norm()) for layer in layers]
    return max(norms) / max(norms[0], 1e-30)


def vanishing_gradients(case: Case) -> dict[str, bool]:
    gain, sane, least = case.gains()
    decay, normal = _decay(case.run()), _decay(case.twin())
    return {
        f"shrinks towards the input ({decay:.1e})": decay > 300,
        f"not in the twin ({normal:.1e})": normal < 30,
        "does not train": gain < 0.3 * sane,
        "the twin trains": trains(sane, least, case.task),
    }


def exploding_gradients(case: Case) -> dict[str, bool]:
    def norm(run: Run) -> float:
        return float(torch.stack([g.norm() for g in gradients(run).values()]).norm())

    ratio = norm(case.run()) / norm(case.twin())
    gain, sane, least = case.gains()
    return {
        f"a hundred times the twin's ({ratio:.1e})": ratio > 100,
        "does not train": not gain > 0.3 * sane,
        "the twin trains": trains(sane, least, case.task),
    }


def learning_rate_too_high(case: Case) -> dict[str, bool]:
    gain, sane, least = case.gains()
    return {
        "at least thirty times": case.fault.plant["factor"] >= 30,
        f"does not train ({gain / sane:.2f})": not gain > 0.2 * sane,
        "the twin trains": trains(sane, least, case.task),
    }


def learning_rate_too_low(case: Case) -> dict[str, bool]:
    start = fresh_loss(case.run())
    run, sane = case.run(), case.twin()
    run.train()
    sane.train()
    moved = (start - fresh_loss(run)) / (start - fresh_loss(sane))
    return {
        "at most a 300th": case.fault.plant["factor"] <= 1 / 300,
        f"hardly moves ({moved:.2f})": moved < 0.12,
        "the twin trains": trains(*case.gains()[1:], case.task),
    }


def disconnected_parameters(case: Case) -> dict[str, bool]:
    return {"some never move": unmoved(case.run()) > 0, "all of the twin's do": unmoved(case.twin()) == 0}


def non_finite(case: Case) -> dict[str, bool]:
    losses, sane = case.run().train(), case.twin().train()
    first = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    return {
        f"is not finite soon ({first})": first < 0.6 * len(losses),
        "after no growth": max(losses[:first], default=0) < 3 * losses[0] or first == 0 or losses[0] > 1e15,
        "the twin is": all(map(math.isfinite, sane)),
    }


def constant_output(case: Case) -> dict[str, bool]:
    run, sane = case.run(), case.twin()
    start = spread(run)
    run.train()
    sane.train()
    least = constant_loss(case.twin(), case.task, 40)
    return {
        "the same at the start": start < 1e-5,
        "the same at the end": spread(run) < 1e-5,
        "not in the twin": spread(case.twin()) > 1e-2,
        "the twin trains": trains(least - fresh_loss(sane), least, case.task),
    }


def data_unrelated_to_target(case: Case) -> dict[str, bool]:
    run, sane = case.run(), case.twin()
    start = fresh_loss(case.run())
    run.train()
    sane.train()
    least = constant_loss(run, case.task, 40)
    ratio = fresh_loss(run) / least
    return {
        f"settles at the constant predictor's ({ratio:.3f})": 0.95 < ratio < 1.1,
        f"having come down or begun there ({start / least:.2f})": start / least > 0.99,
        "the twin trains": trains(least - fresh_loss(sane), least, case.task),
    }


CHECKS: dict[str, Callable[[Case], dict[str, bool]]] = {
    check.__name__: check
    for check in (
        zero_gradients,
        symmetric_units,
        dead_units,
        saturated_units,
        vanishing_gradients,
        exploding_gradients,
        learning_rate_too_high,
        learning_rate_too_low,
        disconnected_parameters,
        non_finite,
        constant_output,
        data_unrelated_to_target,
    )
}


def check(fault: Fault, split: str, seed: int = 0) -> list[str]:
    """What the row promises and does not hold."""
    return [promise for promise, holds in CHECKS[fault.cause](Case(fault, split, seed)).items() if not holds]


def check_healthy(name: str, split: str, seed: int = 0) -> list[str]:
    """Why a healthy run is not one: its loss neither falls clearly nor, where it began low, stays low."""
    row = HEALTHY[name]
    run = build_healthy(name, split, seed)
    losses = run.train()
    tenth = max(1, len(losses) // 10)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    first = max(first, losses[0]) if run.scaler is None else first
    if not all(map(math.isfinite, losses)):
        return ["a loss is not finite"]
    if row.stays_below is not None:
        return [] if last < row.stays_below else [f"does not stay low: {first:.3g} to {last:.3g}"]
    return [] if last < row.falls_to * first else [f"does not fall: {first:.3g} to {last:.3g}"]


def say(*words: object) -> None:
    """Write a line at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main(split: str, word: str = "") -> None:
    """Print what does not hold in a split, and how long the runs took."""
    torch.set_num_threads(1)
    failed = 0
    for fault in (fault for fault in FAULTS if word in fault.label):
        for promise in check(fault, split):
            failed += 1
            say(f"{split} {fault.label}: {promise}")
    for name in (name for name in HEALTHY if word in f"healthy: {name}"):
        for promise in check_healthy(name, split):
            failed += 1
            say(f"{split} healthy: {name}: {promise}")
    begin = time.perf_counter()
    for fault in (fault for fault in FAULTS if word in fault.label):
        build(fault, split).train()
    middle = time.perf_counter()
    for name in (name for name in HEALTHY if word in f"healthy: {name}"):
        build_healthy(name, split).train()
    end = time.perf_counter()
    say(f"{split}: {failed} promises broken; faults {middle - begin:.1f} s, healthy {end - middle:.1f} s")
    say(dict(Counter(fault.cause for fault in FAULTS)), len(FAULTS), "faults,", len(HEALTHY), "healthy")


if __name__ == "__main__":
    chosen = [a for a in sys.argv[1:] if a in ("dev", "held_out")] or ["dev", "held_out"]
    words = [a for a in sys.argv[1:] if a not in ("dev", "held_out")] or [""]
    for one, another in itertools.product(chosen, words):
        main(one, another)
