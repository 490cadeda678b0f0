"""Units that are copies of one another: rows, or columns of transposed layers; nothing where rows are no units."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from steepest.diagnose._watch.units import UnitWatch, share_of_copies


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def look(model: nn.Module) -> dict[str, float]:
    watch = UnitWatch(model)
    watch.look(dict(model.named_parameters()), 0)
    return {name: looks[-1][1] for name, looks in watch.looks().items()}


@given(
    units=st.integers(2, 200),
    inputs=st.integers(1, 50),
    copies=st.integers(2, 200),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    seed=st.integers(0, 999),
)
def test_copies_are_counted_wherever_they_are(units, inputs, copies, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    copies = min(copies, units)
    rows = scale * torch.randn(units, inputs, generator=generator)
    where = torch.randperm(units, generator=generator)[:copies]
    rows[where] = rows[where[0]].clone()
    assert float(share_of_copies(rows)) == pytest.approx(copies / units)


@given(units=st.integers(1, 500), inputs=st.integers(1, 200), seed=st.integers(0, 999))
def test_random_rows_are_no_copies(units, inputs, seed):
    assert float(share_of_copies(normal(units, max(2, inputs), seed=seed))) == 0


def test_several_groups_of_copies_are_counted_together():
    rows = normal(3, 5).repeat_interleave(torch.tensor([2, 3, 1]), dim=0)
    assert float(share_of_copies(rows)) == pytest.approx(5 / 6)


def test_rows_with_different_biases_are_no_copies():
    rows = normal(1, 5).expand(4, 5)
    assert float(share_of_copies(rows, torch.zeros(4))) == 1
    assert float(share_of_copies(rows, torch.tensor([0.0, 0.0, 1.0, 2.0]))) == 0.5


def test_biases_are_told_apart_whatever_the_order_of_the_rows():
    # Rows are sorted by a projection; equal rows with biases 0, 1, 0, 1 hold two pairs of copies.
    rows = normal(1, 5).expand(6, 5)
    assert float(share_of_copies(rows, torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]))) == 1


def test_rows_of_zeros_are_not_counted():
    assert float(share_of_copies(torch.zeros(4, 5))) == 0
    rows = normal(4, 5)
    rows[:2] = 0
    assert float(share_of_copies(rows)) == 0


def test_rows_that_are_nearly_equal_are_no_copies():
    rows = normal(1, 50).repeat(2, 1)
    rows[1] *= 1.01
    assert float(share_of_copies(rows)) == 0


def test_one_unit_is_no_copy():
    assert float(share_of_copies(normal(1, 5))) == 0


def test_kernels_are_units_by_their_output_channel():
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight[:] = layer.weight[:1].clone()
        layer.bias.zero_()
    assert look(layer) == {"weight": 1.0}


def test_units_of_a_transposed_convolution_are_columns():
    layer = nn.ConvTranspose2d(5, 4, 3, bias=False)
    with torch.no_grad():
        layer.weight[:, :2] = layer.weight[:, :1].clone()
    assert look(layer) == {"weight": 0.5}
    with torch.no_grad():
        layer.weight.copy_(normal(*layer.weight.shape))
        layer.weight[:2] = layer.weight[:1].clone()  # two inputs alike are no units alike
    assert look(layer) == {"weight": 0.0}


def test_units_of_a_layer_that_keeps_inputs_by_outputs_are_columns():
    class Conv1D(nn.Module):
        """As in GPT-2."""

        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(normal(6, 4)), nn.Parameter(torch.zeros(4))

    layer = Conv1D()
    with torch.no_grad():
        layer.weight[:, :2] = layer.weight[:, :1].clone()
    assert look(layer) == {"weight": 0.5}


@pytest.mark.parametrize(
    "layer",
    [
        nn.Embedding(6, 4),
        nn.EmbeddingBag(6, 4),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv1d(4, 8, 3, groups=2),
        nn.LayerNorm(5),
        nn.BatchNorm1d(5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_has_no_comparable_units_is_left_out(layer):
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(1.0)
    assert look(layer) == {}


def test_recurrent_and_attention_weights_are_looked_at():
    cells, attention = nn.LSTM(3, 4), nn.MultiheadAttention(4, 2)
    assert look(cells) == {"weight_ih_l0": 0.0, "weight_hh_l0": 0.0}
    assert look(attention).keys() == {"in_proj_weight", "out_proj.weight"}
    with torch.no_grad():
        for p in cells.parameters():
            p.fill_(0.1)
    assert look(cells) == {"weight_ih_l0": 1.0, "weight_hh_l0": 1.0}


def test_a_layer_with_two_names_is_looked_at_once():
    shared = nn.Linear(4, 4)
    assert look(nn.Sequential(shared, nn.ReLU(), shared)) == {"0.weight": 0.0}


def test_tied_weights_are_looked_at_under_the_name_that_they_have():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

    assert look(Tied()) == {}


def test_a_look_at_the_same_record_replaces_the_one_before():
    model = nn.Linear(3, 2)
    watch = UnitWatch(model)
    parameters = dict(model.named_parameters())
    watch.look(parameters, -1)
    watch.look(parameters, 0)
    with torch.no_grad():
        model.weight[:] = 1.0
        model.bias[:] = 0.0
    watch.look(parameters, 0)
    assert watch.looks() == {"weight": [(-1, 0.0), (0, 1.0)]}


def test_the_bias_is_the_one_beside_the_weight_whatever_the_modules_above_are_called():
    model = nn.Module()
    model.weighted = nn.Linear(3, 4)
    with torch.no_grad():
        model.weighted.weight[:] = 1.0
        model.weighted.bias[:] = torch.arange(4.0)
    assert look(model) == {"weighted.weight": 0.0}


def test_looking_uses_no_global_random_numbers_and_changes_no_weight(rng_untouched):
    model = nn.Linear(3, 2)
    before = model.weight.detach().clone()
    with rng_untouched():
        look(model)
    assert torch.equal(model.weight, before)
