"""depth_scaled: the last weight of each residual branch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.init.models import GPT, Block, noise, resnet
from torch import nn

from steepest.errors import InvalidArgument
from steepest.init import LSUV, initialize


def factors(model: nn.Module, data=None, scheme="he") -> dict[str, float]:
    """Return by which factor each weight is smaller, measured; only those that are, and only if the table says so."""
    plain = initialize(model, scheme, data=data)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    table = initialize(model, scheme, data=data, depth_scaled=True)
    found = {}
    for name, parameter in model.named_parameters():
        scale = float(parameter.detach().norm() / weights[name].norm()) if weights[name].any() else 1.0
        torch.testing.assert_close(parameter.detach(), scale * weights[name])
        count = round(scale**-2)
        if table[name] != plain[name]:
            assert table[name].rule == f"{plain[name].rule}, times 1/sqrt({count})"
            if not math.isnan(plain[name].std_asked):
                assert table[name].std_asked == pytest.approx(plain[name].std_asked * scale)
            found[name] = count
        else:
            assert scale == 1
    return found


@pytest.mark.parametrize("data", [None, torch.arange(8).reshape(2, 4)], ids=["by symbols", "by a run"])
def test_a_gpt_of_n_blocks_has_the_two_ends_of_each_divided_by_the_root_of_2n(data):
    for depth in (1, 3):
        expected = {f"blocks.{i}.{end}.weight": 2 * depth for i in range(depth) for end in ("c_proj", "out")}
        if depth == 1:
            assert expected == {"blocks.0.c_proj.weight": 2, "blocks.0.out.weight": 2}
        assert factors(GPT(depth=depth), data) == expected


@pytest.mark.parametrize("data", [None, noise(2, 3, 8, 8)], ids=["by symbols", "by a run"])
def test_in_a_resnet_the_second_convolution_of_each_block_is_scaled_and_no_shortcut(data):
    assert factors(resnet(), data) == {f"{i}.conv2.weight": 3 for i in (4, 5, 6)}


def test_torchs_transformers_are_scaled_by_rule():
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3, enable_nested_tensor=False
    )
    expected = {f"layers.{i}.{end}.weight": 6 for i in range(3) for end in ("self_attn.out_proj", "linear2")}
    assert factors(encoder) == expected
    model = nn.Sequential(nn.Linear(5, 8), encoder)
    for data in (None, noise(2, 4, 5)):
        assert factors(model, data) == {f"1.{name}": 6 for name in expected}
    decoder = nn.TransformerDecoderLayer(8, 2, 16)
    ends = ("self_attn.out_proj", "multihead_attn.out_proj", "linear2")
    assert factors(decoder) == {f"{end}.weight": 3 for end in ends}


def test_the_encoder_and_the_decoder_of_torchs_transformer_are_two_streams():
    model = nn.Transformer(8, 2, 2, 3, 16, dropout=0.0, batch_first=True)
    for data in (None, (noise(1, 3, 8), noise(1, 4, 8))):
        found = factors(model, data)
        assert {name.partition(".")[0]: count for name, count in found.items()} == {"encoder": 4, "decoder": 9}
        assert len(found) == 2 * 2 + 3 * 3


def test_layers_one_after_the_other_are_one_stream():
    model = nn.Sequential(*[nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)], Block(8))
    assert set(factors(model).values()) == {6}


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))


def test_two_towers_have_each_their_own_number():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Sequential(Residual(mlp()))
            self.b = nn.Sequential(*[Residual(mlp()) for _ in range(4)])

        def forward(self, x):
            return torch.cat([self.a(x[:, :4]), self.b(x[:, 4:])], 1)

    expected = {"a.0.inner.2.weight": 1, **{f"b.{i}.inner.2.weight": 4 for i in range(4)}}
    plain = initialize(Towers(), "he")
    for data in (None, noise(2, 8)):
        table = initialize(Towers(), "he", data=data, depth_scaled=True)
        counts = {name: (plain[name].std_asked / table[name].std_asked) ** 2 for name in expected}
        assert counts == pytest.approx(expected)


class Blocks(nn.Module):
    """A residual block as people write it."""

    def __init__(self, how) -> None:
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.ones(4))
        self.how = how

    def forward(self, x):
        return self.how(self, x)


@pytest.mark.parametrize(
    ("how", "scaled"),
    [
        (lambda s, x: x + s.b(F.relu(s.a(x))), {"b.weight"}),
        (lambda s, x: s.b(F.relu(s.a(x))) + x, {"b.weight"}),
        (lambda s, x: torch.add(x, s.b(F.relu(s.a(x)))), {"b.weight"}),
        (lambda s, x: x.add_(s.b(F.relu(s.a(s.norm(x))))), {"b.weight"}),
        (lambda s, x: s.norm(x + s.b(F.relu(s.a(x)))), {"b.weight"}),
        (lambda s, x: x + s.scale * s.b(F.relu(s.a(x))), {"b.weight"}),
        (lambda s, x: 0.5 * x + F.relu(s.b(s.a(x))), {"b.weight"}),
        (lambda s, x: x + s.a(x) + s.b(x), {"a.weight", "b.weight"}),
        (lambda s, x: x + (s.a(x) + s.b(x)), {"a.weight", "b.weight"}),
    ],
)
@pytest.mark.parametrize("data", [None, noise(3, 4)], ids=["by symbols", "by a run"])
def test_a_residual_branch_is_found_however_it_is_written(how, scaled, data):
    model = nn.Sequential(nn.Linear(4, 4), *[Blocks(how) for _ in range(2)])
    found = factors(model, data)
    assert set(found) == {f"{i}.{name}" for i in (1, 2) for name in scaled}


@pytest.mark.parametrize(
    "how",
    [
        lambda s, x: s.b(F.relu(s.a(x))),
        lambda s, x: s.a(x) + s.b(x),
        lambda s, x: s.a(x) + 1,
        lambda s, x: s.b(x + F.relu(x)),
        lambda s, x: s.a(x) * x,
    ],
)
@pytest.mark.parametrize("data", [None, noise(3, 4)], ids=["by symbols", "by a run"])
def test_what_is_no_residual_branch_is_refused_with_what_to_do(how, data):
    message = r"depth_scaled needs residual branches.*none was found \(got 'Blocks'\). Pass data=one batch"
    with pytest.raises(InvalidArgument, match=message):
        initialize(Blocks(how), "he", data=data, depth_scaled=True)


def test_word_and_position_embeddings_added_are_no_residual_branch():
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(9, 4), nn.Embedding(9, 4)
            self.block = Residual(mlp())

        def forward(self, idx):
            x = F.dropout(self.words(idx), 0.0)
            return self.block(x + self.places(torch.arange(x.size(1))))

    for data in (None, torch.arange(6).reshape(2, 3)):
        table = initialize(Embedded(), "he", data=data, depth_scaled=True)
        assert [row.parameter for row in table if "times" in row.rule] == ["block.inner.2.weight"]


def test_where_the_model_is_only_traced_in_pieces_all_branches_count_together():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Residual(mlp()) for _ in range(3))

        def forward(self, x):
            for block in self.blocks:
                if x.sum() < 1e9:
                    x = block(x)
            return x

    expected = {f"blocks.{i}.inner.2.weight": 3 for i in range(3)}
    assert factors(Sometimes()) == expected
    assert factors(Sometimes(), noise(2, 4)) == expected


def test_a_block_that_is_used_again_and_again_is_scaled_once_by_all_its_additions():
    block = Residual(mlp())
    assert factors(nn.Sequential(block, block, block)) == {"0.inner.2.weight": 3}


def test_it_comes_after_lsuv_and_applies_to_the_models_own_weights_too():
    model = nn.Sequential(Residual(mlp()), Residual(mlp()))
    expected = {"0.inner.2.weight": 2, "1.inner.2.weight": 2}
    assert factors(model, scheme=LSUV(noise(50, 4))) == expected
    before = [p.detach().clone() for p in model.parameters()]
    table = initialize(model, "default", depth_scaled=True)
    assert [row.parameter for row in table if row.rule == "as the model made it, times 1/sqrt(2)"] == list(expected)
    for (name, now), then in zip(model.named_parameters(), before, strict=True):
        torch.testing.assert_close(now.detach(), then / math.sqrt(expected.get(name, 1)))


def test_the_size_of_a_deep_residual_stream_no_longer_grows_with_depth():
    class Wide(Residual):
        def __init__(self):
            super().__init__(nn.Sequential(nn.LayerNorm(100), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 100)))

    grown = {}
    for scaled in (False, True):
        model = nn.Sequential(*[Wide() for _ in range(50)])
        initialize(model, "he", depth_scaled=scaled)
        with torch.no_grad():
            grown[scaled] = float(model(noise(50, 100)).square().mean())
    assert grown[False] == pytest.approx(51, rel=0.2)
    assert grown[True] == pytest.approx(2, rel=0.2)
