"""Layer-sequential unit variance."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.init.models import GPT, Conv1D, bits, noise, resnet, same_bits
from torch import nn

from steepest.errors import InvalidArgument
from steepest.init import LSUV, initialize


def variances(model: nn.Module, x) -> dict[str, float]:
    """Return the variance of the outputs of each weight layer, by hooks of the test's own."""
    found: dict[str, float] = {}

    def measure(name, output):
        found.setdefault(name, float(output.float().var(correction=0)))

    hooks = [
        module.register_forward_hook(lambda _m, _a, output, name=name: measure(name, output))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, Conv1D))
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def plain() -> nn.Sequential:
    layers = [module for _ in range(12) for module in (nn.Linear(40, 40), nn.SiLU())]
    return nn.Sequential(nn.Linear(10, 40), nn.SiLU(), *layers, nn.Linear(40, 3))


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Mish(), nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Flatten(), nn.Linear(144, 5)
    )


MODELS = {
    "linear": (plain, noise(200, 10) * 3 + 1),
    "convolutions": (convolutional, noise(20, 3, 5, 5)),
    "batch norm": (resnet, noise(8, 3, 8, 8)),
    "conv1d": (lambda: nn.Sequential(Conv1D(30, 10), nn.ReLU(), Conv1D(5, 30)), noise(50, 10)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("where", ["scheme", "call"])
def test_every_layer_has_outputs_of_unit_variance_on_the_data(name, where):
    build, data = MODELS[name]
    model = build()
    table = initialize(model, LSUV(data)) if where == "scheme" else initialize(model, "lsuv", data=data)
    found = variances(model, data)
    assert len(found) >= 2
    assert found == pytest.approx(dict.fromkeys(found, 1.0), abs=1e-3)
    for layer in found:
        row = table[f"{layer}.weight"]
        assert row.rule.startswith("LSUV: orthogonal, divided by ")
        assert row.rule.endswith("for an output variance of 1")
        assert all(math.isnan(number) for number in (row.std_asked, row.fan, row.gain))


def test_the_data_of_the_call_stand_above_the_schemes():
    model = plain()
    data = noise(100, 10) * 5
    initialize(model, LSUV(noise(100, 10)), data=data)
    assert variances(model, data)["0"] == pytest.approx(1, abs=1e-3)


def test_weights_stay_orthogonal_up_to_a_factor():
    model = plain()
    initialize(model, "lsuv", data=noise(100, 10))
    weight = model[2].weight.detach()
    gram = weight @ weight.T
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(40), rtol=0, atol=1e-4)


def test_kept_biases_are_divided_around_within_the_tolerance():
    model = nn.Sequential(nn.Linear(30, 30), nn.Tanh())
    with torch.no_grad():
        model[0].bias.copy_(0.7 * noise(30))
    initialize(model, LSUV(4 * noise(100, 30), tolerance=0.01), biases="keep")
    assert variances(model, 4 * noise(100, 30))["0"] == pytest.approx(1, abs=0.01)


def test_what_does_not_come_within_the_tolerance_is_said():
    model = nn.Sequential(nn.Linear(30, 30))
    with torch.no_grad():
        model[0].bias.copy_(3 * noise(30))
    row = initialize(model, LSUV(noise(100, 30), iterations=2), biases="keep")["0.weight"]
    variance = variances(model, noise(100, 30))["0"]
    assert variance > 2
    assert row.rule.endswith(f"for an output variance of {variance:.3g}")


class Partial(nn.Module):
    """One layer that is not reached, one that is used twice, one that is dead, and one without outputs of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.dead, self.unused = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.rnn = nn.GRU(8, 8, batch_first=True)

    def forward(self, x):
        x = self.twice(F.relu(self.twice(x)))
        x = x + self.dead(0 * x)
        return self.rnn(self.attention(x, x, x)[0])[0]


def test_what_cannot_be_scaled_stays_orthogonal_and_the_table_says_why():
    model = Partial()
    table = initialize(model, "lsuv", data=noise(20, 5, 8))
    assert variances(model, noise(20, 5, 8))["twice"] == pytest.approx(1, abs=1e-3)
    assert table["dead.weight"].rule == "orthogonal, not scaled: the variance of its output is 0"
    unseen = "not scaled: no output of it was seen"
    assert table["unused.weight"].rule == f"orthogonal, {unseen}"
    assert table["attention.in_proj_weight"].rule == f"orthogonal, per projection, {unseen}"
    assert table["attention.out_proj.weight"].rule == f"orthogonal, {unseen}"
    assert table["rnn.weight_hh_l0"].rule == f"orthogonal, per gate, {unseen}"
    for weight in (model.dead.weight, model.unused.weight, *model.attention.in_proj_weight.chunk(3)):
        torch.testing.assert_close(weight.detach() @ weight.detach().T, torch.eye(8), rtol=0, atol=1e-5)
    assert table["dead.weight"].std_asked == pytest.approx(1 / math.sqrt(8))


def test_embeddings_and_what_is_tied_to_them_keep_their_own_rule():
    model = GPT()
    table = initialize(model, "lsuv", data=torch.arange(16).reshape(2, 8))
    assert table["wte.weight"].rule == "N(0, 1/dimension); shared with lm_head.weight"
    assert table["blocks.1.c_fc.weight"].rule.startswith("LSUV")


def test_inside_torchs_transformer_layers_the_linear_layers_are_scaled_in_both_modes():
    for training in (True, False):
        model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).train(training)
        table = initialize(model, "lsuv", data=noise(20, 5, 8))
        found = variances(model, noise(20, 5, 8))
        assert found["linear1"] == pytest.approx(1, abs=1e-3)
        assert found["linear2"] == pytest.approx(1, abs=1e-3)
        assert table["linear2.weight"].rule.startswith("LSUV")


def test_the_same_seed_gives_the_same_bits_with_dropout_too():
    def build():
        return nn.Sequential(nn.Linear(10, 20), nn.Dropout(0.5), nn.Linear(20, 5))

    found = []
    for moved in (0, 3):
        torch.rand(moved)
        model = build()
        initialize(model, "lsuv", data=noise(30, 10))
        found.append(bits(model))
    assert same_bits(*found)


def test_half_precision_is_measured_in_single():
    model = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 40)).bfloat16()
    data = (100 * noise(200, 40)).bfloat16()
    initialize(model, "lsuv", data=data)
    assert variances(model, data) == pytest.approx({"0": 1, "2": 1}, abs=0.05)


def test_it_is_equal_by_the_content_of_its_data_and_prints_them_short():
    data = noise(200, 30)
    assert LSUV(data) == LSUV(data.clone())
    assert LSUV(data) != LSUV(data + 1)
    assert LSUV(data) != LSUV(data, tolerance=0.2)
    assert LSUV((data, 3)) == LSUV((data.clone(), 3))
    assert LSUV(data) != "lsuv"
    assert len({LSUV(data), LSUV(data.clone()), LSUV()}) == 2
    assert repr(LSUV()) == "LSUV(None, tolerance=0.1, iterations=10)"
    assert len(repr(LSUV(data))) < 100


def test_without_data_it_is_refused_at_the_call_and_not_before():
    with pytest.raises(
        InvalidArgument,
        match=r"LSUV must have data, to measure output variances. Pass LSUV\(data\), or data= to initialize",
    ):
        initialize(nn.Linear(2, 2), "lsuv")


def test_a_tolerance_and_a_number_of_iterations_out_of_range_are_refused():
    for tolerance in (0.0, -1.0, math.nan):
        with pytest.raises(InvalidArgument, match=rf"tolerance must be a number in \(0, inf\) \(got {tolerance}\)"):
            LSUV(tolerance=tolerance)
    with pytest.raises(InvalidArgument, match=r"iterations must be a whole number from 1 to 1000 \(got 0\)"):
        LSUV(iterations=0)
