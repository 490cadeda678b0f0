"""Steepest descent in the largest-entry norm."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from steepest.norms import LInf
from steepest.optim._options import Mode
from steepest.optim._steepest_descent import SteepestDescent

__all__ = ["SignDescent"]


class SignDescent(SteepestDescent):
    """`SteepestDescent` in the L-infinity norm: each entry moves by the same length.

    penalized: u = -lr ||g||_1 sign(g); constrained: u = -lr sign(g), which with momentum is Signum. This optimizer
    trains models; the rule whose limit is known by theory is `steepest.implicit_bias.SignDescent`.

    Args:
        params: Parameters, named parameters or group dicts.
        lr: Learning rate (penalized) or length of every entry's step (constrained).
        mode: "penalized" or "constrained".
        **options: The other options of `SteepestDescent`.

    Raises:
        InvalidArgument: As `SteepestDescent`.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, -4.0])
    >>> SignDescent([w], lr=0.1).step()
    >>> w.data
    tensor([-0.7000,  0.7000])

    Source: Bernstein et al., "signSGD" (2018), arXiv:1802.04434.
    """

    def __init__(self, params: ParamsT, lr: float | Tensor, mode: Mode = "penalized", **options: Any) -> None:
        super().__init__(params, LInf(), lr, mode=mode, **options)
