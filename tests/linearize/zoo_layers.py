"""Architectures of the zoo that are made of layers: convolutions, norms, tables, recurrences, parametrized ones."""

from __future__ import annotations

import torch
from tests.linearize.zoo import Net, architecture, draw, parameter, tokens
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

# Convolutions


@architecture()
def conv1d_padded_and_strided():
    return nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv1d(3, 2, 2, stride=2), nn.Flatten()), draw(
        2, 5
    )


@architecture(warns="Using padding='same' with even kernel lengths")
def conv2d_same_circular():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding="same", padding_mode="circular"),
        nn.ReLU(inplace=True),
        nn.Conv2d(3, 2, (2, 4), padding="same"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ), draw(2, 4, 5)


@architecture()
def conv2d_grouped_and_dilated():
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=(2, 1), dilation=(2, 1), groups=2),
        nn.Tanh(),
        nn.Conv2d(6, 4, 2, stride=(1, 2), groups=2, bias=False),
        nn.Flatten(2),
        nn.Linear(6, 1),
        nn.Flatten(),
    ), draw(4, 4, 4)


@architecture()
def depthwise_separable():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3, padding="valid"), nn.GELU(), nn.Conv2d(6, 2, 1), nn.MaxPool2d(2), nn.Flatten()
    ), draw(3, 5, 4)


@architecture()
def conv3d_reflected():
    return nn.Sequential(
        nn.Conv3d(1, 2, (1, 2, 3), padding=(0, 1, 1), padding_mode="reflect"),
        nn.Tanh(),
        nn.Flatten(1),
        nn.Linear(36, 2),
    ), draw(1, 2, 2, 3)


@architecture()
def transposed_convolution():
    return nn.Sequential(nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Tanh(), nn.Conv2d(3, 1, 3), nn.Flatten()), draw(
        2, 2, 2
    )


@architecture()
def one_convolution_of_two_scales():
    def run(s, x):
        return torch.cat([s.c(y).tanh().mean((2, 3)) for y in (x, F.avg_pool2d(x, 2))], 1)

    return Net(run, c=nn.Conv2d(2, 2, 2, padding=1)), draw(2, 4, 4)


@architecture(4, others=(1, 3, 5))
def frames_merged_into_the_batch():
    def run(s, x):
        h = s.c(x.flatten(0, 1)).tanh().mean((2, 3))
        return s.f(h.unflatten(0, x.shape[:2]).sum(1))

    return Net(run, c=nn.Conv2d(2, 3, 2), f=nn.Linear(3, 2)), draw(3, 2, 3, 3)


@architecture(3, others=(1, 4))
def frames_merged_before_the_batch():
    def run(s, x):
        h = s.c(x.transpose(0, 1).flatten(0, 1)).tanh().mean(2)
        return s.f(h.unflatten(0, (x.shape[1], len(x)))).sum(0)

    return Net(run, c=nn.Conv1d(2, 3, 2), f=nn.Linear(3, 2)), draw(3, 2, 3)


@architecture(3, others=(1, 5))
def linear_on_time_first():
    return Net(
        lambda s, x: s.b(s.a(x.transpose(0, 1)).tanh()).cumsum(0)[-1], a=nn.Linear(2, 3), b=nn.Linear(3, 2)
    ), draw(5, 2)


@architecture(5, others=(1, 2))
def linear_on_time_first_as_many_as_examples():
    return Net(
        lambda s, x: s.b(s.a(x.transpose(0, 1)).tanh()).square().sum(0), a=nn.Linear(2, 3), b=nn.Linear(3, 2)
    ), draw(5, 2)


@architecture(3, others=(1, 6))
def linear_on_flattened_time():
    return Net(lambda s, x: s.a(x.flatten(0, 1)).tanh().view(len(x), -1, 2).sum(1), a=nn.Linear(3, 2)), draw(6, 3)


@architecture(3, others=(1, 6))
def linear_on_a_batch_between_two_axes():
    """The examples in the middle of a merged axis are where no rule looks for them."""
    return Net(
        lambda s, x: s.a(x.transpose(0, 1).flatten(0, 2)).tanh().view(2, len(x), 6, 2).sum((0, 2)), a=nn.Linear(3, 2)
    ), draw(2, 6, 3)


