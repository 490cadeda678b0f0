"""Models that keep a state or draw random numbers: refused, or one fixed draw."""

from __future__ import annotations

import pytest
import torch
from tests.linearize.dense import assert_right, dense, random, relative
from tests.linearize.zoo import Net
from torch import nn

from steepest.errors import SteepestError
from steepest.linearize import Linearization


def test_a_model_that_sets_itself_up_on_its_first_batch_is_refused():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.scale, self.ready = nn.Linear(3, 2), nn.Parameter(torch.ones(2)), False

        def forward(self, x):
            h = self.a(x)
            if not self.ready:
                self.scale.data = 1 / h.detach().std(0)
                self.ready = True
            return h * self.scale

    with pytest.raises(SteepestError, match="state"):
        Linearization(Norm().double(), random(40, 3) * torch.arange(1, 41)[:, None])


def test_a_part_that_is_kept_from_the_first_call():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.kept = nn.Linear(3, 2), nn.Linear(3, 2), {}

        def forward(self, x):
            if len(x) not in self.kept:
                self.kept[len(x)] = self.b(torch.ones(len(x), 3, dtype=x.dtype))
            return self.a(x) + self.kept[len(x)]

    lin = Linearization(Keeping().double(), random(4, 3))
    expected = dense(Keeping().double(), (random(4, 3),))
    assert relative(lin.features(), expected) < 1e-10


def test_a_model_that_counts_its_calls_is_refused():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 2)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.a(x) * (1 + 1 / self.calls)

    with pytest.raises(SteepestError, match="keeps a state"):
        Linearization(Counting().double(), random(4, 3))


def test_a_model_of_which_only_the_gradient_is_random_is_refused():
    model = Net(
        lambda s, x: s.a(x) + s.g * torch.randn(len(x), 2, dtype=x.dtype),
        a=nn.Linear(3, 2),
        g=nn.Parameter(torch.zeros(2)),
    ).double()
    with pytest.raises(SteepestError, match="random"):
        Linearization(model, random(4, 3))


def test_a_seed_is_that_of_torch_in_every_way_of_looking():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 2)).double().train()
    x = random(20, 3)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = dense(model, (x,))
    lin = Linearization(model, x, seed=5, max_bytes=8 * 40 * 40)
    assert relative(lin.kernel(), expected @ expected.T) < 1e-10
    assert relative(lin.rmatvec(random(40)), expected.T @ random(40)) < 1e-10
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert relative(lin.predictions(x.clone()), model(x).detach()) < 1e-10


@pytest.mark.parametrize("make", [lambda: nn.LazyLinear(2), lambda: nn.Sequential(nn.Linear(3, 4), nn.LazyLinear(2))])
def test_layers_without_a_shape_yet_are_refused(make):
    with pytest.raises(SteepestError, match=r"(?i)lazy|uninitiali[sz]ed"):
        Linearization(make(), torch.zeros(4, 3))


def test_a_spectral_norm_in_training_is_refused_as_it_moves_with_every_call():
    model = nn.utils.parametrizations.spectral_norm(nn.Linear(30, 30)).double()
    with pytest.raises(SteepestError, match="same outputs whenever"):
        Linearization(model.train(), random(4, 30))
    assert_right(model.eval(), random(4, 30))


def test_an_encoder_with_padding_predicts_the_same_with_and_without_gradients():
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), 1, enable_nested_tensor=False)
    model = Net(lambda s, x: s.e(x, src_key_padding_mask=x[:, :, 0] > 0.7).flatten(1)[:, :3], e=stack).double().eval()
    x = random(5, 3, 4)
    x[:, 0, 0] = 0
    lin = assert_right(model, x, random(4, 3, 4).clamp(max=0.5))
    assert relative(lin.predictions(x), model(x).detach()) < 1e-10
    assert relative(lin.predictions(), model(x).detach()) < 1e-10
