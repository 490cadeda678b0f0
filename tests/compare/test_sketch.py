import math

import pytest
import torch

from steepest.compare._identity import sketch as _sketch
from steepest.compare._identity.identity import Identity
from steepest.compare._identity.sketch import sketch


def alike(a, b):
    """Whether two sketches are the same to an identity."""
    return one(a).matches(one(b))


def one(tensor):
    return Identity(request={}, content={"examples": {"x": sketch(tensor)}}, versions={})


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_same_tensor_is_alike_and_another_is_not(dtype):
    x = draw(300, 40, dtype=dtype)
    assert alike(x, x.clone())
    assert not alike(x, draw(300, 40, seed=1, dtype=dtype))
    assert not alike(x, x.T)
    assert not alike(x, 1.1 * x)
    assert not alike(x, x.flip(0))


def test_the_last_bits_are_alike():
    x = draw(1000, 50)
    assert alike(x, x * (1 + 1e-7 * draw(1000, 50, seed=1)))
    assert alike(x, x.double().mul(1 + 1e-7).float())


@pytest.mark.parametrize("index", [0, 1, 4095, 4096, 77_777, 99_999])
def test_one_changed_entry_of_a_hundred_thousand_is_seen(index):
    x = draw(100_000)
    changed = x.clone()
    changed[index] += 1
    assert not alike(x, changed)


@pytest.mark.parametrize(("i", "j"), [(0, 1), (0, 4096), (3, 5000), (20_000, 20_001)])
def test_two_exchanged_entries_are_seen(i, j):
    x = draw(30_000)
    changed = x.clone()
    changed[[i, j]] = x[[j, i]]
    assert not alike(x, changed)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool], ids=str)
def test_of_integers_every_entry_counts(dtype):
    x = (torch.arange(5000) % 2).to(dtype)
    changed = x.clone()
    changed[4321] = 1 - changed[4321].int()
    assert alike(x, x.clone())
    assert not alike(x, changed)


def test_type_and_shape_count():
    x = torch.zeros(6)
    assert not alike(x, x.double())
    assert not alike(x, x.view(2, 3))
    assert not alike(x.int(), x.long())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_counts_by_its_place_and_kind(value):
    x = draw(100)
    x[7] = value
    other, elsewhere = x.clone(), draw(100)
    other[8] = 5.0
    elsewhere[9] = value
    assert alike(x, x.clone())
    assert not alike(x, other)
    assert not alike(x, elsewhere)
    assert not alike(x, draw(100))
    assert not alike(x, torch.where(x.isfinite(), x, 123.0))
    if value == math.inf:
        assert not alike(x, torch.where(x.isfinite(), x, -math.inf))


def test_complex_sparse_empty_and_strided_tensors():
    z = torch.complex(draw(50), draw(50, seed=1))
    assert alike(z, z.clone())
    assert not alike(z, z.conj().resolve_conj())
    sparse = torch.eye(5).to_sparse()
    assert alike(sparse, sparse.clone())
    assert not alike(sparse, (2 * torch.eye(5)).to_sparse())
    assert alike(torch.zeros(0, 4), torch.zeros(0, 4))
    x = draw(20, 30)
    assert alike(x[:, ::2], x[:, ::2].contiguous())
    assert sketch(torch.zeros(3, device="meta")) == ["float32 (3,)", 0.0]


def test_a_tensor_that_needs_a_gradient_is_looked_at_and_left_alone():
    x = draw(10).requires_grad_()
    assert alike(x, x.detach())
    assert x.grad is None


def test_of_a_very_large_tensor_rows_from_the_first_to_the_last_are_looked_at(monkeypatch):
    monkeypatch.setattr(_sketch, "_WHOLE_BYTES", 4 * 4096 * 50)
    monkeypatch.setattr(_sketch, "_SAMPLED_ROWS", 40)
    x = torch.zeros(51 * 4096)
    first, last, between = x.clone(), x.clone(), x.clone()
    first[0], last[-1], between[4096 * 25 : 4096 * 28] = 1, 1, 1
    for changed in (first, last, between):
        assert not alike(x, changed)


def test_numbers_do_not_depend_on_the_callers_random_state():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    numbers = sketch(draw(100))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert sketch(draw(100)) == numbers
