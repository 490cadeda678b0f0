"""A weight given through its parametrization (torch.nn.utils.parametrize)."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

__all__ = ["assign", "value_of"]


def value_of(parametrizations: ParametrizationList) -> Tensor:
    """Return the weight, without what reading it does in training, as the power iteration of a spectral norm."""
    with _in_eval_mode(parametrizations):
        return parametrizations()


def assign(parametrizations: ParametrizationList, weight: Tensor) -> bool:
    """Set the parameters so that they give a weight, or what comes nearest to it; return whether that was possible.

    It is not for a parametrization without an inverse, or one that gives nan for this weight: the parameters then stay
    as they were. They keep their memory in any case.
    """
    originals = list(parametrizations.parameters(recurse=False))
    memories = [original.detach() for original in originals]
    before = [original.detach().clone() for original in originals]
    try:
        parametrizations.right_inverse(weight)
        wanted = [original.detach().clone() for original in originals]
        fits = bool(torch.isfinite(value_of(parametrizations)).all())
    except Exception:  # a parametrization of the user's own may fail in any way
        wanted, fits = before, False
    for original, memory, values in zip(originals, memories, wanted if fits else before, strict=True):
        original.set_(memory)  # pyright: ignore[reportArgumentType]
        original.copy_(values)
    return fits


@contextlib.contextmanager
def _in_eval_mode(module: nn.Module) -> Generator[None, None, None]:
    modes = [(each, each.training) for each in module.modules()]
    for each, _ in modes:
        each.training = False
    try:
        yield
    finally:
        for each, training in modes:
            each.training = training
