"""What was true of the first batch, and is not of the next."""

from __future__ import annotations

import pytest
import torch
from tests.linearize.dense import assert_right, random
from tests.linearize.zoo import Net, mlp, parameter
from torch import nn
from torch.nn import functional as F

from steepest.errors import SteepestError
from steepest.linearize import Linearization


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


def test_a_branch_that_was_not_taken_before_is_seen_when_it_is():
    model = Net(lambda s, x: F.prelu(s.a(x), s.p) if x.sum() > 0 else s.a(x), a=nn.Linear(3, 2), p=parameter(1))
    x = random(4, 3).abs()
    assert assert_right(model, -x, x).paths["p"] == "zero"
    assert assert_right(model, x, -x).paths["p"] != "zero"


def test_behind_dead_units_nothing_is_assumed_for_other_inputs():
    """On the first inputs no gradient arrives, so that every layout fits; with n = T the choice matters later."""

    def run(s, x):
        hidden = s.a(x.transpose(0, 1)).transpose(0, 1)
        return torch.relu(hidden * x.sum((1, 2), keepdim=True)).sum(1) * (x.sum((1, 2)) > 0)[:, None]

    model, x = Net(run, a=nn.Linear(4, 2)), random(5, 5, 4)
    assert not assert_right(model, x - 10, x + 10).features().any()
