"""Architectures of the zoo at the edges: gradients that vanish, scales far apart, examples that are coupled."""

from __future__ import annotations

import torch
from tests.linearize.zoo import Net, architecture, draw, mlp, parameter
from torch import nn

# Extremes


@architecture()
def dead_units():
    net = mlp(nn.ReLU)
    net[0].bias.data[:3] = -100.0
    return net, draw(3)


@architecture(4, others=(2,))
def nothing_gets_through():
    net = mlp(nn.ReLU)
    net[0].bias.data[:] = -100.0
    return net, draw(3)


@architecture(4, others=(2,))
def outputs_times_zero():
    return Net(lambda s, x: s.a(x) * 0 + s.b(x).detach(), a=nn.Linear(3, 2), b=nn.Linear(3, 2)), draw(3)


@architecture()
def inputs_that_are_zero():
    return mlp(nn.Tanh), lambda n: torch.zeros(n, 3, dtype=torch.float64)


@architecture(single=False)
def scales_far_apart():
    return Net(
        lambda s, x: torch.cat([1e5 * s.a(x), 1e-5 * s.b(s.c(x)) * s.g], 1),
        a=nn.Linear(3, 1),
        b=nn.Linear(3, 2),
        c=nn.Linear(3, 3),
        g=parameter(2),
    ), draw(3)


@architecture()
def the_same_example_everywhere():
    return mlp(nn.Tanh), lambda n: torch.ones(n, 3, dtype=torch.float64)


@architecture()
def dropout_in_evaluation():
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 2)), draw(3)


@architecture(train=True)
def training_mode_without_randomness():
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.0), nn.LayerNorm(4), nn.Linear(4, 2)), draw(3)


# Coupled examples


@architecture(4, others=(3,))
def batch_mean_subtracted():
    return Net(
        lambda s, x: s.b((s.a(x) - s.a(x).mean(0) * s.g).tanh()), a=nn.Linear(3, 3), b=nn.Linear(3, 2), g=parameter(3)
    ), draw(3)


@architecture(4, others=(3, 1))
def softmax_over_the_batch():
    return Net(lambda s, x: (s.a(x).softmax(0) * x).cumsum(0), a=nn.Linear(3, 3)), draw(3)


@architecture(4, others=(3, 1))
def attention_over_the_batch():
    return Net(
        lambda s, x: s.a(x[None], x[None], x[None])[0][0], a=nn.MultiheadAttention(3, 1, batch_first=True)
    ), draw(3)


@architecture(4, others=(3, 1))
def distances_to_the_first_example():
    return Net(lambda s, x: (s.a(x) - s.a(x[:1])).square(), a=nn.Linear(3, 2)), draw(3)


@architecture(4, others=(3, 1))
def gate_on_the_batch_mean_that_is_zero():
    return Net(
        lambda s, x: s.a(x) + s.g * s.k(x).mean(0), a=nn.Linear(3, 2), k=nn.Linear(3, 2), g=nn.Parameter(torch.zeros(2))
    ), draw(3)


@architecture(4, others=(3, 1))
def similarities_over_the_batch():
    return Net(lambda s, x: (s.a(x) @ x.T).softmax(1) @ x, a=nn.Linear(3, 3)), draw(3)


@architecture(20, others=(3,))
def batch_mean_of_more_examples_than_are_looked_at_first():
    return Net(
        lambda s, x: s.b((s.a(x) - s.a(x).mean(0) * s.g).tanh()), a=nn.Linear(3, 3), b=nn.Linear(3, 2), g=parameter(3)
    ), draw(3)
