"""Architectures of the zoo that write their products themselves, with whole parameters, parts of them, or made ones."""

from __future__ import annotations

import math

import torch
from tests.linearize.zoo import Net, architecture, draw, parameter
from torch import nn
from torch.nn import functional as F

# Products as they are written


@architecture()
def einsum():
    return Net(lambda s, x: torch.einsum("ni,io->no", x, s.w).tanh() @ s.v, w=parameter(3, 4), v=parameter(4, 2)), draw(
        3
    )


@architecture()
def matrix_times_batch():
    return Net(lambda s, x: (s.w @ x.T).tanh().T @ s.v, w=parameter(4, 3), v=parameter(4)), draw(3)


@architecture()
def bmm_by_heads():
    return Net(lambda s, x: torch.bmm(x.transpose(0, 1), s.w).tanh().sum(0), w=parameter(3, 2, 2)), draw(3, 2)


@architecture()
def addmm():
    return Net(
        lambda s, x: torch.addmm(s.b, torch.addmm(s.c, x, s.v).tanh(), s.w, beta=0.5),
        b=parameter(2),
        c=parameter(4),
        v=parameter(3, 4),
        w=parameter(4, 2),
    ), draw(3)


@architecture(others=(1, 3))
def library_style_conv1d():
    def run(s, x):
        h = torch.addmm(s.b, x.reshape(-1, x.shape[-1]), s.w).view(*x.shape[:-1], 4)
        return s.f(F.gelu(h)).mean(1)

    return Net(run, w=parameter(2, 4), b=parameter(4), f=nn.Linear(4, 2)), draw(3, 2)


@architecture()
def low_rank():
    return Net(
        lambda s, x: F.linear(x, s.w + s.u @ s.v).tanh() @ (s.v.T @ s.u.T),
        w=parameter(3, 3),
        u=parameter(3, 1),
        v=parameter(1, 3),
    ), draw(3)


@architecture()
def tensordot_and_kronecker():
    return Net(
        lambda s, x: torch.tensordot(x.unflatten(1, (2, 2)), s.t, 2) + x @ torch.kron(s.a, s.b),
        t=parameter(2, 2, 4),
        a=parameter(2, 2),
        b=parameter(2, 2),
    ), draw(4)


# Parts of parameters


@architecture()
def slices():
    return Net(
        lambda s, x: (
            F.linear(x, s.w[0], s.b[:3]).tanh() @ s.w[1] + x * s.w[0, 1] + F.linear(x[:, 1:], s.w[1][:, 1:], s.b[2:])
        ),
        w=parameter(2, 3, 3),
        b=parameter(5),
    ), draw(3)


@architecture()
def chunks():
    def run(s, x):
        q, k, v = s.w.chunk(3)
        first, second, third = s.b.split(3)
        return F.linear(x, q, first).tanh() * F.linear(x, k, second).sigmoid() + F.linear(x, v, third)

    return Net(run, w=parameter(9, 3), b=parameter(9)), draw(3)


@architecture()
def toeplitz():
    return Net(
        lambda s, x: F.linear(x, s.w.unfold(0, 3, 1)).tanh() + F.linear(x, s.w.unfold(0, 3, 1)), w=parameter(5)
    ), draw(3)


@architecture()
def masked_and_rearranged():
    def run(s, x):
        orthogonal = torch.linalg.matrix_exp(s.w.triu(1) - s.w.triu(1).T)
        return (
            F.linear(x, orthogonal).tanh() @ s.w.tril() + x @ torch.diag_embed(s.d) + x @ s.w.flip(0) + x @ s.w[s.order]
        )

    net = Net(run, w=parameter(3, 3), d=parameter(3))
    net.register_buffer("order", torch.tensor([2, 0, 0]))
    return net, draw(3)


@architecture()
def conjugate():
    return Net(
        lambda s, x: x * torch.view_as_complex(s.w).conj().imag + (x * torch.view_as_complex(s.w)).abs(),
        w=parameter(3, 2),
    ), draw(3)


@architecture()
def hypernetwork():
    def run(s, x):
        w = s.maker(s.code.tanh())
        return F.linear(F.linear(x, w[:12].view(4, 3), w[12:16]).relu(), w[16:].view(2, 4))

    return Net(run, maker=nn.Linear(2, 24), code=parameter(2)), draw(3)


@architecture()
def a_hypernetwork_of_the_example():
    return Net(
        lambda s, x: torch.bmm(s.maker(x).view(-1, 2, 3), x[:, :, None]).squeeze(2) * math.pi, maker=nn.Linear(3, 6)
    ), draw(3)
