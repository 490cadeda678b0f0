"""Which units of a layer are copies of one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from steepest._layers import EMBEDDINGS
from steepest._sharding import local

__all__ = ["UnitWatch", "share_of_copies"]

Units = Callable[[Mapping[str, Tensor]], tuple[Tensor, Tensor | None]]
"""From the parameters by name: the units of a layer as rows, and their biases."""

_PROJECTIONS = 4
_TOLERANCE = 1e-4


@torch.no_grad()
def share_of_copies(units: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the share of the rows of a matrix (units x inputs) that equal another row, as a tensor without axes.

    With a bias, rows are copies only if their biases are too.

    Rows are projected on 4 fixed random directions and sorted by the first projection, so that copies become
    neighbours: n log n, one pass over the matrix. Two rows are copies if all projections agree to 1e-4 of the row's
    own; that two random rows do has probability below 1e-14. Rows of zeros are not counted: they may start so on
    purpose, and their gradients tell them apart.

    >>> share_of_copies(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [0.0, 0.0]]))
    tensor(0.5000)
    """
    rows = units.detach().flatten(1).float()
    generator = torch.Generator("cpu").manual_seed(0)
    shape = (rows.shape[1] + 1, _PROJECTIONS)
    directions = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu").to(rows.device)
    seen = rows @ directions[1:]
    if bias is not None:
        seen += bias.detach().float()[:, None] * directions[0]
    seen = seen[seen[:, 0].argsort()]
    size = seen.norm(dim=1)
    same = (seen[1:] - seen[:-1]).norm(dim=1) <= _TOLERANCE * size[1:]
    same &= size[1:] > 0
    none = same.new_zeros(1)
    return (torch.cat([same, none]) | torch.cat([none, same])).float().mean()


class UnitWatch:
    """Searches every layer for units that are copies, at a few records, with one pass over the weights each.

    The units of a weight are its rows, with the bias; of a transposed kernel and of a layer that keeps its weight as
    inputs x outputs, its columns. Embeddings, whose rows are not units, and grouped kernels, whose rows have different
    inputs, are left out.
    """

    def __init__(self, model: nn.Module) -> None:
        self._views = dict(_views(model))
        self._looks: list[tuple[int, Mapping[str, Tensor | float]]] = []
        self._last: tuple[int, Mapping[str, Tensor | float]] | None = None

    def follow(self, model: nn.Module) -> None:
        """Watch the model's present layers."""
        self._views = dict(_views(model))

    def look(self, parameters: Mapping[str, Tensor], record: int, *, last: bool = False) -> None:
        """Search the weights after this record (-1: at the start); a last search replaces the one before."""
        look = record, {name: share_of_copies(*view(parameters)) for name, view in self._views.items()}
        if last:
            self._last = look
        else:
            self._looks = [each for each in self._looks if each[0] != record] + [look]

    def flush(self) -> None:
        """Copy the results to the host."""
        self._looks = [(record, {name: float(share) for name, share in found.items()}) for record, found in self._looks]

    def looks(self) -> dict[str, list[tuple[int, float]]]:
        """Return the share of copies at each search, by weight."""
        looks = self._looks + ([] if self._last is None else [self._last])
        return {
            name: [(record, float(found[name])) for record, found in looks if name in found] for name in self._views
        }

    def release(self) -> None:
        """Release every tensor."""
        self._looks, self._last = [], None


def _views(model: nn.Module) -> list[tuple[str, Units]]:
    found: list[tuple[str, Units]] = []
    known = {name for name, _ in model.named_parameters()}
    for prefix, module in model.named_modules():
        if isinstance(module, EMBEDDINGS) or getattr(module, "groups", 1) != 1:
            continue
        columns = isinstance(module, nn.modules.conv._ConvTransposeNd) or type(module).__name__ == "Conv1D"
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}" if prefix else name
            bias = full.removesuffix(name) + name.replace("weight", "bias")
            if full not in known or "weight" not in name or parameter.ndim < 2:
                continue
            found.append((full, _view(full, bias if bias in known else None, columns)))
    return found


def _view(weight: str, bias: str | None, columns: bool) -> Units:
    def units(parameters: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        rows = local(parameters[weight].detach())
        rows = rows.transpose(0, 1) if columns else rows
        extra = None if bias is None else local(parameters[bias].detach())
        return rows, None if extra is None or len(extra) != len(rows) else extra

    return units
