"""Values that no caller means, by the words in which a failing test shows them."""

from __future__ import annotations

import decimal
import fractions
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["VALUES", "CallbackError", "HostileError"]


class HostileError(Exception):
    """What an object's own special method raises: nothing that a call may let through."""


class CallbackError(Exception):
    """What a caller's own function raises: that comes through to the caller."""


def _raising(*methods: str) -> Any:
    """An object whose special methods raise."""

    def fail(*_: object) -> Any:
        raise HostileError(methods[0])

    return type(f"Raising{methods[0].strip('_').title()}", (), dict.fromkeys(methods, fail))()


def _raise(*_: object, **__: object) -> Any:
    raise CallbackError("from the caller's own function")


def _gaussian(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# Each is made anew for each call: a call may change it or use it up.
VALUES: dict[str, Callable[[], Any]] = {
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "0": lambda: 0,
    "-0.0": lambda: -0.0,
    "1": lambda: 1,
    "-1": lambda: -1,
    "0.5": lambda: 0.5,
    "-0.5": lambda: -0.5,
    "2.5": lambda: 2.5,
    "1e-300": lambda: 1e-300,
    "1e300": lambda: 1e300,
    "10**30": lambda: 10**30,
    "-(10**30)": lambda: -(10**30),
    "10**400": lambda: 10**400,
    "1j": lambda: 1j,
    "True": lambda: True,
    "False": lambda: False,
    "None": lambda: None,
    "Fraction": lambda: fractions.Fraction(1, 3),
    "Decimal": lambda: decimal.Decimal("1.5"),
    "numpy nan": lambda: np.float64("nan"),
    "numpy int": lambda: np.int64(3),
    "numpy bool": lambda: np.True_,
    "''": lambda: "",
    "'x'": lambda: "x",
    "'0'": lambda: "0",
    "'<b>{x}\\n'": lambda: "<b>{x}\n",
    "a lone surrogate": lambda: "\ud800",
    "a zero byte": lambda: "\0",
    "a long text": lambda: "x" * 10_000,
    "b'x'": lambda: b"x",
    "[]": list,
    "()": tuple,
    "{}": dict,
    "set()": set,
    "[1.0, 2.0]": lambda: [1.0, 2.0],
    "[nan]": lambda: [float("nan")],
    "[None]": lambda: [None],
    "['x']": lambda: ["x"],
    "('x', 'x')": lambda: ("x", "x"),
    "[-1]": lambda: [-1],
    "[[1], [2, 3]]": lambda: [[1], [2, 3]],
    "[[[]]]": lambda: [[[]]],
    "{'x': None}": lambda: {"x": None},
    "{'x': [1.0]}": lambda: {"x": [1.0]},
    "{'x': tensor}": lambda: {"x": _gaussian(4, 3)},
    "{1: 2}": lambda: {1: 2},
    "range(3)": lambda: range(3),
    "an iterator": lambda: iter([1.0, 2.0]),
    "slice(None)": lambda: slice(None),
    "object()": object,
    "raises in repr": lambda: _raising("__repr__", "__str__"),
    "raises in array": lambda: _raising("__array__", "__float__", "__index__"),
    "raises in len": lambda: _raising("__len__", "__iter__", "__getitem__"),
    "raises in eq": lambda: _raising("__eq__", "__bool__", "__lt__", "__gt__", "__le__", "__ge__"),
    "raises in getattr": lambda: _raising("__getattr__"),
    "int": lambda: int,
    "a function": lambda: lambda *_args, **_options: None,
    "a function without arguments": lambda: lambda: 0.1,
    "a function to nan": lambda: lambda *_args, **_options: float("nan"),
    "a function to text": lambda: lambda *_args, **_options: "x",
    "a function that raises": lambda: _raise,
    "a path": lambda: pathlib.Path("nowhere/x"),
    "numpy vector": lambda: np.array([1.0, -2.0, 3.0]),
    "numpy objects": lambda: np.array([None, "x", 1], dtype=object),
    "numpy text": lambda: np.array(["a", "b"]),
    "numpy complex": lambda: np.array([1j, 2.0]),
    "numpy empty": lambda: np.zeros((0, 3)),
    "numpy matrix": lambda: np.ones((4, 3)),
    "tensor": lambda: _gaussian(4, 3),
    "vector": lambda: _gaussian(3),
    "long vector": lambda: _gaussian(97),
    "5-d tensor": lambda: _gaussian(2, 1, 2, 1, 2),
    "0-d tensor": lambda: torch.tensor(0.1),
    "0-d nan": lambda: torch.tensor(float("nan")),
    "float64 tensor": lambda: _gaussian(4, 3).double(),
    "float16 tensor": lambda: _gaussian(4, 3).half(),
    "bfloat16 tensor": lambda: _gaussian(4, 3).bfloat16(),
    "integer tensor": lambda: torch.arange(12).view(4, 3),
    "integer vector": lambda: torch.tensor([3, -1, 2]),
    "boolean tensor": lambda: torch.ones(4, 3, dtype=torch.bool),
    "complex tensor": lambda: torch.ones(4, 3, dtype=torch.complex64),
    "sparse tensor": lambda: _gaussian(4, 3).to_sparse(),
    "meta tensor": lambda: torch.ones(4, 3, device="meta"),
    "empty tensor": lambda: torch.zeros(0, 3),
    "empty vector": lambda: torch.zeros(0),
    "nan tensor": lambda: torch.full((4, 3), float("nan")),
    "inf tensor": lambda: torch.full((4, 3), float("inf")),
    "zero tensor": lambda: torch.zeros(4, 3),
    "huge tensor": lambda: torch.full((4, 3), 3e38),
    "strided tensor": lambda: _gaussian(3, 4).t(),
    "expanded tensor": lambda: _gaussian(1, 3).expand(4, 3),
    "tensor with gradient": lambda: _gaussian(4, 3).requires_grad_().mul(1),
    "parameter": lambda: nn.Parameter(_gaussian(4, 3)),
    "generator": lambda: torch.Generator().manual_seed(0),
    "dtype": lambda: torch.float64,
    "integer dtype": lambda: torch.int32,
    "device": lambda: torch.device("cpu"),
    "module": lambda: nn.Linear(3, 2),
    "lazy module": lambda: nn.LazyLinear(2),
    "empty module": lambda: nn.Sequential(),
    "module class": lambda: nn.Linear,
    "optimizer": lambda: torch.optim.SGD([nn.Parameter(torch.ones(3))], 0.1),
}
"""Name -> a function that makes it."""
