"""One training run on the digits: `steepest.train.train` against the same run written by hand in plain torch."""

from __future__ import annotations

import math

import torch
from torch import nn

from benchmarks.harness import Candidate, Row, Table, interleave, milliseconds, ratio
from steepest.compare import CANDIDATES
from steepest.tasks import Task, digits
from steepest.train import train

ROUNDS = 9
SEED = 0
RATES = {"sgd": 0.1, "adamw": 1e-3}
OPTIMIZERS = {
    "sgd": lambda model, lr: torch.optim.SGD(model.parameters(), lr),
    "adamw": lambda model, lr: torch.optim.AdamW(model.parameters(), lr),
}


def run() -> Table:
    return Table(
        title="One training run on the digits",
        method="`steepest.train.train` (monitor, schedule, 35 validations and their metric) against the same 200 steps "
        "and validations written by hand in plain torch without a monitor, the rate set by hand: same start, same "
        f"order of the data, in turns, CPU time, median of {ROUNDS} rounds (and quartiles of the ratio).",
        columns=("optimizer", "steepest ms", "by hand ms", "steepest / by hand", "final validation loss"),
        rows=[_row(name) for name in RATES],
        packages=("numpy", "scikit-learn"),
    )


def _row(name: str) -> Row:
    task, lr = digits(), RATES[name]

    def ours() -> float:
        return train(task, CANDIDATES[name].build, "he", lr=lr, seed=SEED).valid_loss[-1]

    def theirs() -> float:
        return by_hand(task, name)

    ours_loss, theirs_loss = ours(), theirs()
    same = f"{ours_loss:.6f}, the same bits"
    seconds = interleave({"ours": Candidate(ours), "theirs": Candidate(theirs)}, ROUNDS)
    return (
        name,
        milliseconds(seconds["ours"].cpu),
        milliseconds(seconds["theirs"].cpu),
        ratio(seconds["ours"].cpu, seconds["theirs"].cpu),
        same if ours_loss == theirs_loss else f"DIFFERENT: {ours_loss!r} and by hand {theirs_loss!r}",
    )


def by_hand(task: Task, name: str) -> float:
    """Train as one would without steepest; only the tensors are the task's. Return the last validation loss."""
    (x, y), (x_valid, y_valid), steps, size = task.train, task.valid, 200, 100
    torch.manual_seed(SEED)
    widths = [64] + [50] * 10
    hidden = [layer for i in range(10) for layer in (nn.Linear(widths[i], widths[i + 1]), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(50, 10))
    generator = torch.Generator().manual_seed(SEED)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
    optimizer = OPTIMIZERS[name](model, RATES[name])
    generator = torch.Generator().manual_seed(SEED)
    losses, accuracies = [], []

    def validate() -> None:
        model.eval()
        with torch.no_grad():
            output = model(x_valid)
            losses.append(float(nn.functional.cross_entropy(output, y_valid)))
            accuracies.append(float((output.argmax(dim=1) == y_valid).float().mean()))
        model.train()

    validate()
    step = 0
    while step < steps:
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x) - size + 1, size):
            batch = order[start : start + size]
            for group in optimizer.param_groups:
                group["lr"] = RATES[name] * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            step += 1
            if step % 6 == 0 or step == steps:
                validate()
            if step == steps:
                break
    return losses[-1]