@architecture(2, others=(1, 4))
def linear_on_a_batch_in_the_last_place():
    return Net(lambda s, x: s.a(x.permute(1, 2, 0).unsqueeze(-1)).tanh().sum((0, 1)), a=nn.Linear(1, 3)), draw(2, 4)


@architecture()
def patches_by_permutes():
    def run(s, x):
        patches = x.unflatten(2, (2, 2)).unflatten(4, (2, 2)).permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        return s.b(s.a(patches).permute(0, 2, 1)).flatten(1)

    return Net(run, a=nn.Linear(8, 2), b=nn.Linear(4, 2)), draw(2, 4, 4)


@architecture()
def unet():
    def run(s, x):
        low = s.b(F.max_pool2d(h := s.a(x).relu(), 2)).relu()
        return s.c(torch.cat([F.interpolate(low, scale_factor=2, mode="bilinear"), h], 1)).mean((2, 3))

    return Net(run, a=nn.Conv2d(1, 2, 3, padding=1), b=nn.Conv2d(2, 2, 3, padding=1), c=nn.Conv2d(4, 2, 1)), draw(
        1, 4, 4
    )


# Norms


def trained(norm: nn.Module) -> nn.Module:
    """With statistics, scales and shifts as after some steps."""
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    return norm


@architecture()
def layer_norm():
    return nn.Sequential(
        nn.Linear(3, 4), trained(nn.LayerNorm(4)), nn.ReLU(), nn.Linear(4, 2), nn.LayerNorm(2, bias=False)
    ), draw(3)


@architecture()
def layer_norm_of_two_axes():
    return nn.Sequential(
        nn.Linear(3, 4),
        trained(nn.LayerNorm((5, 4))),
        nn.LayerNorm(4, elementwise_affine=False),
        nn.Linear(4, 1),
        nn.Flatten(),
    ), draw(5, 3)


@architecture()
def rms_norm():
    return nn.Sequential(nn.Linear(3, 4), trained(nn.RMSNorm(4)), nn.Tanh(), nn.Linear(4, 2)), draw(3)


@architecture()
def norm_by_hand():
    return Net(
        lambda s, x: s.f(s.g * (h := s.e(x)) * torch.rsqrt(h.square().mean(-1, keepdim=True) + s.eps.exp()) + s.b),
        e=nn.Linear(3, 4),
        f=nn.Linear(4, 2),
        g=parameter(4),
        b=parameter(4),
        eps=parameter(),
    ), draw(3)


@architecture()
def group_norm():
    return nn.Sequential(
        nn.Conv1d(2, 4, 2), trained(nn.GroupNorm(2, 4)), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)
    ), draw(2, 4)


@architecture()
def batch_norm():
    return nn.Sequential(
        nn.Conv2d(2, 3, 2, bias=False), trained(nn.BatchNorm2d(3)), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3),
        trained(nn.BatchNorm1d(3)), nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False),
    ), draw(2, 3, 3)  # fmt: skip


@architecture()
def instance_norm():
    return nn.Sequential(
        nn.Conv1d(2, 3, 2), nn.InstanceNorm1d(3, affine=True), nn.Tanh(), nn.Conv1d(3, 2, 3, bias=False),
        nn.InstanceNorm1d(2), nn.Flatten(), nn.Linear(6, 2),
    ), draw(2, 6)  # fmt: skip


@architecture()
def one_norm_used_twice():
    return Net(
        lambda s, x: s.b(s.n(s.a(s.n(x)))), n=trained(nn.LayerNorm(3)), a=nn.Linear(3, 3), b=nn.Linear(3, 2)
    ), draw(3)


@architecture(4, others=(3,))
def batch_norm_without_statistics():
    """It uses those of the batch in evaluation, too, so that its examples are coupled."""
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Tanh(), nn.Linear(4, 2)
    ), draw(3)


# Tables


@architecture()
def embedding_with_padding():
    return Net(
        lambda s, x: s.f(s.t(x).mean(1).tanh()), t=nn.Embedding(4, 3, padding_idx=-1), f=nn.Linear(3, 2)
    ), tokens(6, 4)


