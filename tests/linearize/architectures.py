"""Small networks of every kind, and the plain reference: one backward pass an output of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Made = tuple[nn.Module, tuple[Tensor, ...]]
CASES: dict[str, Callable[[], Any]] = {}


def case(function):
    CASES[function.__name__] = function
    return function


def make(name: str, dtype: torch.dtype = torch.float64) -> Made:
    """The network in evaluation mode with its inputs, from a seed of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, x = CASES[name]()
        inputs = x if isinstance(x, tuple) else (x,)
        return model.to(dtype).eval(), tuple(t.to(dtype) if t.is_floating_point() else t for t in inputs)


def flat(found: Any, n: int) -> Tensor:
    if isinstance(found, dict):
        found = tuple(found.values())
    if isinstance(found, (tuple, list)):
        return torch.cat([flat(t, n) for t in found], 1)
    return found.reshape(n, -1)


def dense(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """The Jacobian by definition."""
    outputs = flat(model(*inputs), len(inputs[0]))
    parameters = [p for p in model.parameters() if p.requires_grad]

    def row(output: Tensor) -> Iterator[Tensor]:
        found = torch.autograd.grad(output, parameters, retain_graph=True, allow_unused=True)
        for p, g in zip(parameters, found, strict=True):
            yield (torch.zeros_like(p) if g is None else g.to_dense() if g.is_sparse else g).flatten()

    return torch.stack([torch.cat(list(row(output))) for output in outputs.flatten()]).detach()


class Written(nn.Module):
    """A forward pass as a function of the module and its inputs."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.run = run

    def forward(self, *x: Tensor) -> Any:
        return self.run(self, *x)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(draw(*shape))


@case
def tied():
    e = nn.Embedding(7, 5)
    return Written(lambda s, x: F.linear(s.e(x).mean(1).tanh(), s.e.weight), e=e), torch.randint(0, 7, (4, 3))


@case
def reused():
    return Written(lambda s, x: s.b(torch.relu(s.a(torch.relu(s.a(x))))), a=nn.Linear(3, 3), b=nn.Linear(3, 2)), draw(
        5, 3
    )


@case
def transpose():
    return Written(lambda s, x: (x @ s.w).tanh() @ s.w.t() + F.linear(x, s.w @ s.w.T), w=parameter(3, 3)), draw(4, 3)


@case
def bare():
    return Written(
        lambda s, x: (x * s.a + s.b) / s.c - s.d,
        a=parameter(3),
        b=parameter(1, 3),
        c=parameter(1),
        d=nn.Parameter(draw(())),
    ), draw(4, 3)


@case
def seqfirst():
    return Written(lambda s, x: s.e(x.transpose(0, 1)).mean(0), e=nn.TransformerEncoderLayer(4, 2, 8)), draw(3, 5, 4)


@case
def seqfirst_square():
    return Written(lambda s, x: s.e(x.transpose(0, 1)).mean(0), e=nn.TransformerEncoderLayer(4, 2, 8)), draw(5, 5, 4)


@case
def flattened():
    return Written(
        lambda s, x: s.l(x.reshape(-1, 4)).reshape(x.shape[0], -1, 2).tanh().sum(1), l=nn.Linear(4, 2)
    ), draw(3, 5, 4)


@case
def flattened_inner():
    return Written(
        lambda s, x: s.l(x.transpose(0, 1).reshape(-1, 4)).reshape(x.shape[1], x.shape[0], 2).tanh().sum(0),
        l=nn.Linear(4, 2),
    ), draw(3, 6, 4)


@case
def cross():
    return Written(
        lambda s, x, y: s.m(x, y, y)[0].sum(1), m=nn.MultiheadAttention(4, 2, batch_first=True, kdim=3, vdim=3)
    ), (draw(3, 5, 4), draw(3, 2, 3))


@case
def mha_bias():
    return Written(
        lambda s, x: s.m(x, x, x, need_weights=False)[0].sum(1),
        m=nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True),
    ), draw(3, 5, 4)


@case
def convT():
    return Written(lambda s, x: s.c(x).sum((2, 3)), c=nn.ConvTranspose2d(2, 3, 3)), draw(3, 2, 4, 4)


@case
def conv_misc():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding="same", padding_mode="circular"),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, padding="same", groups=4, dilation=2),
        nn.Tanh(),
        nn.Conv2d(4, 2, (2, 3), stride=(2, 1), bias=False),
        nn.Flatten(),
        nn.Linear(2 * 2 * 4, 2),
    ), draw(3, 2, 5, 6)


@case
def conv13():
    return Written(
        lambda s, x: s.b(s.a(x).tanh().unsqueeze(1).unsqueeze(1)).flatten(1).sum(1),
        a=nn.Conv1d(2, 3, 3, padding=1),
        b=nn.Conv3d(1, 2, (1, 2, 3)),
    ), draw(3, 2, 7)


@case
def frames():
    return Written(
        lambda s, x: s.c(x.flatten(0, 1)).tanh().mean((2, 3)).reshape(x.shape[0], x.shape[1], -1).sum(1),
        c=nn.Conv2d(2, 3, 3),
    ), draw(3, 4, 2, 5, 5)


@case
def instnorm():
    return nn.Sequential(nn.Conv1d(2, 3, 3), nn.InstanceNorm1d(3, affine=True), nn.Flatten(), nn.Linear(15, 2)), draw(
        3, 2, 7
    )


@case
def prelu():
    return nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 2)), draw(4, 3)


@case
def bilinear():
    return Written(lambda s, x, y: s.b(x, y), b=nn.Bilinear(3, 2, 2)), (draw(4, 3), draw(4, 2))


@case
def lstm():
    return Written(lambda s, x: s.l(x)[0][:, -1], l=nn.LSTM(3, 4, batch_first=True)), draw(3, 5, 3)


@case
def wn():
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
        nn.Tanh(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(4, 2)),
    ), draw(4, 3)


@case
def einsum():
    return Written(
        lambda s, x: torch.einsum("ni,io->no", x, s.w).tanh() @ s.v, w=parameter(3, 4), v=parameter(4, 2)
    ), draw(4, 3)


@case
def vecmat():
    return Written(lambda s, x: (x @ s.w).tanh() @ s.v, w=parameter(3, 4), v=parameter(4)), draw(4, 3)


@case
def coupled():
    return Written(lambda s, x: s.l(x - x.mean(0)).tanh(), l=nn.Linear(3, 2)), draw(4, 3)


@case
def batchattn():
    return Written(lambda s, x: torch.softmax(s.l(x) @ x.T, 1) @ x, l=nn.Linear(3, 3)), draw(4, 3)


@case
def ckpt():
    return Written(
        lambda s, x: s.b(checkpoint(lambda h: s.a(h).tanh(), x, use_reentrant=False)),
        a=nn.Linear(3, 4),
        b=nn.Linear(4, 2),
    ), draw(4, 3)


@case
def moe():
    def f(s, x):
        g = s.g(x)
        k = g.argmax(1)
        out = torch.zeros_like(x)
        for e in range(3):
            m = k == e
            if m.any():
                out[m] = s.e[e](x[m]) * g[m, e : e + 1]
        return out

    return Written(f, g=nn.Linear(3, 3), e=nn.ModuleList(nn.Linear(3, 3) for _ in range(3))), draw(6, 3)


@case
def coupled2():
    return Written(
        lambda s, x: s.l(s.k(x) - s.k(x).mean(0) * s.g).tanh(), l=nn.Linear(3, 2), k=nn.Linear(3, 3), g=parameter(3)
    ), draw(20, 3)


@case
def hyper():
    return Written(lambda s, x: F.linear(x, s.h(s.z).view(2, 3)), h=nn.Linear(4, 6), z=parameter(4)), draw(5, 3)


@case
def views():
    return Written(
        lambda s, x: F.linear(x, s.w[0]).tanh() + F.linear(x, s.w[1].T) + x * s.w[0, 1], w=parameter(2, 3, 3)
    ), draw(4, 3)


@case
def negpos():
    return Written(
        lambda s, x: s.l(s.t(x) + s.p(torch.arange(x.shape[1])) + s.q[:, : x.shape[1]]).sum(1),
        t=nn.Embedding(7, 4, padding_idx=0),
        p=nn.Embedding(6, 4),
        q=parameter(1, 6, 4),
        l=nn.Linear(4, 2),
    ), torch.randint(0, 7, (3, 6))


@case
def bag():
    return Written(lambda s, x: s.e(x), e=nn.EmbeddingBag(7, 3, mode="mean")), torch.randint(0, 7, (4, 3))


@case
def sparse():
    return Written(lambda s, x: s.e(x).sum(1), e=nn.Embedding(7, 3, sparse=True)), torch.randint(0, 7, (4, 3))


@case
def cond():
    return Written(
        lambda s, x: s.a(x) if x.sum() > 0 else s.b(x) * s.c, a=nn.Linear(3, 2), b=nn.Linear(3, 2), c=parameter(2)
    ), draw(4, 3)


@case
def dictout():
    return Written(lambda s, x: {"a": s.a(x), "b": s.a(x).pow(2).sum(1)}, a=nn.Linear(3, 2)), draw(4, 3)


@case
def zero_out():
    return Written(lambda s, x: s.a(x) * 0 + s.b(x).detach(), a=nn.Linear(3, 2), b=nn.Linear(3, 2)), draw(4, 3)


@case
def customfn():
    class Fn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g * w, (g * x).sum(0)

    return Written(lambda s, x: Fn.apply(x, s.w).tanh(), w=parameter(3)), draw(4, 3)


@case
def per_example_param():
    return Written(lambda s, x: x * s.w, w=parameter(4, 1)), draw(4, 3)


@case
def norm():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.RMSNorm(4), nn.BatchNorm1d(4), nn.Linear(4, 2)), draw(
        5, 3
    )


@case
def expandcls():
    return Written(
        lambda s, x: s.l(torch.cat([s.c.expand(x.shape[0], 1, 4), x], 1)).tanh().sum(1),
        c=parameter(1, 1, 4),
        l=nn.Linear(4, 2),
    ), draw(4, 3, 4)


@case
def repeatcls():
    return Written(
        lambda s, x: s.l(torch.cat([s.c.repeat(x.shape[0], 1, 1), x], 1)).tanh().sum(1),
        c=parameter(1, 1, 4),
        l=nn.Linear(4, 2),
    ), draw(4, 3, 4)


@case
def iadd():
    def f(s, x):
        h = s.l(x)
        h += s.b
        h *= s.g
        return h.tanh()

    return Written(f, l=nn.Linear(3, 3), b=parameter(3), g=parameter(1)), draw(4, 3)


@case
def complexy():
    return Written(lambda s, x: torch.fft.rfft(s.l(x) * s.g).abs(), l=nn.Linear(3, 4), g=parameter(4)), draw(4, 3)


@case
def dead():
    m = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    m[0].bias.data.fill_(-100.0)
    return m, draw(4, 3)


@case
def frozen():
    m = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    m[0].weight.requires_grad_(False)
    m[2].bias.requires_grad_(False)
    return m, draw(4, 3)


@case
def scales():
    return Written(
        lambda s, x: 1e6 * s.a(x) + 1e-6 * s.b(x) * s.c, a=nn.Linear(3, 2), b=nn.Linear(3, 2), c=parameter(2)
    ), draw(4, 3)
