"""Examples whose outputs or gradients depend on the others of their batch, whole and in chunks."""

from __future__ import annotations

import torch
from tests.linearize.dense import assert_right, dense, random, relative
from tests.linearize.zoo import Net, parameter
from torch import nn

from steepest.linearize import Linearization


def assert_right_in_chunks(model, x):
    """With so small a budget that the batch is evaluated in parts: as a whole, all the same."""
    model = model.double()
    expected = dense(model, (x,))
    lin = Linearization(model, x, max_bytes=8 * len(expected) ** 2)
    assert relative(lin.kernel(), expected @ expected.T) < 1e-10
    u = random(len(expected))
    assert relative(lin.rmatvec(u), expected.T @ u) < 1e-10


def test_a_batch_mean_behind_a_gate_that_is_zero_is_seen_in_chunks():
    assert_right_in_chunks(
        Net(lambda s, x: s.a(x) + s.g * (x - x.mean(0)), a=nn.Linear(3, 3), g=nn.Parameter(torch.zeros(3))),
        random(20, 3),
    )


def test_a_batch_mean_behind_a_gate_that_is_zero():
    assert_right(
        Net(
            lambda s, x: s.a(x) + s.g * s.k(x).mean(0),
            a=nn.Linear(3, 2),
            k=nn.Linear(3, 2),
            g=nn.Parameter(torch.zeros(2)),
        ),
        random(5, 3),
        random(3, 3),
    )


def test_a_batch_norm_that_binds_only_for_many_is_seen_in_chunks():
    model = Net(lambda s, x: (h := s.a(x)) / h.norm().clamp(min=10) @ s.w, a=nn.Linear(3, 4), w=parameter(4, 2))
    assert_right_in_chunks(model, 1.5 * random(80, 3))


def test_an_instance_norm_that_torch_gets_wrong_for_one_example():
    """Its backward pass, for one example whose cotangent has its channels last (torch 2.13); two examples are right."""

    def run(s, x):
        return s.b(s.n(s.i(s.c(x)).permute(0, 2, 3, 1)).square().mean((1, 2)))

    model = Net(run, c=nn.Conv2d(2, 4, 2), i=nn.InstanceNorm2d(4, affine=True), n=nn.LayerNorm(4), b=nn.Linear(4, 2))
    assert_right_in_chunks(model, random(20, 2, 4, 3))


def test_a_table_of_zeros_that_is_read_by_the_place_in_the_batch():
    model = Net(lambda s, x: s.a(x) + s.e(torch.arange(len(x))) * x[:, :2], a=nn.Linear(3, 2), e=nn.Embedding(30, 2))
    nn.init.zeros_(model.e.weight)
    assert_right(model, random(20, 3), random(5, 3), random(20, 3, seed=1))
    assert_right_in_chunks(model, random(20, 3))


def test_predictions_of_more_than_a_thousand_examples_are_those_of_the_whole_batch():
    model = Net(lambda s, x: (h := s.a(x)) / h.norm().clamp(min=30), a=nn.Linear(3, 2)).double()
    x = random(2000, 3)
    assert relative(Linearization(model, x[:5]).predictions(x), model(x).detach()) < 1e-10


def test_chunks_of_a_coupled_batch():
    assert_right_in_chunks(
        Net(lambda s, x: s.b((s.a(x) - s.a(x).mean(0)).tanh()), a=nn.Linear(3, 3), b=nn.Linear(3, 2)), random(20, 3)
    )


def test_an_outlier_that_is_not_among_the_first_couples_the_batch():
    def run(s, x):
        h = s.a(x)
        far = x[:, 0] > 50
        return s.b(h - h[far].sum(0)).tanh()

    x = random(40, 3)
    x[30, 0] = 60
    assert_right(Net(run, a=nn.Linear(3, 4), b=nn.Linear(4, 2)), x)


def test_neighbours_far_away_are_coupled():
    def run(s, x):
        h = s.a(x)
        return s.b(torch.cat([h[:20], h[20:] + h[:-20]])).tanh()

    assert_right(Net(run, a=nn.Linear(3, 4), b=nn.Linear(4, 2)), random(40, 3))
    assert_right(Net(run, a=nn.Linear(3, 4), b=nn.Linear(4, 2)), random(6, 3), random(40, 3))


def test_examples_are_coupled_to_the_first():
    for seed in range(5):
        assert_right(
            Net(lambda s, x: (s.a(x) - s.a(x[:1])).square(), a=nn.Linear(3, 2)), random(4, 3, seed=seed), random(5, 3)
        )


def test_the_rank_among_the_examples_decides():
    def run(s, x):
        order = x[:, 0].argsort()
        h = x[order]
        halves = torch.cat([s.b(h[: len(x) // 2]), s.c(h[len(x) // 2 :])])
        return torch.zeros_like(halves).index_add(0, order, halves)

    for seed in range(5):
        assert_right(
            Net(run, b=nn.Linear(3, 2), c=nn.Linear(3, 2)), random(6, 3, seed=seed), random(5, 3), random(2, 3)
        )


def test_a_gradient_is_coupled_where_the_values_are_not():
    def run(s, x):
        soft = s.a(x).softmax(0)
        return (x.sum(1, keepdim=True) > 0).double() + soft - soft.detach()

    assert_right(Net(run, a=nn.Linear(3, 2)), random(5, 3), random(3, 3))
