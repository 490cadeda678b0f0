"""Architectures of the zoo that are made of weights: perceptrons, shared weights, parameters in arithmetic."""

from __future__ import annotations

import torch
from tests.linearize.zoo import Net, architecture, draw, mlp, parameter, tokens
from torch import nn
from torch.nn import functional as F

# Perceptrons


@architecture()
def no_hidden_layer():
    return nn.Linear(3, 2), draw(3)


@architecture()
def relu():
    return mlp(nn.ReLU), draw(3)


@architecture()
def relu_in_place():
    return mlp(lambda: nn.ReLU(inplace=True)), draw(3)


@architecture()
def tanh():
    return mlp(nn.Tanh), draw(3)


@architecture()
def gelu_without_bias():
    return mlp(nn.GELU, bias=False), draw(3)


@architecture()
def one_output_of_shape_n():
    return Net(lambda s, x: s.net(x).squeeze(-1), net=mlp(nn.SiLU, outputs=1)), draw(3)


@architecture()
def four_outputs_of_shape_2_2():
    return Net(lambda s, x: s.net(x).unflatten(1, (2, 2)), net=mlp(nn.ELU, outputs=4)), draw(3)


@architecture()
def residual():
    return Net(
        lambda s, x: s.c(x + s.b(torch.relu(s.a(x)))), a=nn.Linear(3, 4), b=nn.Linear(4, 3), c=nn.Linear(3, 2)
    ), draw(3)


@architecture()
def concatenating():
    return Net(
        lambda s, x: s.c(torch.cat([h := torch.cat([x, s.a(x).tanh()], 1), s.b(h).tanh()], 1)),
        a=nn.Linear(3, 2),
        b=nn.Linear(5, 3),
        c=nn.Linear(8, 2),
    ), draw(3)


@architecture()
def gated():
    return nn.Sequential(nn.Linear(3, 8), nn.GLU(), nn.Linear(4, 2)), draw(3)


@architecture()
def maxout():
    return Net(lambda s, x: s.b(s.a(x).unflatten(1, (4, 2)).amax(2)), a=nn.Linear(3, 8), b=nn.Linear(4, 2)), draw(3)


@architecture()
def fourier_features():
    net = Net(lambda s, x: s.a(torch.cat([(x @ s.w).sin(), (x @ s.w).cos()], 1)), a=nn.Linear(8, 2))
    net.register_buffer("w", torch.randn(3, 4))
    return net, draw(3)


# Weights that are used more than once


@architecture()
def reused():
    return Net(lambda s, x: s.b(s.a(s.a(x).relu()).relu()), a=nn.Linear(3, 3), b=nn.Linear(3, 2)), draw(3)


@architecture()
def recurrent_loop():
    def run(s, x):
        h = torch.zeros(len(x), 4, dtype=x.dtype)
        for t in range(x.shape[1]):
            h = (s.inputs(x[:, t]) + s.state(h)).tanh()
        return s.head(h)

    return Net(run, inputs=nn.Linear(3, 4), state=nn.Linear(4, 4, bias=False), head=nn.Linear(4, 2)), draw(5, 3)


@architecture()
def embedding_tied_to_the_head():
    net = Net(lambda s, x: s.head(s.table(x).mean(1).tanh()), table=nn.Embedding(7, 4), head=nn.Linear(4, 7))
    net.head.weight = net.table.weight
    return net, tokens(3)


@architecture()
def two_modules_with_one_parameter():
    net = Net(lambda s, x: s.b(s.a(x).tanh()), a=nn.Linear(3, 3), b=nn.Linear(3, 3))
    net.b.weight, net.b.bias = net.a.weight, net.a.bias
    return net, draw(3)


@architecture()
def a_matrix_and_its_transpose():
    return Net(lambda s, x: F.linear(x, s.w.t()).tanh() + (x @ s.w).sin() + x @ s.w.mT, w=parameter(3, 3)), draw(3)


@architecture()
def tied_autoencoder():
    return Net(
        lambda s, x: F.linear(F.linear(x, s.w, s.a).tanh(), s.w.T, s.b),
        w=parameter(2, 3),
        a=parameter(2),
        b=parameter(3),
    ), draw(3)


@architecture()
def siamese():
    return Net(lambda s, x, y: (s.net(x) - s.net(y)).square().sum(1), net=mlp(nn.Tanh)), lambda n: (
        draw(3)(n),
        draw(3)(n),
    )


@architecture()
def one_bias_of_two_layers():
    return Net(
        lambda s, x: F.linear(F.linear(x, s.v, s.b).relu(), s.w, s.b),
        v=parameter(3, 3),
        w=parameter(3, 3),
        b=parameter(3),
    ), draw(3)


@architecture()
def a_convolution_in_other_groups():
    def run(s, x):
        return torch.cat([F.conv1d(x, s.w, groups=2), F.conv1d(x[:, :2], s.w)], 1).tanh().sum(2)[:, :4]

    return Net(run, w=parameter(4, 2, 3)), draw(4, 5)


