"""Shapes in annotations: that the tests really check them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing

import pytest
import torch
from jaxtyping import TypeCheckError

import steepest.norms
from steepest.norms import (
    Ellipsoid,
    LInf,
    polar_factor,
)

MODULES = [
    module.name for module in pkgutil.walk_packages(steepest.norms.__path__, "steepest.norms.") if not module.ispkg
]


@pytest.mark.parametrize(
    "call",
    [
        lambda: polar_factor(torch.ones(3, 3, dtype=torch.int64)),
        lambda: Ellipsoid(torch.ones(3)).dual_norm(torch.ones(3, dtype=torch.int64)),
        lambda: LInf().duality_map(torch.ones(3, dtype=torch.bool)),
    ],
    ids=["polar", "ellipsoid", "booleans"],
)
def test_a_tensor_that_is_not_of_floats_is_refused_while_testing(call):
    with pytest.raises(TypeCheckError, match="parameters"):
        call()


def test_a_result_of_the_wrong_shape_is_refused_while_testing():
    class Stretched(LInf):
        def dual_norm(self, g):
            return g.abs()

    with pytest.raises(TypeCheckError, match=r"return value of steepest\.norms\._scaled"):
        steepest.norms.Scaled(Stretched(), by=2.0).dual_norm(torch.ones(3))


@pytest.mark.parametrize("module", MODULES)
def test_every_annotation_can_be_evaluated_so_that_none_is_skipped_in_silence(module):
    members = vars(importlib.import_module(module)).values()
    functions = [f for owner in members if inspect.isclass(owner) for f in vars(owner).values()] + list(members)
    evaluated = 0
    for function in functions:
        function = inspect.unwrap(function) if callable(function) else function
        if inspect.isfunction(function) and function.__module__ == module:
            evaluated += bool(typing.get_type_hints(function, include_extras=True))
    assert evaluated > 0
