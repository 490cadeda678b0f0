"""Which batches are compared with plain autograd, and what happens where one that was not is wrong."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from tests.linearize.dense import dense, random, relative
from tests.linearize.zoo import Net, mlp, parameter
from torch import nn
from torch.nn import functional as F

from steepest.linearize import Linearization
from steepest.linearize._jacobian import chunks as _jacobian
from steepest.linearize._jacobian.sampling import Sampling
from steepest.linearize._trace.program import Program


@pytest.fixture
def compared(monkeypatch):
    """How many examples each batch had that was compared."""
    sizes = []

    def probe(network, inputs, *rest):
        sizes.append(len(inputs[0]))
        return true(network, inputs, *rest)

    true = _jacobian.probe
    monkeypatch.setattr(_jacobian, "probe", probe)
    return sizes


def times_compared(compared, lin, batches):
    compared.clear()
    for x in batches:
        lin.features(x)
    return len(compared)


def fresh(count, n=5):
    return [random(n, 3, seed=seed) for seed in range(count)]


def test_the_first_two_of_a_kind_are_compared_and_then_one_in_eight(compared):
    lin = Linearization(mlp(nn.Tanh).double(), random(4, 3))
    assert times_compared(compared, lin, fresh(2)) == 2
    for _ in range(4):
        assert times_compared(compared, lin, fresh(8)) == 1


def test_no_loop_over_batches_hides_one_of_them_for_ever():
    sampling = Sampling()
    due = [place for place in range(2 + 64 * 12) if sampling.is_due("kind")]
    assert due[:2] == [0, 1]
    for period in range(1, 13):
        assert {place % period for place in due} == set(range(period)), period
    assert max(later - one for one, later in itertools.pairwise(due)) < 16


def test_own_examples_are_all_compared_once(compared):
    lin = Linearization(mlp(nn.Tanh).double(), random(90, 3), max_bytes=200_000)
    assert compared == [16]
    for expected in (90, 0):
        compared.clear()
        lin.rmatvec(random(180))
        assert sum(compared) == expected


def test_without_the_check_nothing_is_compared(compared):
    lin = Linearization(mlp(nn.Tanh).double(), random(4, 3), check=False)
    assert times_compared(compared, lin, fresh(20)) == 0


def test_another_number_of_examples_another_precision_and_another_program_are_another_kind(compared):
    class Scheduled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.on = nn.Linear(3, 2), False

        def forward(self, x):
            h = self.a(x.double())
            return h.tanh() if self.on else h

    lin = Linearization(Scheduled().double(), random(4, 3))
    assert times_compared(compared, lin, fresh(2)) == 2
    assert times_compared(compared, lin, fresh(1)) == 0
    assert times_compared(compared, lin, fresh(2, n=6)) == 2
    assert times_compared(compared, lin, [x.float() for x in fresh(2)]) == 2
    lin._jacobian.network.model.on = True
    assert times_compared(compared, lin, fresh(2)) == 2
    assert times_compared(compared, lin, fresh(1)) == 0


@pytest.mark.parametrize("of", ["parameter", "buffer"])
def test_a_model_that_was_written_into_is_another_kind(compared, of):
    model = mlp(nn.Tanh).double()
    model.register_buffer("scale", torch.ones(2, dtype=torch.float64))
    lin = Linearization(model, random(4, 3))
    times_compared(compared, lin, fresh(3))
    written = lin._jacobian.network.model.scale if of == "buffer" else lin.parameters()["0.weight"]
    written.mul_(1.5)
    assert times_compared(compared, lin, fresh(2)) == 2


def order_of(s, x):
    order = x[:, 0].argsort()
    return torch.zeros_like(x).index_copy(0, order, s.a(x[order]).tanh())


def experts(s, x):
    out = s.a(x)
    out[x[:, 0] > 0] = x[:, :3][x[:, 0] > 0] * s.g
    return out


DECIDED_BY_VALUES = {
    "a branch": lambda s, x: s.a(x).tanh() if x.sum() > -100 else s.a(x),
    "a number": lambda s, x: s.a(x) * x.amax(0, keepdim=True).sum().item(),
    "a list": lambda s, x: s.a(x) + torch.tensor(x.tolist(), dtype=x.dtype),
    "an order": order_of,
    "a mask": experts,
    "a place": lambda s, x: s.a(x).gather(1, (x > 0).long()),
    "a list of places": lambda s, x: s.a(x)[:, [2, 0, 1]],
    "a comparison": lambda s, x: s.a(x) if torch.equal(x, x) else x * s.g,
    "a mean over the batch": lambda s, x: s.a(x) + 0 * x.mean(0),
    "the first example": lambda s, x: s.a(x) + 0 * x[0],
    "a norm by name": lambda s, x: s.a(x) / torch.linalg.vector_norm(x=x).clamp(min=1e3),
    "examples one by one": lambda s, x: torch.stack([s.a(row) for row in x]),
}


@pytest.mark.parametrize("name", DECIDED_BY_VALUES)
def test_batches_are_all_compared_where_values_decide_what_is_done(compared, name):
    model = Net(DECIDED_BY_VALUES[name], a=nn.Linear(3, 3), g=parameter(3)).double()
    lin = Linearization(model, random(4, 3))
    assert times_compared(compared, lin, fresh(12)) == 12


ORDINARY = {
    "perceptron": lambda: mlp(nn.ReLU),
    "a part of the features": lambda: Net(lambda s, x: s.a(x)[:, 1:] * x[:, :1], a=nn.Linear(3, 3)),
    "shapes in Python": lambda: Net(lambda s, x: s.a(x.reshape(x.size(0), -1)) / len(x.stride()), a=nn.Linear(3, 3)),
    "normalized": lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
    "a norm of an example": lambda: Net(lambda s, x: s.a(x / x.norm(dim=1, keepdim=True)), a=nn.Linear(3, 3)),
    "a norm of a weight": lambda: Net(lambda s, x: F.linear(x, s.w / s.w.norm()), w=parameter(5, 3)),
    "attention": lambda: Net(
        lambda s, x: s.e(x[:, :, None].expand(-1, -1, 4)).mean(1), e=nn.TransformerEncoderLayer(4, 2, 6, 0.0)
    ),
    "one place after another": lambda: Net(lambda s, x: s.a(torch.stack(x.unbind(1), 1)), a=nn.Linear(3, 3)),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_what_does_not_depend_on_values_is_sampled(compared, name):
    lin = Linearization(ORDINARY[name]().double(), random(4, 3))
    assert times_compared(compared, lin, fresh(12)) in (3, 4)


def test_a_program_is_the_functions_their_shapes_and_their_plain_arguments():
    def kind(*calls):
        program = Program(4)
        for function, args, kwargs, result in calls:
            program.calls(function, args, kwargs, result)
        return program.kind

    x = torch.ones(4, 3)
    rolled = kind((torch.roll, (x, 1, 1), {}, x))
    assert rolled == kind((torch.roll, (x + 1, 1, 1), {}, x * 2))
    assert rolled != kind((torch.roll, (x, 2, 1), {}, x))
    assert rolled != kind((torch.roll, (x, 1), {"dims": 0}, x))
    assert rolled != kind((torch.flip, (x, 1, 1), {}, x))
    assert rolled != kind((torch.roll, (x, 1, 1), {}, x.double()))
    assert rolled != kind((torch.roll, (x, 1, 1), {}, x[:, :2]))
    assert rolled != kind((torch.roll, (x, 1, 1), {}, x), (torch.tanh, (x,), {}, x))
    assert kind((torch.roll, (x, 1, 1), {}, x), (torch.Tensor.item, (x,), {}, 1.0)) is None


def coupled_where_large(s, x):
    """Sums over the examples so far are cut off below 10, by arithmetic that looks the same for all batches."""
    h = s.a(x)
    return s.b(h + (h.cumsum(0) - 10).relu())


def wrong(lin, model, batches):
    return [relative(lin.features(x), dense(model, (x,))) > 1e-10 for x in batches]


def test_where_a_batch_was_wrong_that_is_said_and_all_are_compared_from_then_on(compared):
    model = Net(coupled_where_large, a=nn.Linear(3, 3), b=nn.Linear(3, 2)).double()
    lin = Linearization(model, random(5, 3))
    large = [100 * x for x in fresh(16)]
    assert not any(wrong(lin, model, fresh(4)))
    with pytest.warns(UserWarning, match="were not compared with plain autograd and may be wrong") as told:
        found = wrong(lin, model, large)
    (count,) = re.findall(r"up to (\d) batches before", str(told[0].message))
    assert len(told) == 1
    assert 0 < sum(found) <= int(count)
    assert not any(found[8:])
    assert times_compared(compared, lin, fresh(12)) == 12


def test_a_batch_that_is_wrong_among_the_first_is_mended_without_a_word(compared):
    model = Net(coupled_where_large, a=nn.Linear(3, 3), b=nn.Linear(3, 2)).double()
    lin = Linearization(model, random(5, 3))
    assert not any(wrong(lin, model, [100 * x for x in fresh(12)]))
    assert times_compared(compared, lin, fresh(12)) == 12


def test_what_must_be_right_is_linearized_itself():
    """Own examples are compared whatever others were."""
    model = Net(coupled_where_large, a=nn.Linear(3, 3), b=nn.Linear(3, 2)).double()
    for x in fresh(4):
        assert relative(Linearization(model, 100 * x).features(), dense(model, (100 * x,))) < 1e-10


def test_kinds_beyond_what_is_remembered_begin_anew():
    sampling = Sampling()
    for number in range(1100):
        assert sampling.is_due(number)
        assert sampling.is_due(number)
    assert not sampling.is_due(1099)
    assert sampling.is_due(0)