@architecture(others=(1, 3))
def tied_embedding_with_padding():
    net = Net(lambda s, x: F.linear(s.t(x).sum(1).tanh(), s.t.weight[1:3]), t=nn.Embedding(4, 3, padding_idx=1))
    return net, tokens(3, 4)


@architecture()
def sparse_embedding():
    return Net(lambda s, x: s.t(x).sum(1), t=nn.Embedding(5, 3, sparse=True)), tokens(4, 5)


@architecture()
def embedding_bags():
    return Net(
        lambda s, x: s.f(torch.cat([s.a(x), s.b(x), s.c(x)], 1)),
        a=nn.EmbeddingBag(5, 2, mode="sum"),
        b=nn.EmbeddingBag(5, 2, mode="mean", padding_idx=0),
        c=nn.EmbeddingBag(5, 2, mode="max"),
        f=nn.Linear(6, 2),
    ), tokens(4, 5)


@architecture()
def one_token_an_example():
    return Net(lambda s, x: s.f(s.t(x).tanh()), t=nn.Embedding(5, 3), f=nn.Linear(3, 2)), lambda n: torch.randint(
        0, 5, (n,)
    )


@architecture()
def table_by_indexing_and_by_one_hot():
    return Net(
        lambda s, x: s.w[x].sum(1) + (F.one_hot(x, 5).to(s.v) @ s.v).sin().sum(1) + s.w.index_select(0, x[:, 0]),
        w=parameter(5, 2),
        v=parameter(5, 2),
    ), tokens(3, 5)


# Recurrences


@architecture()
def rnn():
    return Net(lambda s, x: s.f(s.r(x)[0].mean(1)), r=nn.RNN(2, 3, batch_first=True), f=nn.Linear(3, 2)), draw(4, 2)


@architecture()
def lstm_of_two_layers_both_ways():
    return Net(lambda s, x: s.r(x.transpose(0, 1))[1][0].sum(0), r=nn.LSTM(2, 2, 2, bidirectional=True)), draw(3, 2)


@architecture()
def gru_cell():
    def run(s, x):
        h = s.start.expand(len(x), -1)
        for step in x.unbind(1):
            h = s.cell(step, h)
        return h

    return Net(run, start=parameter(1, 3), cell=nn.GRUCell(2, 3)), draw(3, 2)


@architecture()
def packed_sequences():
    def run(s, x):
        lengths = 1 + (x[:, :, 0] > 0).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.clamp(max=4), batch_first=True, enforce_sorted=False)
        return s.f(s.r(packed)[1][0])

    return Net(run, r=nn.GRU(2, 3, batch_first=True), f=nn.Linear(3, 2)), draw(4, 2)


# Layers with parameters of their own kind


@architecture()
def prelu():
    return nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2), nn.PReLU()), draw(3)


@architecture()
def bilinear():
    return Net(lambda s, x, y: s.b(x, y.tanh()), b=nn.Bilinear(3, 2, 2)), lambda n: (draw(3)(n), draw(2)(n))


@architecture()
def weight_norm():
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), parametrizations.weight_norm(nn.Linear(4, 2), dim=1)
    ), draw(3)


@architecture()
def spectral_norm():
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Conv1d(2, 3, 2)),
        nn.Tanh(),
        nn.Flatten(),
        parametrizations.spectral_norm(nn.Linear(9, 2)),
    ), draw(2, 4)


@architecture()
def orthogonal():
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(3, 3)), nn.Tanh(), nn.Linear(3, 2)), draw(3)


@architecture()
def own_parametrization():
    class Symmetric(nn.Module):
        def forward(self, w):
            return w.triu() + w.triu(1).T

    layer = nn.Linear(3, 3)
    nn.utils.parametrize.register_parametrization(layer, "weight", Symmetric())
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(3, 2)), draw(3)


@architecture()
def low_rank_adapter():
    net = Net(
        lambda s, x: s.base(x).tanh() + s.up(s.down(x)),
        base=nn.Linear(3, 3),
        down=nn.Linear(3, 1, bias=False),
        up=nn.Linear(1, 3, bias=False),
    )
    net.base.requires_grad_(False)
    nn.init.zeros_(net.up.weight)
    return net, draw(3)
