"""A model run or traced without side effects."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import nn

from steepest._random import seeded

__all__ = ["untouched"]


@contextlib.contextmanager
def untouched(model: nn.Module) -> Generator[None, None, None]:
    """Let a model run, and restore everything: buffers, attributes, modes, global random numbers.

    Inside, torch's global generators start from seed 0, so that a run with dropout always gives the same; gradients
    are off and warnings, which the user's own run will give, are not shown. What a forward does to Python objects
    that it holds (appending to a list, say) cannot be taken back.
    """
    # What TorchScript holds is not in Python's hands.
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    attributes = [dict(module.__dict__) for module in modules]
    registers: list[dict[str, Any]] = [
        held for module in modules for held in (module._parameters, module._buffers, module._modules)
    ]
    registered = [dict(held) for held in registers]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers() if not buffer.is_meta]
    first = next(model.parameters(), None)
    device = "cpu" if first is None else str(first.device)
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with seeded(0, device), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for held, before in zip(registers, registered, strict=True):
            held.clear()
            held.update(before)
        for module, attribute in zip(modules, attributes, strict=True):
            module.__dict__.clear()
            module.__dict__.update(attribute)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
