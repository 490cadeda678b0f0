"""What functions and objects hold is followed, named, and the same in every process."""

import argparse
import collections
import dataclasses
import enum
import functools
import logging
import os
import subprocess
import sys
import threading
import types
from os import environ
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from steepest.compare._identity import values as _values
from steepest.compare._identity.identity import alike
from steepest.compare._identity.values import Values


def found(value, name="it"):
    values = Values({})
    values.follow(name, value)
    return values.found()


def same(a, b):
    a, b = found(a), found(b)
    return a.keys() == b.keys() and all(alike(a[name], b[name]) for name in a)


class Color(enum.Enum):
    RED, BLUE = 1, 2


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    lr: float = 0.1


class Plain:
    def __init__(self, **held):
        self.__dict__.update(held)

    def method(self):
        return self


@functools.cache
def cached(x):
    return x


def wrapped_by(weight):
    def inner(x):
        return weight * x

    return functools.cache(inner)


def keyword_only(*, weight):
    def inner(x, *, w=weight):
        return w * x

    return inner


def closure(weight):
    return lambda x: weight * x


class Holder:
    """One class each of what a class can hold."""

    def __new__(cls, weight):
        class Made:
            value = weight

            @staticmethod
            def static(x):
                return x * weight

        return Made


PAIRS = {
    "number": (1, 2),
    "float": (0.1, 0.2),
    "bool and int": (True, 1),
    "text": ("a", "b"),
    "bytes": (b"a", b"b"),
    "complex": (1j, 2j),
    "dtype": (torch.float32, torch.float64),
    "enum": (Color.RED, Color.BLUE),
    "path": (Path("/a/b/c"), Path("/a/b/d")),
    "numpy number": (np.float32(1), np.float32(2)),
    "numpy integer": (np.int64(1), np.int64(2)),
    "tensor": (torch.zeros(3), torch.ones(3)),
    "array": (np.zeros(3), np.ones(3)),
    "reversed array": (np.arange(3)[::-1], np.arange(3)),
    "array of texts": (np.array(["a"]), np.array(["b"])),
    "list": ([1, 2], [2, 1]),
    "nested": ({"a": [1, (2, {3})]}, {"a": [1, (2, {4})]}),
    "keys": ({"a": 1}, {"b": 1}),
    "set": ({1, 2}, {1, 3}),
    "deque": (collections.deque([1]), collections.deque([2])),
    "long list of numbers": ([0] * 1000, [0] * 500 + [1] + [0] * 499),
    "middle of a long list of texts": (["a"] * 1000, ["a"] * 500 + ["b"] + ["a"] * 499),
    "middle of a long list of pairs": ([["a", 1]] * 1000, [["a", 1]] * 500 + [["a", 2]] + [["a", 1]] * 499),
    "middle of a long set": ({*range(1000)}, {*range(1000)} - {500} | {1001}),
    "long dict's value": (dict.fromkeys(range(30_000), 0), dict.fromkeys(range(30_000), 0) | {15_000: 1}),
    "what stands beside a long dict": ([dict.fromkeys(range(30_000)), 1], [dict.fromkeys(range(30_000)), 2]),
    "long list's end": ([0.0] * 1000, [0.0] * 999 + [1.0]),
    "long list's length": (["a"] * 1000, ["a"] * 1001),
    "partial's argument": (functools.partial(cached, 1), functools.partial(cached, 2)),
    "partial's keyword": (functools.partial(cached, x=1), functools.partial(cached, x=2)),
    "partial's function": (functools.partial(sum, 1), functools.partial(max, 1)),
    "closure": (closure(1), closure(2)),
    "closure over a tensor": (closure(torch.zeros(2)), closure(torch.ones(2))),
    "keyword default": (keyword_only(weight=1), keyword_only(weight=2)),
    "cached function": (wrapped_by(1), wrapped_by(2)),
    "attribute": (Plain(a=1), Plain(a=2)),
    "slots": (Slots(0.1), Slots(0.2)),
    "method": (Plain(a=1).method, Plain(a=2).method),
    "module's weights": (nn.Linear(2, 2), nn.Linear(2, 2)),
    "one of many tensors": ([torch.zeros(2), torch.arange(2), 1], [torch.ones(2), torch.arange(2), 1]),
    "integers among tensors": ([torch.zeros(2), torch.arange(2)], [torch.zeros(2), torch.arange(2) + 1]),
    "tensors in another order": ([torch.zeros(2), torch.ones(2)], [torch.ones(2), torch.zeros(2)]),
    "module's setting": (nn.CrossEntropyLoss(label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.2)),
    "namespace": (argparse.Namespace(lr=1), argparse.Namespace(lr=2)),
    "simple namespace": (types.SimpleNamespace(lr=1), types.SimpleNamespace(lr=2)),
    "class attribute": (Holder(1), Holder(2)),
    "built-in function": (torch.add, torch.mul),
    "class": (nn.ReLU, nn.Tanh),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_another_value_is_told_from_the_same(pair):
    a, b = PAIRS[pair]
    assert same(a, a)
    assert not same(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Path("/home/me/data.pt"), Path("/elsewhere/data.pt")),
        ("/home/me/data.pt", "/elsewhere/data.pt"),
        (0.1, 0.1 * (1 + 1e-12)),
        (np.float64(0.1), np.float64(0.1 * (1 + 1e-12))),
        (torch.ones(5) / 3, torch.ones(5) / 3 * (1 + 1e-7)),
        (threading.Lock(), threading.Lock()),
        (iter([1]), iter([2])),
        (logging.getLogger("a"), logging.getLogger("b")),
        (nn.ReLU().train(), nn.ReLU().eval()),
        (torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)),
        (environ, environ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_decides_nothing_or_belongs_to_the_machine_is_the_same(a, b):
    assert same(a, b)


def test_the_environment_as_a_whole_is_not_followed(monkeypatch):
    before = found(closure(environ))
    monkeypatch.setitem(os.environ, "SOMETHING", "else")
    assert found(closure(environ)) == before


def test_a_value_is_named_for_where_it_is_held():
    weight = closure(0.5)
    assert "weight in a lambda of it" in found(weight)
    assert found(weight)["weight in a lambda of it"] == "0.5"
    assert found(Plain(rate=0.5))["it: rate"] == "0.5"
    assert found(keyword_only(weight=3))["w of function inner"] == "3"


scale = 1.0


def test_an_attribute_is_not_taken_for_the_global_of_its_name(monkeypatch):
    def reads_attribute(x):
        return x.scale

    def reads_global(x):
        return x * scale

    assert set(found(reads_global)) == {"scale"}
    assert set(found(reads_attribute)) == set()


def test_what_a_decorator_writes_follows_from_the_syntax_of_the_class(monkeypatch):
    values = Values({__file__: "here.py"})
    monkeypatch.setitem(sys.modules, __name__, types.ModuleType(__name__))
    sys.modules[__name__].__file__ = __file__
    values.follow("it", Slots(0.1))
    assert values.code == {}
    assert values.modules == {__name__}


def test_what_holds_itself_is_followed_once():
    ring = [1]
    ring.append(ring)
    held = Plain(ring=ring)
    held.me = held
    assert same(held, held)


def test_an_object_that_fails_when_it_is_looked_at_is_its_type():
    class Bad(dict):
        def items(self):
            raise RuntimeError("no")

    assert same(Bad(a=1), Bad(a=2))


def test_it_ends_however_much_there_is(monkeypatch):
    monkeypatch.setattr(_values, "_MOST", 100)
    deep = []
    for _ in range(500):
        deep = [deep]
    found(deep)
    wide = [[i] for i in range(300)]
    assert same([*wide, 1], [*wide, 2])
    assert not same([1, *wide], [2, *wide])


def test_packages_and_own_modules_that_are_met_are_listed():
    values = Values({})
    values.follow("it", functools.partial(closure(np.linspace), nn.functional.mse_loss))
    assert {"numpy", "torch"} <= values.packages
    assert __name__ in values.modules


CODE = """
import functools, json
from torch import nn
from steepest.compare._identity.values import Values

class A: pass
NAMES = {'a', 'b', 'c', 'd', A}
def loss(x): return x in {'e', 'f', 'g'} or x in NAMES

values = Values({})
values.follow('it', functools.partial(loss, {'h', 'i', 'j'}))
found = json.dumps([values.code, values.found()])
"""


def test_the_same_is_found_in_every_process():
    variables = {"__name__": "__main__"}
    exec(CODE, variables)
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", CODE + "print(found)"]
    there = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert there.stdout.strip() == variables["found"] != ""
