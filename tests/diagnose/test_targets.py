"""The loss of the best predictor that ignores its input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from steepest.diagnose._watch.targets import TargetWatch


def watched(targets: list[Tensor], loss=None) -> TargetWatch:
    """A watch that has seen targets, and outputs from which it can tell the loss."""
    watch = TargetWatch()
    for i, target in enumerate(targets):
        if loss is not None and watch.curious:
            output = torch.randn(target.shape, generator=torch.Generator().manual_seed(i))
            watch.recognise(output, target, float(loss(output, target)))
        watch.capture(target)
    return watch


def labels(shares: list[float], rows: int = 64, batches: int = 400, seed: int = 0) -> list[Tensor]:
    generator = np.random.default_rng(seed)
    return [torch.from_numpy(generator.choice(len(shares), rows, p=shares)) for _ in range(batches)]


def entropy(shares: list[float]) -> float:
    return -sum(p * math.log(p) for p in shares if p > 0)


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.1], [0.1] * 10, [0.7, 0.2, 0.1]], ids=str)
def test_of_classes_it_is_their_entropy(shares):
    found = watched(labels(shares)).baselines()
    assert found == {"cross entropy": pytest.approx(entropy(shares), abs=0.02)}


def test_one_class_costs_nothing():
    assert watched([torch.zeros(8, dtype=torch.long)] * 20).baselines()["cross entropy"] == pytest.approx(0, abs=1e-9)


def test_positions_to_ignore_are_ignored():
    targets = [torch.cat([target, torch.full((64,), -100)]) for target in labels([0.5, 0.5])]
    assert watched(targets).baselines()["cross entropy"] == pytest.approx(math.log(2), abs=0.02)


def test_targets_that_are_all_ignored_have_no_entropy_and_no_warning():
    found = watched([torch.full((8,), -100)] * 5).baselines()
    assert not any(value > 0 for value in found.values())


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_whole_numbers_of_any_kind_are_classes(dtype):
    targets = [target.to(dtype) for target in labels([0.5, 0.5])]
    assert watched(targets).baselines()["cross entropy"] == pytest.approx(math.log(2), abs=0.02)


def test_of_sequences_it_is_at_most_the_entropy_of_all_tokens():
    targets = [torch.stack(labels([0.5, 0.3, 0.2], 8, 30, seed)) for seed in range(200)]
    assert watched(targets).baselines()["cross entropy"] == pytest.approx(entropy([0.5, 0.3, 0.2]), abs=0.05)


@given(columns=st.integers(1, 5), scale=st.sampled_from([0.01, 1.0, 100.0]), seed=st.integers(0, 99))
def test_of_squared_errors_it_is_the_variance_around_each_columns_mean(columns, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    centre = 5 * torch.arange(columns)
    targets = [scale * (centre + torch.randn(64, columns, generator=generator)) for _ in range(40)]
    found = watched(targets, F.mse_loss).baselines()
    assert found == {"squared error": pytest.approx(scale**2, rel=0.15)}


def test_of_absolute_errors_it_is_the_distance_from_each_columns_median():
    generator = torch.Generator().manual_seed(0)
    targets = [torch.randn(64, 3, generator=generator).exp() + 10 * torch.arange(3) for _ in range(40)]
    values = torch.cat(targets)
    wanted = float((values - values.median(dim=0).values).abs().mean())
    found = watched(targets, F.l1_loss).baselines()
    assert found == {"absolute error": pytest.approx(wanted, rel=0.1)}


def test_of_binary_cross_entropies_it_is_the_entropy_of_the_mean():
    generator = torch.Generator().manual_seed(0)
    targets = [(torch.rand(64, 2, generator=generator) < torch.tensor([0.5, 0.1])).float() for _ in range(100)]
    wanted = (entropy([0.5, 0.5]) + entropy([0.1, 0.9])) / 2
    found = watched(targets, F.binary_cross_entropy_with_logits).baselines()
    assert found == {"binary cross entropy": pytest.approx(wanted, abs=0.03)}


def test_a_target_with_one_number_an_example_is_one_column():
    generator = torch.Generator().manual_seed(0)
    flat = [torch.randn(64, generator=generator) for _ in range(40)]
    assert watched(flat, F.mse_loss).baselines()["squared error"] == pytest.approx(1, rel=0.15)


def test_no_target_gives_no_baseline():
    assert TargetWatch().baselines() == {}


@pytest.mark.parametrize(
    "target",
    [
        torch.tensor(1.5),
        torch.tensor(1),
        torch.empty(0),
        torch.empty(0, dtype=torch.long),
        torch.empty(0, 3),
        torch.randn(4, dtype=torch.complex64),
        torch.full((4,), math.nan),
        torch.ones(4, dtype=torch.bfloat16),
        torch.ones(4, 3, 5, 5),
        torch.ones(4).requires_grad_(),
    ],
    ids=lambda target: f"{target.dtype} {tuple(target.shape)} {target.requires_grad}",
)
@pytest.mark.parametrize("loss", [None, F.mse_loss])
def test_unusual_targets_are_no_obstacle(target, loss):
    if loss is not None and not target.is_floating_point():
        loss = None
    watch = TargetWatch()
    for _ in range(5):
        if loss is not None and watch.curious:
            output = torch.zeros(target.shape, dtype=target.dtype)
            watch.recognise(output, target, 1.0)
        watch.capture(target)
    assert isinstance(watch.baselines(), dict)


def test_targets_whose_width_changes_are_no_obstacle():
    watch = watched([torch.randn(8, n, generator=torch.Generator().manual_seed(n)) for n in range(1, 20)], F.mse_loss)
    assert isinstance(watch.baselines(), dict)


def test_sequences_whose_length_changes_have_an_entropy():
    watch = watched([torch.stack(labels([0.5, 0.5], n, 8, n)) for n in (3, 9, 4, 20, 7)] * 20)
    assert watch.baselines()["cross entropy"] == pytest.approx(math.log(2), abs=0.1)


def test_a_target_is_copied_and_a_bounded_number_is_kept():
    watch = TargetWatch()
    target = torch.zeros(64, dtype=torch.long)
    watch.capture(target)
    target.fill_(1)
    watch.flush()
    assert watch.baselines()["cross entropy"] == pytest.approx(0, abs=1e-9)
    for _ in range(3000):
        watch.capture(torch.zeros(64, 40, dtype=torch.long))
    kept = sum(rows.numel() for rows in watch._pending)
    assert kept <= 16_384


def test_nothing_that_is_kept_keeps_a_tensor_alive():
    watch = watched([torch.zeros(8, dtype=torch.long), *[torch.randn(8)] * 20])
    watch.flush()
    held = [each for value in vars(watch).values() if isinstance(value, list) for each in value]
    assert not [each for each in held if isinstance(getattr(each, "base", each), Tensor)]


HALF = torch.arange(64) % 2
KINDS = {
    "cross entropy": ((64, 3), HALF, F.cross_entropy, entropy([0.5, 0.5])),
    "cross entropy, classes second": ((64, 3, 5), HALF[:, None].expand(64, 5), F.cross_entropy, entropy([0.5, 0.5])),
    "squared error": ((64, 3), 4.0 * HALF[:, None].expand(64, 3), F.mse_loss, 4.0),
    "squared error, one number": ((64,), 4.0 * HALF, F.mse_loss, 4.0),
    "binary cross entropy": ((64, 1), HALF[:, None].float(), F.binary_cross_entropy_with_logits, entropy([0.5, 0.5])),
    "of probabilities": ((64,), HALF.float(), lambda o, y: F.binary_cross_entropy(o.sigmoid(), y), entropy([0.5, 0.5])),
    "of one column": ((64, 3), 4.0 * HALF, lambda o, y: F.mse_loss(o[:, 1], y), 4.0),
    "hinge": ((64, 3), HALF, F.multi_margin_loss, math.nan),
    "smoothed": ((64, 3), HALF, lambda o, y: F.cross_entropy(o, y, label_smoothing=0.2), math.nan),
    "a sum": ((64, 3), HALF, lambda o, y: F.cross_entropy(o, y, reduction="sum"), math.nan),
}


@pytest.mark.parametrize("sharp", [1.0, 8.0])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_constant_predictor_costs_follows_from_loss_and_gradient(kind, sharp):
    shape, target, loss, wanted = KINDS[kind]
    output = (sharp * torch.randn(shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    value = loss(output, target)
    (gradient,) = torch.autograd.grad(value, output)
    watch = TargetWatch()
    watch.infer(output, gradient, value.item())
    assert watch.inferred == pytest.approx(wanted, rel=0.02, nan_ok=True)
