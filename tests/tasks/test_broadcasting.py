"""Outputs and targets of different shapes: what is refused, and what is meant so."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steepest.errors import TaskError
from steepest.tasks import Task

X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
SUM = X.sum(dim=1)
CLASSES = torch.arange(64) % 4


def task(loss, target=SUM, outputs=1, **changes):
    model = changes.pop("model", lambda: nn.Linear(3, outputs))
    return Task(model=model, loss=loss, train=(X, target), valid=(X, target), batch_size=16, **changes)


BROADCAST = {
    "mse_loss": F.mse_loss,
    "MSELoss": nn.MSELoss(),
    "l1_loss": F.l1_loss,
    "smooth_l1_loss": F.smooth_l1_loss,
    "HuberLoss": nn.HuberLoss(),
    "mse_loss in a function": lambda output, target: 2 * F.mse_loss(output, target),
    "poisson_nll_loss, of which torch does not warn": lambda output, target: F.poisson_nll_loss(output, target.abs()),
    "squares by hand": lambda output, target: ((output - target) ** 2).mean(),
    "its root": lambda output, target: ((target - output) ** 2).mean().sqrt(),
    "a share of the variance": lambda output, target: ((target - output) ** 2).sum() / target.var(),
    "through weights in float32": lambda output, target: ((output @ torch.ones(1, 1) - target) ** 2).mean(),
    "sum": lambda output, target: (output - target).abs().sum(),
    "quantile": lambda output, target: torch.maximum(0.1 * (target - output), 0.9 * (output - target)).mean(),
    "after transformations": lambda output, target: (output.exp() - (target + 1).double() * output).mean(),
}


@pytest.mark.parametrize("loss", BROADCAST.values(), ids=BROADCAST)
def test_a_loss_of_a_column_against_a_row_is_refused_with_both_shapes(loss):
    message = r"loss must not broadcast .* \(got 'outputs \[16, 1\], targets \[16\]'\). .*output.squeeze\(1\)"
    with pytest.raises(TaskError, match=message):
        task(loss).check()


@pytest.mark.parametrize("loss", [F.mse_loss, BROADCAST["squares by hand"]])
def test_the_other_way_round_and_in_images_too(loss):
    flat = task(loss, SUM[:, None], model=lambda: nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)))
    with pytest.raises(TaskError, match=r"outputs \[16\], targets \[16, 1\]"):
        flat.check()
    image = task(loss, SUM[:, None, None] * torch.ones(2, 2), 4, model=lambda: nn.Sequential(nn.Linear(3, 4), Image()))
    with pytest.raises(TaskError, match=r"outputs \[16, 1, 2, 2\], targets \[16, 2, 2\]"):
        image.check()


def test_a_validation_of_single_examples_hides_nothing():
    by_hand = BROADCAST["squares by hand"]
    with pytest.raises(TaskError, match=r"outputs \[16, 1\], targets \[16\]"):
        task(by_hand, eval_batch_size=1).check()


class Image(nn.Module):
    def forward(self, x):
        return x.view(-1, 1, 2, 2)


def test_outputs_inside_of_a_dict_are_seen():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 1)

        def forward(self, x):
            return {"a": (self.linear(x), None)}

    with pytest.raises(TaskError, match=r"outputs \[16, 1\], targets \[16\]"):
        task(lambda output, target: (output["a"][0] - target).square().mean(), model=Net).check()


METRICS = {
    "difference": (lambda output, target: (output - target).abs().mean(), SUM),
    "accuracy": (lambda output, target: ((output > 0) == target).float().mean(), SUM > 0),
    "torch": (F.l1_loss, SUM),
}


@pytest.mark.parametrize(("metric", "target"), METRICS.values(), ids=METRICS)
def test_a_metric_that_broadcasts_is_refused_too(metric, target):
    made = task(lambda o, t: F.mse_loss(o.squeeze(1), t.float()), target, metric=metric)
    with pytest.raises(TaskError, match=r"metric (\S+ )?must not broadcast"):
        made.check()


def of_pairs(output, target):
    scores = output.flatten()
    return F.relu(1 - (scores[:, None] - scores) * (target[:, None] - target).sign()).mean()


def contrastive(output, target):
    similar = F.normalize(output, dim=1) @ F.normalize(output, dim=1).T
    same = (target[:, None] == target).float()
    return -(same * similar.log_softmax(1)).sum(1).div(same.sum(1)).mean()


def without_labels(output, target):
    return (-(output[:, None] - output).square().sum(-1)).exp().mean()


def of_bins(output, target):
    return F.cross_entropy(-((output - torch.linspace(-3, 3, 7)) ** 2), target)


def of_distributions(output, target):
    return (output.flatten().sort().values - target.sort().values).abs().mean()


MEANT = {
    "squeezed": task(lambda output, target: F.mse_loss(output.squeeze(1), target)),
    "flattened": task(lambda output, target: ((output.flatten() - target) ** 2).mean()),
    "pairs": task(of_pairs),
    "contrastive": task(contrastive, CLASSES, 4),
    "contrastive, every example its own class": task(contrastive, torch.arange(64), 4),
    "without labels": task(without_labels, torch.zeros(64), 4),
    "bins": task(of_bins, CLASSES),
    "distributions": task(of_distributions),
    "cross entropy": task(F.cross_entropy, CLASSES, 4),
    "as many classes as examples": task(F.cross_entropy, torch.arange(64) % 16, 16),
    "several heads on one target": task(lambda o, t: ((o - t) ** 2).mean(), SUM[:, None], 5),
    "huge targets": task(lambda o, t: ((o - t) ** 2).mean(), 1e6 + SUM[:, None]),
    "batch norm": task(F.mse_loss, SUM[:, None], model=lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))),
    "ranks as metric": task(lambda o, t: F.mse_loss(o.squeeze(1), t), metric=lambda o, t: of_pairs(o, t)),
    "one target for all": task(lambda output, target: (output - target).square().mean(), torch.ones(64)),
}


@pytest.mark.parametrize("made", MEANT.values(), ids=MEANT)
def test_what_is_meant_so_is_not_refused(made):
    made.check()


def test_other_warnings_of_a_loss_reach_the_user():
    def loss(output, target):
        import warnings

        warnings.warn("mind the gap", stacklevel=1)
        return F.mse_loss(output.squeeze(1), target)

    with pytest.warns(UserWarning, match="mind the gap"):
        task(loss).check()
