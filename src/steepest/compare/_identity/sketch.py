"""Random projections of a tensor: a few numbers, nearly equal for nearly equal tensors."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from steepest.compare._identity.identity import DIGEST

__all__ = ["sketch"]

_PROJECTIONS = 3
_WIDTH = 4096  # of the rows into which a tensor is cut
_ROWS = 1024  # per chunk: 32 MB in float64
_WHOLE_BYTES = 2**30
_SAMPLED_ROWS = 4096  # of larger tensors, spread from the first to the last
_TOLERANCE = 1e-6


def sketch(tensor: Tensor) -> list[Any]:
    """Return [text, tolerance, number, ...] for a tensor, as an `Identity` holds it.

    The text holds type, shape and, for integers, a digest of the content. For floating-point x the numbers are
    <r_k, x> with fixed r_k, products of numbers that are uniform in [-1, 1]; entries that are not finite count as 0
    and are part of the text. A digest of x would not do, as computed data differ in the last bits between machines:
    relative errors of 1e-7 change the numbers by 1e-7 |x|. The tolerance is 1e-6 |x| (for float16 and bfloat16,
    whose rounding is coarser, their own precision times |x|), so that one entry in a million that changes by its own
    size is detected.

    Above 1 GiB, 4096 rows of 4096 entries are examined.

    >>> sketch(torch.zeros(2, 3))
    ['float32 (2, 3)', 0.0, 0.0, 0.0, 0.0]
    """
    text = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
    if tensor.layout != torch.strided:
        tensor = tensor.detach().to_dense()
    if tensor.device.type == "meta":
        return [text, 0.0]
    flat = tensor.detach().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    if flat.numel() * flat.element_size() > _WHOLE_BYTES:
        rows = flat[: flat.numel() // _WIDTH * _WIDTH].view(-1, _WIDTH)
        flat = rows[torch.linspace(0, len(rows) - 1, _SAMPLED_ROWS).long()].reshape(-1)
    if not flat.is_floating_point():
        return [f"{text} {_digest(flat)}", 0.0]
    finite = flat.isfinite()
    if not bool(finite.all()):
        text = f"{text} {_digest(torch.where(finite, 0, flat))}"
        flat = torch.where(finite, flat, 0)
    norm, numbers = _project(flat)
    within = max(_TOLERANCE, torch.finfo(flat.dtype).eps) * norm
    return [text, *(float(f"{number:.9g}") for number in (within, *numbers))]


def _project(flat: Tensor) -> tuple[float, list[float]]:
    """Return |x| and the projections of a vector, in float64."""
    columns = _uniform(_WIDTH, 0)
    square, numbers = 0.0, torch.zeros(_PROJECTIONS, dtype=torch.float64)
    for i, part in enumerate(flat.split(_WIDTH * _ROWS)):
        x = part.cpu().double()
        square += float(x @ x)
        x = torch.nn.functional.pad(x, (0, -len(x) % _WIDTH)).view(-1, _WIDTH)
        numbers += ((x @ columns) * _uniform(len(x), i + 1)).sum(0)
    return square**0.5, numbers.tolist()


def _uniform(size: int, seed: int) -> Tensor:
    return torch.rand(size, _PROJECTIONS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


def _digest(flat: Tensor) -> str:
    content = flat.cpu().contiguous().view(torch.uint8).numpy().data
    return DIGEST + hashlib.sha256(content).hexdigest()[:16]
