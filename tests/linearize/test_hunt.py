"""Hunting for silently wrong answers: what was true of the first batch, and is not of the next."""

from __future__ import annotations

import pytest
import torch
from tests.linearize.dense import assert_right, dense, random, relative
from tests.linearize.zoo import Net, mlp, parameter
from torch import nn
from torch.nn import functional as F

from steepest.errors import SteepestError
from steepest.linearize import Linearization


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# What a first batch happens to look like


def sorting():
    def run(s, x):
        order = x[:, 0].argsort()
        h = s.a(x[order]).tanh()
        return s.b(torch.zeros_like(h).index_copy(0, order, h))

    return Net(run, a=nn.Linear(3, 4), b=nn.Linear(4, 2))


def test_examples_that_the_model_sorts_were_in_order_at_first():
    x = random(5, 3)
    assert_right(sorting(), x[x[:, 0].argsort()], x, random(5, 3, seed=1))


def test_examples_that_the_model_sorts_are_in_order_only_in_the_first_sixteen():
    x = random(40, 3)
    x[:16] = x[x[:16, 0].argsort()]
    assert_right(sorting(), x)


def test_each_example_looked_at_one_position_of_its_own_at_first():
    model = Net(lambda s, x: x @ s.a(s.e).tanh(), a=nn.Linear(2, 3), e=parameter(5, 2))
    assert_right(model, torch.eye(5, dtype=torch.float64), random(5, 5), random(3, 5))


def test_each_example_looked_at_one_position_of_its_own_at_first_with_attention():
    def run(s, x):
        return (x @ s.a.weight) + F.layer_norm(x @ F.linear(s.e, s.b), (3,))

    model = Net(run, a=nn.Linear(3, 5), e=parameter(5, 2), b=parameter(3, 2))
    assert_right(model, torch.eye(5, dtype=torch.float64), random(5, 5))


def test_a_norm_of_the_whole_batch_that_did_not_bind_at_first():
    model = Net(lambda s, x: (h := s.a(x)) / h.norm().clamp(min=10) @ s.w, a=nn.Linear(3, 4), w=parameter(4, 2))
    assert_right(model, 0.1 * random(5, 3), 100 * random(5, 3), 100 * random(4, 3))


def test_a_norm_of_the_whole_batch_that_binds_only_for_many():
    model = Net(lambda s, x: (h := s.a(x)) / h.norm().clamp(min=10) @ s.w, a=nn.Linear(3, 4), w=parameter(4, 2))
    assert_right(model, 1.5 * random(80, 3), 1.5 * random(70, 3, seed=1))


def test_a_norm_of_the_whole_batch_on_the_general_path():
    model = Net(lambda s, x: torch.einsum("ni,io->no", x, s.w) / x.norm().clamp(min=10), w=parameter(3, 2))
    assert_right(model, 0.1 * random(5, 3), 100 * random(5, 3), 100 * random(4, 3))


def test_one_example_and_then_a_coupled_batch():
    model = Net(
        lambda s, x: torch.einsum("ni,io->no", x - x.mean(0), s.w) + s.b(x), w=parameter(3, 2), b=nn.Linear(3, 2)
    )
    assert_right(model, random(1, 3), random(5, 3))


def test_one_example_and_then_a_coupled_batch_without_any_rule():
    model = Net(lambda s, x: torch.einsum("ni,io->no", x - x.mean(0) / 2, s.w), w=parameter(3, 2))
    assert_right(model, random(1, 3), random(5, 3))


def test_the_axis_of_the_examples_depends_on_the_data():
    def run(s, x):
        if x[0, 0, 0] > 0:
            return s.a(x).tanh().square().sum(1)
        return s.a(x.transpose(0, 1)).tanh().square().sum(0)

    x = random(4, 4, 3)
    x[0, 0, 0] = 1
    other = random(4, 4, 3, seed=1)
    other[0, 0, 0] = -1
    assert_right(Net(run, a=nn.Linear(3, 2)), x, other)


def test_positions_are_scaled_in_place_only_for_some_batches():
    def run(s, x):
        places = s.p(torch.arange(x.shape[1]))
        if x.sum() > 0:
            places *= 3
        return s.a((x + places).tanh()).sum(1)

    x = random(4, 5, 3)
    assert_right(Net(run, p=nn.Embedding(5, 3), a=nn.Linear(3, 2)), -x.abs(), x.abs())


def test_one_bias_is_that_of_another_layer_in_another_batch():
    def run(s, x):
        first, second = (s.b, None) if x.sum() > 0 else (None, s.b)
        return F.linear(F.linear(x, s.v, first).tanh(), s.w, second)

    x = random(4, 3).abs()
    assert_right(Net(run, v=parameter(3, 3), w=parameter(3, 3), b=parameter(3)), x, -x)


def test_which_part_of_a_parameter_is_used_depends_on_the_batch():
    x = random(4, 3).abs()
    model = Net(
        lambda s, x: F.linear(x, s.w[0] if x.sum() > 0 else s.w[1]) + s.b[int(x.sum() > 0)],
        w=parameter(2, 2, 3),
        b=parameter(2, 2),
    )
    assert_right(model, x, -x)
    assert_right(model, -x, x)


