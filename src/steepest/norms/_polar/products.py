"""Matrix products in the precision that a device computes fastest, and cheaper where the result is symmetric."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from steepest._shapes import Float
from steepest.errors import InvalidArgument

__all__ = ["ProductSpeed", "product_speed", "symmetric_product"]

# The largest panel, and the least side at which panels save more than they cost; measured on AVX-512 processors.
_PANEL = 128
_PANELED = 384


@dataclass(frozen=True)
class ProductSpeed:
    """How a device multiplies matrices, as measured.

    Attributes:
        device: The device, as torch names it.
        bfloat16_time: The time of a product in bfloat16, relative to that in float32.
        float32_error: The relative error of a product in float32: about 1e-7, or 1e-3 where TensorFloat-32 is on.
    """

    device: str
    bfloat16_time: float
    float32_error: float

    @property
    def prefers_bfloat16(self) -> bool:
        """Whether bfloat16 is clearly faster."""
        return self.bfloat16_time < 0.8

    @property
    def float32_is_single(self) -> bool:
        """Whether float32 products have the precision of float32."""
        return self.float32_error < 1e-5


def product_speed(device: torch.device | str = "cpu") -> ProductSpeed:
    """Measure how a device multiplies; a few milliseconds once per process, device and precision setting.

    Raises:
        InvalidArgument: If device is no device of torch's that holds data.

    >>> product_speed("cpu").float32_is_single
    True
    """
    try:
        known = torch.device(device)
    except Exception:  # of several types, by what it is given
        known = None
    if known is None or known.type == "meta":
        raise InvalidArgument("device must be one of torch's", got=device, remedy='Try "cpu".')
    return _measure(str(known), torch.get_float32_matmul_precision())


@functools.cache
def _measure(device: str, precision: str) -> ProductSpeed:  # noqa: ARG001 - a part of the key
    x = torch.arange(512.0 * 512, dtype=torch.float64).square().sin().view(512, 512)  # as good as random
    single = x.to(device, torch.float32)
    exact = x @ x
    error = torch.linalg.matrix_norm((single @ single).cpu().double() - exact) / torch.linalg.matrix_norm(exact)
    # Alternating, the minimum of several: other load on the machine only adds time.
    times = [(_time(single), _time(single.bfloat16())) for _ in range(5)]
    in_single, in_half = (min(column) for column in zip(*times, strict=True))
    return ProductSpeed(device, in_half / in_single, float(error))


def _time(x: Tensor) -> float:
    synchronize = torch.cuda.synchronize if x.is_cuda else lambda: None
    y = x @ x  # not timed: what the first product sets up
    synchronize()
    clock = time.perf_counter if x.is_cuda else time.process_time  # what else runs on the processor does not count
    start = clock()
    for _ in range(2):
        torch.mm(x, x, out=y)
    synchronize()
    return clock() - start


def symmetric_product(
    a: Float[Tensor, "*stack m k"],
    b: Float[Tensor, "*stack k m"],
    c: Float[Tensor, "*stack m m"] | None = None,
    beta: float = 1.0,
    alpha: float = 1.0,
) -> Float[Tensor, "*stack m m"]:
    """Return beta c + alpha a b, known to be symmetric; a large single one on a CPU costs 5/8 of a full product.

    Args:
        a: The left factor, or a stack of them with one leading dimension.
        b: The right factor.
        c: What is added.
        beta: The factor of c.
        alpha: The factor of the product.
    """
    m = a.shape[-2]
    if a.device.type != "cpu" or a.shape[0] > 1 or m < _PANELED:
        return torch.bmm(a, b).mul_(alpha) if c is None else torch.baddbmm(c, a, b, beta=beta, alpha=alpha)
    a, b, out = a[0], b[0], a.new_empty(m, m)
    for start in range(0, m, _PANEL):
        rows = slice(start, start + _PANEL)
        upper = out[rows, start:]
        if c is None:
            torch.mm(a[rows], b[:, start:], out=upper)
        else:
            torch.addmm(c[0, rows, start:], a[rows], b[:, start:], beta=beta, alpha=alpha, out=upper)
        if start:
            out[rows, :start] = out[:start, rows].mT
    return (out if c is not None or alpha == 1 else out.mul_(alpha)).unsqueeze(0)