@architecture()
def a_weight_as_a_matrix_and_as_a_kernel():
    return Net(
        lambda s, x: F.conv1d(x.unsqueeze(2), s.w.unsqueeze(2)).squeeze(2).tanh() + F.linear(x, s.w) + x * s.w[0],
        w=parameter(3, 3),
    ), draw(3)


@architecture()
def a_parameter_as_bias_and_as_weight():
    return Net(
        lambda s, x: F.layer_norm(F.linear(x, s.w).unflatten(1, (4, 1)) * x[:, None], (4, 3), None, s.w).sum(2),
        w=parameter(4, 3),
    ), draw(3)


# Bare parameters


@architecture()
def scale_and_shift():
    return Net(
        lambda s, x: (x * s.a + s.b) / s.c - s.d, a=parameter(3), b=parameter(1, 3), c=parameter(1), d=parameter()
    ), draw(3)


@architecture()
def layer_scale():
    return Net(lambda s, x: x + s.g * s.f(x).tanh(), g=nn.Parameter(1e-2 * torch.ones(3)), f=nn.Linear(3, 3)), draw(3)


@architecture()
def a_gate_that_is_zero():
    return Net(
        lambda s, x: s.c(x) + s.g * s.f(x).tanh(), g=nn.Parameter(torch.zeros(1)), f=nn.Linear(3, 2), c=nn.Linear(3, 2)
    ), draw(3)


@architecture(others=(1, 3, 5))
def class_token():
    def run(s, x):
        return s.head(torch.cat([s.token.expand(len(x), -1, -1), s.stem(x)], 1).tanh().mean(1))

    return Net(run, token=parameter(1, 1, 4), stem=nn.Linear(2, 4), head=nn.Linear(4, 2)), draw(3, 2)


@architecture(others=(1, 3))
def repeated_class_token():
    return Net(
        lambda s, x: s.head(torch.cat([s.token.repeat(len(x), 1, 1), x], 1)).tanh().sum(1),
        token=parameter(1, 1, 4),
        head=nn.Linear(4, 2),
    ), draw(3, 4)


@architecture(4, others=(1, 5))
def positions_as_a_parameter():
    return Net(
        lambda s, x: s.f(s.stem(x) + s.p).tanh().sum(1), stem=nn.Linear(2, 4), p=parameter(1, 4, 4), f=nn.Linear(4, 2)
    ), draw(4, 2)


@architecture(4, others=(1, 6))
def positions_cut_to_length():
    return Net(lambda s, x: s.f(x + s.p[: x.shape[1]]).tanh().sum(1), p=parameter(6, 3), f=nn.Linear(3, 2)), draw(4, 3)


@architecture(4, others=(1, 5))
def positions_as_an_embedding():
    def run(s, x):
        return s.f((s.t(x) + s.p(torch.arange(x.shape[1]))).tanh()).sum(1)

    return Net(run, t=nn.Embedding(7, 3), p=nn.Embedding(6, 3), f=nn.Linear(3, 2)), tokens(5)


@architecture(4, others=(1, 5))
def positions_scaled_in_place():
    def run(s, x):
        places = s.p(torch.arange(x.shape[1]))
        places *= 2
        places += s.q
        return s.f((x + places).tanh()).sum(1)

    return Net(run, p=nn.Embedding(5, 3), q=parameter(3), f=nn.Linear(3, 2)), draw(5, 3)


@architecture(others=(1, 3))
def additive_mask():
    return Net(
        lambda s, x: (torch.softmax(s.q(x) @ x.mT + s.mask, -1) @ x).mean(1), q=nn.Linear(2, 2), mask=parameter(3, 3)
    ), draw(3, 2)


@architecture()
def one_number():
    return Net(lambda s, x: s.t * s.f(x).tanh() + s.u, t=parameter(), u=parameter(), f=nn.Linear(3, 2)), draw(3)


@architecture()
def powers_and_thresholds():
    return Net(
        lambda s, x: (
            torch.maximum(x, s.a) + x.abs().pow(s.b.exp()) + torch.where(x > 0, s.c, s.c * x) + s.d / (1 + x * x)
        ),
        a=parameter(3),
        b=parameter(3),
        c=parameter(3),
        d=parameter(1, 3),
    ), draw(3)


@architecture()
def mixed_by_a_softmax():
    return Net(
        lambda s, x: sum(w * f(x) for w, f in zip(s.a.softmax(0), s.f, strict=True)),
        a=parameter(3),
        f=nn.ModuleList(nn.Linear(3, 2) for _ in range(3)),
    ), draw(3)


@architecture()
def lists_of_parameters():
    def run(s, x):
        for w in s.w:
            x = (x @ w).tanh()
        return x * s.d["scale"] + s.plain[0]

    net = Net(
        run,
        w=nn.ParameterList(parameter(3, 3) for _ in range(2)),
        d=nn.ParameterDict({"scale": parameter(3)}),
        b=parameter(3),
    )
    net.plain = [net.b]
    return net, draw(3)


@architecture(4, others=())
def a_parameter_for_each_example():
    return Net(lambda s, x: s.f(x * s.w), w=parameter(4, 1), f=nn.Linear(3, 2)), draw(3)
