"""The sample of an activation and what it says, against plain definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from steepest.diagnose import STATISTICS
from steepest.diagnose._statistics import Site, sample, statistics


def site(ends: tuple[float, float] | None = None, may_saturate: bool = False) -> Site:
    return Site("act", "layer", "activation", "layer", ends, may_saturate or ends is not None)


def say(values: Tensor, where: Site | None = None) -> dict[str, float]:
    """The statistics of one sample (examples x units, or examples x positions x units)."""
    return dict(zip(STATISTICS, statistics(values[None], where or site())[0].tolist(), strict=True))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(rows=st.integers(1, 32), columns=st.integers(1, 64), seed=st.integers(0, 99))
def test_a_small_matrix_is_its_own_sample(rows, columns, seed):
    x = normal(rows, columns, seed=seed)
    for turn in (0, 1, 5):
        assert torch.equal(sample(x, False, turn), x)


@given(
    shape=st.lists(st.integers(1, 70), min_size=1, max_size=4).filter(lambda shape: math.prod(shape) < 20_000),
    turn=st.integers(0, 1000),
    transpose=st.booleans(),
    data=st.data(),
)
def test_a_sample_is_made_of_entries_of_the_tensor_and_is_small(shape, turn, transpose, data):
    x = torch.arange(1, 1 + math.prod(shape)).reshape(shape).float()
    x = x.transpose(0, -1) if transpose else x
    channels_first = data.draw(st.booleans())
    units = 1 if channels_first and x.ndim > 2 else x.ndim - 1
    taken = sample(x, channels_first, turn)
    assert taken.shape[-1] == min(64, x.shape[units])
    assert taken.numel() <= 32 * 64
    entries = taken.flatten().tolist()
    assert len(set(entries)) == len(entries), "an entry was taken twice"
    assert set(entries) <= set(x.flatten().tolist())


@given(rows=st.integers(1, 200), units=st.integers(1, 200), turn=st.integers(0, 9))
def test_a_row_of_the_sample_is_a_row_of_the_tensor(rows, units, turn):
    x = (1000 * torch.arange(rows)[:, None] + torch.arange(units)[None]).float()
    taken = sample(x, False, turn)
    assert ((taken // 1000) == (taken // 1000)[:, :1]).all()
    assert ((taken % 1000) == (taken % 1000)[:1]).all()


def test_the_windows_move_from_turn_to_turn_until_every_unit_was_seen():
    x = torch.arange(300.0).expand(4, 300)
    seen = {value for turn in range(40) for value in sample(x, False, turn).flatten().tolist()}
    assert len(seen) >= 290


def test_channels_are_the_units_of_an_image():
    image = torch.arange(5.0)[None, :, None, None].expand(3, 5, 7, 7)
    taken = sample(image, True, 3)
    assert taken.shape[-1] == 5
    assert (taken == torch.arange(5.0)).all()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_layout_in_memory_does_not_matter(memory_format):
    image = normal(6, 5, 8, 8)
    assert torch.equal(sample(image.to(memory_format=memory_format), True, 2), sample(image, True, 2))


def test_a_sample_is_a_copy_without_a_graph():
    x = torch.ones(3, 4, requires_grad=True)
    taken = sample(x * 2, False, 0)
    assert not taken.requires_grad
    y = torch.ones(3, 4)
    taken = sample(y, False, 0)
    y.zero_()
    assert (taken == 1).all()


def test_an_axis_of_units_alone_can_be_sampled_and_told():
    taken = sample(normal(10), False, 0)
    said = say(taken)
    assert said["mean"] == pytest.approx(float(normal(10).mean()), abs=1e-6)
    assert said["spread"] == pytest.approx(float(normal(10).std(correction=0)), abs=1e-6)


def test_mean_and_spread_are_those_of_all_entries():
    x = normal(7, 5)
    assert say(x)["mean"] == pytest.approx(float(x.mean()), abs=1e-6)
    assert say(x)["spread"] == pytest.approx(float(x.std(correction=0)), abs=1e-6)


def test_zeros_positive_and_dead_are_shares():
    x = torch.tensor([[0.0, 1.0, 0.0, -1.0], [0.0, 0.0, 2.0, -1.0]])
    said = say(x)
    assert (said["zeros"], said["positive"], said["dead"]) == (0.5, 0.25, 0.25)


def test_a_dead_unit_is_zero_at_every_example_and_every_position():
    x = torch.zeros(3, 2, 4)
    x[0, 1, 2] = 1.0
    assert say(x)["dead"] == 0.75


@pytest.mark.parametrize(("ends", "share"), [((-1.0, 1.0), 0.5), ((0.0, 1.0), 0.75)])
def test_saturated_is_the_share_within_a_hundredth_of_the_ends(ends, share):
    x = torch.tensor([[-0.999, 0.5, 0.999, 0.001]])
    assert say(x, site(ends))["saturated"] == share


def test_an_activation_without_ends_does_not_saturate():
    assert math.isnan(say(torch.full((3, 4), 1.0), site())["saturated"])


@pytest.mark.parametrize(
    ("values", "share"),
    [
        (torch.tanh(100 * normal(30, 20)), 1.0),
        (torch.sigmoid(1000 * normal(30, 20)), 1.0),
        (torch.tanh(0.1 * normal(30, 20)), math.nan),
        (torch.relu(normal(30, 20)), math.nan),
        (normal(30, 20), math.nan),
    ],
    ids=["tanh", "sigmoid", "tanh in the middle", "relu", "normal"],
)
def test_where_the_ends_are_not_known_they_are_guessed(values, share):
    assert say(values, site(may_saturate=True))["saturated"] == pytest.approx(share, abs=0.02, nan_ok=True)


def test_variation_is_relative_to_the_size_and_over_examples_alone():
    x = normal(6, 5) + 3
    wanted = float(x.std(dim=0, correction=0).square().mean().sqrt() / x.square().mean().sqrt())
    assert say(x)["variation"] == pytest.approx(wanted, rel=1e-4)
    assert say(1000 * x)["variation"] == pytest.approx(wanted, rel=1e-4)
    assert say(normal(1, 5).expand(6, 5))["variation"] == pytest.approx(0, abs=1e-6)


def test_variation_of_one_example_is_that_over_its_positions():
    x = normal(1, 4, 5)
    wanted = float(x[0].std(dim=0, correction=0).square().mean().sqrt() / x.square().mean().sqrt())
    assert say(x)["variation"] == pytest.approx(wanted, rel=1e-4)


def test_variation_of_one_example_without_positions_is_not_known():
    assert math.isnan(say(normal(1, 5))["variation"])


def test_variation_of_zeros_is_zero():
    assert say(torch.zeros(4, 5))["variation"] == 0


@pytest.mark.parametrize(("copies", "share"), [(1, 0.0), (2, 0.25), (4, 0.5), (8, 1.0)])
def test_similarity_is_the_share_of_units_that_equal_another(copies, share):
    x = normal(20, 8)
    x[:, :copies] = x[:, :1]
    assert say(x)["similarity"] == share


def test_units_that_do_not_vary_are_no_copies():
    x = normal(20, 8)
    x[:, :4] = 1.5
    x[:, 4:6] = 0.0
    assert say(x)["similarity"] == 0


def test_units_that_are_nearly_equal_are_no_copies():
    x = normal(20, 8)
    x[:, 1] = x[:, 0] * 1.01
    assert say(x)["similarity"] == 0


def test_similarity_is_looked_at_now_and_then_and_at_the_last_record():
    said = statistics(normal(20, 6, 5), site())[:, STATISTICS.index("similarity")]
    assert [t for t, value in enumerate(said.tolist()) if not math.isnan(value)] == [0, 8, 16, 19]


@given(records=st.integers(1, 5), rows=st.integers(2, 9), units=st.integers(1, 9))
def test_many_records_together_say_what_each_says_alone(records, rows, units):
    samples = normal(records, rows, units)
    together = statistics(samples, site((-1.0, 1.0)))
    for t in range(records):
        alone = statistics(samples[t : t + 1], site((-1.0, 1.0)))[0]
        known = ~together[t].isnan()
        torch.testing.assert_close(together[t][known], alone[known])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_are_read_in_single(dtype):
    x = normal(6, 5).to(dtype)
    assert say(x)["mean"] == pytest.approx(float(x.double().mean()), abs=1e-6)


def test_what_is_not_finite_gives_statistics_that_are_not():
    x = normal(6, 5)
    x[0, 0] = math.nan
    assert math.isnan(say(x)["mean"])
    x[0, 0] = math.inf
    assert not math.isfinite(say(x)["mean"])
    assert math.isnan(say(x)["dead"])  # not known
