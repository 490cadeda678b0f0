"""A training loop of your own, as a program that steepest compare runs: a network learns which letter comes next.

    steepest compare --program examples/program.py:run --optimizers adamw,muon,scion

The text is the source of Python's own `argparse`, so there is nothing to download. Gradients are accumulated over two
batches and clipped, and an average of the weights (EMA) is what is validated: a program's loop is its own business.
"""

import argparse
import copy
import inspect

import torch
from torch import Tensor, nn

from steepest.train import Trial

CONTEXT, STEPS = 8, 60


def windows() -> tuple[Tensor, Tensor]:
    """Return all windows of the text as bytes, of `CONTEXT` characters each, and the characters after them."""
    text = torch.tensor(list(inspect.getsource(argparse).encode("ascii", "replace")))
    return text[:-1].unfold(0, CONTEXT, 1), text[CONTEXT:]


def run(trial: Trial) -> None:
    """Train once."""
    torch.manual_seed(trial.seed)
    x, y = windows()
    cut = len(x) * 9 // 10
    layers = (nn.Embedding(128, 16), nn.Flatten(), nn.Linear(16 * CONTEXT, 64), nn.ReLU(), nn.Linear(64, 128))
    model = nn.Sequential(*layers).to(trial.device)
    trial.initialize(model)
    averaged = copy.deepcopy(model)
    optimizer = trial.optimizer(model)
    steps = trial.steps or STEPS
    scheduler = trial.scheduler(optimizer, steps)
    x, y = x.to(trial.device), y.to(trial.device)
    with trial.watch(model, optimizer) as monitor:
        for step in range(steps + 1):
            if step % 20 == 0 or step == steps:
                with torch.no_grad():
                    scores = averaged(x[cut:])
                hits = (scores.argmax(dim=1) == y[cut:]).float().mean()
                trial.report(step, loss=nn.functional.cross_entropy(scores, y[cut:]), accuracy=hits)
            if step < steps:
                optimizer.zero_grad()
                for batch in torch.randint(cut, (2, 32)):
                    loss = nn.functional.cross_entropy(model(x[batch]), y[batch]) / 2
                    loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                monitor.record(step, 2 * loss)
                for mean, new in zip(averaged.parameters(), model.parameters(), strict=True):
                    mean.data.lerp_(new.data, 0.2)