def test_sequences_of_another_length():
    def run(s, x):
        h = x + s.p[: x.shape[1]] + s.q(torch.arange(x.shape[1])) + s.r(torch.arange(x.shape[1])[None])
        return s.a(h.tanh()).sum(1)

    model = Net(run, p=parameter(6, 3), q=nn.Embedding(6, 3), r=nn.Embedding(6, 3), a=nn.Linear(3, 2))
    assert_right(model, random(4, 3, 3), random(4, 6, 3), random(3, 4, 3), random(1, 3, 3), random(1, 2, 3))
    assert_right(model, random(1, 3, 3), random(4, 6, 3), random(3, 4, 3), random(1, 3, 3), random(1, 2, 3))


def test_an_expert_that_only_a_late_example_uses_has_a_path():
    def run(s, x):
        out = s.a(x)
        late = x[:, 0] > 50
        if late.any():
            out[late] += s.b(x[late])
        return out

    x = random(40, 3)
    x[30, 0] = 100
    model = Net(run, a=nn.Linear(3, 2), b=nn.Linear(3, 2))
    lin = assert_right(model, x)
    lin.features()
    assert lin.features(parameters="b.weight").any()
    assert lin.paths["b.weight"] != "zero"
    assert "zero" not in repr(lin)


def test_a_number_of_outputs_that_depends_on_the_batch_is_refused():
    model = Net(lambda s, x: s.a(x)[:, : 1 + int((x > 1).any())], a=nn.Linear(3, 2)).double()
    x = torch.zeros(4, 3, dtype=torch.float64)
    x[2] = 2
    with pytest.raises(SteepestError):
        Linearization(model, x).features(x[:2])
    with pytest.raises(SteepestError):
        Linearization(model, x[:2]).features(x)
    with pytest.raises(SteepestError):
        Linearization(model, x[:2]).kernel(x, x[:2])


def test_a_padded_batch_is_cut_to_its_longest_sequence():
    def run(s, x):
        longest = int((x > 0).sum(1).max())
        return s.a(s.t(x[:, :longest])).tanh().sum(1)

    tokens = torch.tensor([[3, 2, 0, 0], [1, 0, 0, 0], [2, 2, 1, 0], [4, 0, 0, 0]])
    model = Net(run, t=nn.Embedding(5, 3, padding_idx=0), a=nn.Linear(3, 2, bias=False))
    assert_right(model, tokens, tokens[:2], tokens[1:2])


# Budgets: chunks of examples are not a batch


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


def test_a_batch_of_one_is_a_case_of_its_own():
    model = Net(
        lambda s, x: torch.einsum("ni,io->no", x, s.w) if len(x) == 1 else torch.einsum("ni,io->no", x, s.v),
        w=parameter(3, 2),
        v=parameter(3, 2),
    )
    assert_right(model, random(5, 3), random(3, 3), random(1, 3))
    assert_right(model, random(1, 3), random(3, 3))


def test_squeezed_outputs():
    model = Net(lambda s, x: torch.einsum("ni,io->no", x, s.w).tanh().squeeze(), w=parameter(3, 1))
    assert_right(model, random(5, 3), random(3, 3))
    assert_right(Net(lambda s, x: s.a(x).squeeze(), a=nn.Linear(3, 1)), random(5, 3), random(3, 3))


def test_a_permuted_batch():
    model = Net(lambda s, x: s.b(s.a(x.flip(0)).tanh().flip(0)), a=nn.Linear(3, 4), b=nn.Linear(4, 2))
    assert_right(model, random(4, 3), random(5, 3), random(1, 3))


def test_positions_that_belong_to_other_examples():
    """Rolled by one, every position has the gradient of one example, but of another one than its own."""
    model = Net(lambda s, x: s.a(x).roll(1, 0).tanh(), a=nn.Linear(3, 2))
    assert_right(model, random(4, 3), random(5, 3), random(2, 3))


def test_two_examples_and_two_of_everything():
    def run(s, x):
        return s.a(x.permute(1, 2, 0, 3)).tanh().square().sum((0, 1))

    model = Net(run, a=nn.Linear(2, 2))
    assert_right(model, random(2, 2, 2, 2), random(2, 2, 2, 2, seed=1), random(3, 2, 2, 2), random(1, 2, 2, 2))


def test_merged_axes_of_equal_size():
    def run(s, x):
        n, t = x.shape[:2]
        h = s.a(x.transpose(0, 1).flatten(0, 1)).tanh().unflatten(0, (t, n)).transpose(0, 1)
        return s.b(h.flatten(0, 1)).unflatten(0, (n, t)).square().sum(1)

    model = Net(run, a=nn.Linear(3, 3), b=nn.Linear(3, 2))
    assert_right(
        model,
        random(4, 4, 3),
        random(4, 4, 3, seed=1),
        random(2, 4, 3),
        random(1, 4, 3),
        random(4, 2, 3),
        random(4, 1, 3),
    )
    assert_right(model, random(4, 1, 3), random(4, 4, 3), random(2, 2, 3))


def test_mlp_is_right_for_every_number_of_examples():
    model = mlp(nn.Tanh)
    for n in (2, 3, 15, 16, 17, 33):
        assert_right(model, random(n, 3), random(n + 1, 3, seed=1))


def test_a_kernel_in_groups_and_without():
    def run(s, x):
        return (F.conv1d(x, s.w, groups=2) + F.conv1d(x[:, :2], s.w)).tanh().sum(2)

    assert_right(Net(run, w=parameter(4, 2, 2)), random(5, 4, 5), random(3, 4, 5))
