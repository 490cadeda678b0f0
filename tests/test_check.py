from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from steepest import _check as check
from steepest.errors import InvalidArgument

# For each function: what it accepts, with what it returns, and what it refuses.
ACCEPTED = [
    (check.at_least, (1,), 1, 1),
    (check.at_least, (0,), np.int64(3), 3),
    (check.in_range, ("[0, 1)",), 0, 0.0),
    (check.in_range, ("(0, inf]",), float("inf"), float("inf")),
    (check.in_range, ("(0, inf)",), np.float32(0.5), 0.5),
    (check.in_range, ("[0, 1]",), Fraction(1, 4), 0.25),
    (check.finite, (), -3, -3.0),
    (check.one_of, (("a", "b", None),), "b", "b"),
    (check.one_of, (("a", None),), None, None),
    (check.boolean, (), False, False),
]
NUMBERLESS = [None, "1", b"1", [1], 1j, True, torch.tensor(1.0), np.array([1.0]), Decimal("nan"), object()]
REFUSED = [
    *((check.at_least, (1,), value) for value in (0, 2.0, 2.5, float("nan"), *NUMBERLESS)),
    *((check.in_range, ("[0, 1)",), value) for value in (1, -1e-9, float("nan"), 10**400, *NUMBERLESS)),
    *((check.in_range, ("(0, inf)",), value) for value in (0, float("inf"))),
    *((check.finite, (), value) for value in (float("inf"), float("nan"), *NUMBERLESS)),
    *((check.one_of, (("a", "b", 1),), value) for value in ("c", None, True, 1.0, ["a"], np.array(["a", "b"]))),
    *((check.boolean, (), value) for value in (0, 1, None, "True", np.bool_(True))),
    *((check.function, (), value) for value in (None, 3, "f")),
    *((check.generator, (), value) for value in (None, 0, np.random.default_rng(0))),
    *((check.floating, (), value) for value in (None, 1.0, [1.0], np.ones(2))),
    *((check.floating, (), torch.ones(2, dtype=dtype)) for dtype in (torch.int64, torch.bool, torch.complex64)),
    (check.floating, (), torch.ones(2).to(torch.float8_e4m3fn)),
    (check.floating, (), torch.eye(2).to_sparse()),
    (check.floating, (), torch.ones(2, device="meta")),
]


@pytest.mark.parametrize(("function", "rule", "value", "returned"), ACCEPTED)
def test_a_value_of_the_rule_is_returned_as_a_plain_one(function, rule, value, returned):
    found = function("name", value, *rule)
    assert found == returned
    assert type(found) is type(returned)


@pytest.mark.parametrize(("function", "rule", "value"), REFUSED)
def test_any_other_value_is_refused_in_one_grammar(function, rule, value):
    with pytest.raises(InvalidArgument, match=r"^name must be .+ \(got .+\)\. .+[.?]$"):
        function("name", value, *rule)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_dense_tensor_of_any_floating_dtype_passes_as_the_same_object(dtype):
    value = torch.ones(2, dtype=dtype)
    assert check.floating("x", value) is value


def test_a_choice_that_is_nearly_one_is_suggested():
    with pytest.raises(InvalidArgument, match=r"Did you mean penalized\?"):
        check.one_of("mode", "penalised", ("penalized", "constrained"))
