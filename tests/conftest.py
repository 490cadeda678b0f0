"""What all tests share: shape checks, one thread, one Hypothesis profile."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import beartype
import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch


def check_shapes(function: FunctionType) -> Callable[..., Any]:
    """Let beartype check the annotations that speak of shapes, and no others.

    The others are a static type checker's, and what steepest itself says about a wrong argument is to be tested too.
    """
    function.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if speaks_of_shape(hint)}
    return beartype.beartype(function)


def speaks_of_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(speaks_of_shape(part) for part in typing.get_args(hint))


# A module that is imported before the hook stands would be tested without its shape checks.
if early := [name for name in sys.modules if name.partition(".")[0] == "steepest"]:
    raise RuntimeError(f"the shape checks come too late for {early}")
# Only where an annotation can speak of a shape: elsewhere the hook would check nothing, in every call.
SOURCE = Path(importlib.util.find_spec("steepest").submodule_search_locations[0])
WITH_SHAPES = [
    ".".join(("steepest", *file.relative_to(SOURCE).with_suffix("").parts))
    for file in SOURCE.rglob("*.py")
    if "steepest._shapes" in file.read_text("utf-8")
]
jaxtyping.install_import_hook(WITH_SHAPES, f"sys.modules[{__name__!r}].{check_shapes.__name__}")

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start, while others run beside them
# Warnings are errors here; one that torch gives once a process would fail whichever test comes first.
torch.set_warn_always(True)

hypothesis.settings.register_profile("steepest", derandomize=True, deadline=None, max_examples=40)
hypothesis.settings.load_profile("steepest")


@contextmanager
def _global_random_numbers_untouched() -> Iterator[None]:
    # Not Python's own: beartype moves it, to pick the items of a list that it looks at.
    before = torch.get_rng_state(), np.random.get_state()
    yield
    assert torch.equal(before[0], torch.get_rng_state()), "torch's global generator has moved"
    assert str(before[1]) == str(np.random.get_state()), "numpy's global generator has moved"


@pytest.fixture
def rng_untouched() -> Callable[[], AbstractContextManager[None]]:
    """`with rng_untouched():` asserts that neither torch's nor numpy's global generator moves inside."""
    return _global_random_numbers_untouched
