"""The loss of the best predictor that ignores its input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["TargetWatch"]

_ROWS, _COLUMNS, _MOST = 64, 16, 8192
_TRIES = 3
_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared error": F.mse_loss,
    "absolute error": F.l1_loss,
    "binary cross entropy": F.binary_cross_entropy_with_logits,
}


class TargetWatch:
    """Collects a sample of the targets and derives the loss of the best constant predictor."""

    def __init__(self) -> None:
        self._pending: list[Tensor] = []
        self._seen = self._count = 0
        self._classes: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.float64]] = []
        self._names: list[str] = []
        self._inferred: list[float] = []

    @property
    def curious(self) -> bool:
        """Whether the loss has still to be recognised; it takes three records."""
        return max(len(self._names), len(self._inferred)) < _TRIES

    def recognise(self, output: Tensor, target: Tensor, loss: float) -> None:
        """Find out which loss it is, by computing each that is possible: on floating targets there are several."""
        name, target = "", target.to(output.device)
        if target.is_floating_point() and output.numel() == target.numel():
            output, target = output.detach().float().reshape(-1), target.detach().float().reshape(-1)
            for candidate, function in _LOSSES.items():
                if abs(float(function(output, target)) - loss) <= 1e-3 * abs(loss):
                    name = candidate
        self._names.append(name)

    def infer(self, output: Tensor, gradient: Tensor, loss: float) -> None:
        """Infer the loss of a constant predictor from the gradient of the loss alone, where the loss is a usual one.

        The gradient of a mean loss with respect to the output tells the target: of squared errors over n entries
        y = o - n g / 2, of cross entropies over N rows y = softmax(o) - N g. A kind of loss is accepted if it has this
        value.
        """
        found = [value for value in _implied(output.detach().float(), gradient.detach().float(), loss) if value > 0]
        self._inferred.append(found[0] if found else float("nan"))

    @property
    def inferred(self) -> float:
        """The loss of the best constant predictor of a batch, from the first losses and gradients; nan if not known."""
        return float(np.median(self._inferred)) if self._inferred else float("nan")

    def capture(self, target: Tensor) -> None:
        """Keep at most 64 evenly spaced rows and 16 columns of every fourth target, until there are enough."""
        self._seen += 1
        if self._count > _MOST or self._seen % 4 != 1:
            return
        rows = target.detach()
        if rows.is_complex() or not rows.numel():
            return
        rows = rows.reshape(-1, 1) if rows.ndim < 2 else rows.flatten(1)
        step = max(1, len(rows) // _ROWS)
        self._pending.append(rows[::step][:_ROWS, :_COLUMNS].clone())
        self._count += self._pending[-1].numel()

    def flush(self) -> None:
        """Copy the sample to the host."""
        for rows in self._pending:
            if rows.is_floating_point():
                self._values.append(np.array(rows.tolist(), dtype=float))
            else:
                self._classes.append(np.array(rows.tolist(), dtype=np.int64))
        self._pending = []

    def baselines(self) -> dict[str, float]:
        """Return the loss of the best constant predictor, by the name of the loss.

        cross entropy: the entropy of the classes, -sum_c p_c log p_c (nats); of sequences, its mean over the first 16
        positions, as a constant may still differ from position to position; squared error: the variance of the targets;
        absolute error: their mean distance from the median; binary cross entropy: the entropy of their mean. On
        floating targets only the loss that was recognised is told; none if none was.
        """
        self.flush()
        found: dict[str, float] = {}
        if self._classes:
            alike = len({rows.shape[1] for rows in self._classes}) == 1  # or sequences of several lengths
            classes = self._classes if alike else [rows.reshape(-1, 1) for rows in self._classes]
            found["cross entropy"] = _entropy(np.concatenate(classes))
        recognised, times = Counter(self._names).most_common(1)[0] if self._names else ("", 0)
        if recognised and times >= min(2, len(self._names)) and len({v.shape[1] for v in self._values}) == 1:
            values = np.concatenate(self._values)
            share = np.clip(values.mean(axis=0), 1e-12, 1 - 1e-12)
            found[recognised] = {
                "squared error": float(values.var(axis=0).mean()),
                "absolute error": float(np.abs(values - np.median(values, axis=0)).mean()),
                "binary cross entropy": float(-(share * np.log(share) + (1 - share) * np.log(1 - share)).mean()),
            }[recognised]
        return found


def _implied(output: Tensor, gradient: Tensor, loss: float) -> Iterator[float]:
    """Yield the loss of the best constant predictor for each kind of loss that has this value and this gradient."""

    def is_loss(value: Tensor) -> bool:
        return abs(float(value) - loss) <= 1e-2 * abs(loss) + 1e-9

    for classes in range(1, output.ndim) if output.ndim > 1 and output.numel() else ():
        rows, slopes = (t.movedim(classes, -1).flatten(0, -2) for t in (output, gradient))
        target = rows.softmax(-1) - len(rows) * slopes
        chosen = target.argmax(-1)
        certain = bool((target - F.one_hot(chosen, rows.shape[-1])).abs().max() < 0.05) and rows.shape[-1] > 1
        if certain and is_loss(F.cross_entropy(rows, chosen)):
            yield _entropy(chosen.cpu().numpy()[:, None])
    used = gradient.flatten(1).abs().amax(0) > 0 if gradient.ndim > 1 else gradient.new_ones(1, dtype=torch.bool)
    values, slopes = (t.flatten(1)[:, used] if t.ndim > 1 else t[:, None] for t in (output, gradient))
    slopes = slopes * slopes.numel()
    if not slopes.numel():
        return
    if is_loss(slopes.square().mean() / 4):
        yield float((values - slopes / 2).var(0, correction=0).mean())
    for share, target in (
        (values.sigmoid(), values.sigmoid() - slopes),
        (values, values - slopes * values * (1 - values)),  # of probabilities
    ):
        label = target.round()
        certain = bool(((target - label).abs().amax() < 0.05) & (label.sub(0.5).abs() == 0.5).all())
        if certain and is_loss(F.binary_cross_entropy(share.clamp(0, 1), label)):
            mean = label.mean(0).clamp(1e-12, 1 - 1e-12)
            yield float(F.binary_cross_entropy(mean, mean))


def _entropy(classes: NDArray[np.int64]) -> float:
    """Return the mean over the columns of the entropy; of all entries together where there are few in a column."""
    kinds = len(np.unique(classes[classes >= 0]))
    columns = list(classes.T) if len(classes) >= 10 * kinds else [classes.ravel()]
    entropies: list[float] = []
    for column in columns:
        counted = column[column >= 0]  # torch marks positions to ignore by negative numbers
        if len(counted):
            share = np.unique(counted, return_counts=True)[1] / len(counted)
            # Miller and Madow's correction: a sample's entropy is too small by (classes - 1) / 2n.
            entropies.append(float(-(share * np.log(share)).sum()) + (len(share) - 1) / (2 * len(counted)))
    return float(np.mean(entropies)) if entropies else 0.0
