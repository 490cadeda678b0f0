"""Architectures of the zoo that are programs: control flow, several outputs, work in place, autograd inside."""

from __future__ import annotations

import torch
from tests.linearize.zoo import Net, architecture, draw, mlp, parameter, tokens
from torch import nn
from torch.func import functional_call, jvp, vmap
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# Several inputs and outputs


@architecture()
def several_inputs_of_several_types():
    def run(s, x, words, mask):
        return s.f(torch.cat([x, (s.t(words) * mask[..., None]).sum(1)], 1)).tanh()

    return Net(run, t=nn.Embedding(5, 2), f=nn.Linear(5, 2)), lambda n: (
        draw(3)(n),
        tokens(3, 5)(n),
        torch.rand(n, 3) > 0.3,
    )


@architecture()
def tuple_of_outputs():
    return Net(
        lambda s, x: (s.a(x), s.b(s.a(x).tanh()).unsqueeze(1), s.a(x).sum(1)), a=nn.Linear(3, 2), b=nn.Linear(2, 1)
    ), draw(3)


@architecture()
def dict_of_lists_of_outputs():
    return Net(lambda s, x: {"mean": s.a(x), "scale": F.softplus(s.b(x))}, a=nn.Linear(3, 1), b=nn.Linear(3, 2)), draw(
        3
    )


# Control flow


@architecture(6, others=(1, 4))
def branch_by_the_sign_of_the_batch():
    return Net(
        lambda s, x: s.a(x) if x[0, 0] > 0 else s.b(x) * s.c, a=nn.Linear(3, 2), b=nn.Linear(3, 2), c=parameter(2)
    ), draw(3)


@architecture(6, others=(1, 4))
def branch_by_example():
    return Net(
        lambda s, x: torch.where(x[:, :1] > 0, s.a(x), s.b(x).tanh()), a=nn.Linear(3, 2), b=nn.Linear(3, 2)
    ), draw(3)


@architecture(6, others=(1, 4))
def loop_whose_length_depends_on_the_example():
    def run(s, x):
        return torch.stack([s.head(steps(s, row)) for row in x])

    def steps(s, row):
        for _ in range(1 + int(row.abs().sum()) % 3):
            row = s.cell(row).tanh()
        return row

    return Net(run, cell=nn.Linear(3, 3), head=nn.Linear(3, 2)), draw(3)


@architecture(6, others=(1, 4))
def equilibrium_until_converged():
    def run(s, x):
        z = torch.zeros_like(x)
        for _ in range(200):
            z, old = (0.3 * s.w(z) + s.u(x)).tanh(), z
            if (z - old).norm() < 1e-14:
                break
        return z

    return Net(run, w=nn.Linear(3, 3), u=nn.Linear(3, 3)), draw(3)


@architecture(6, others=(1, 4))
def mixture_of_experts():
    def run(s, x):
        gates = s.gate(x).softmax(1)
        chosen = gates.argmax(1)
        out = torch.zeros_like(x)
        for e, expert in enumerate(s.experts):
            mask = chosen == e
            if mask.any():
                out[mask] = expert(x[mask]) * gates[mask, e, None]
        return out

    return Net(run, gate=nn.Linear(3, 3), experts=nn.ModuleList(nn.Linear(3, 3) for _ in range(3))), draw(3)


@architecture(6, others=(1, 4))
def experts_by_sorting():
    def run(s, x):
        order = x[:, 0].argsort()
        sorted_ = s.a(x[order])
        halves = torch.cat([s.b(sorted_[: len(x) // 2]), s.c(sorted_[len(x) // 2 :])])
        return torch.zeros_like(halves).index_add(0, order, halves)

    return Net(run, a=nn.Linear(3, 3), b=nn.Linear(3, 2), c=nn.Linear(3, 2)), draw(3)


@architecture(6, others=(1, 4))
def message_passing():
    def run(s, x, edges):
        sent = torch.zeros_like(x).scatter_add(1, edges[..., None].expand(-1, -1, x.shape[2]), s.message(x))
        return s.update(torch.cat([x, sent], 2)).relu().mean(1)

    return Net(run, message=nn.Linear(2, 2), update=nn.Linear(4, 3)), lambda n: (draw(3, 2)(n), tokens(3, 3)(n))


@architecture()
def frozen_detached_and_unused():
    net = Net(
        lambda s, x: s.a(x).tanh() + s.b(x).detach() + s.c(x),
        a=nn.Linear(3, 2),
        b=nn.Linear(3, 2),
        c=nn.Linear(3, 2),
        d=nn.Linear(2, 2),
    )
    net.a.bias.requires_grad_(False)
    net.c.weight.requires_grad_(False)
    return net, draw(3)


@architecture()
def half_of_a_parameter_detached():
    return Net(
        lambda s, x: (
            F.linear(x, s.w.detach()).tanh() * F.linear(x, s.w) + F.linear(x.detach() @ s.w[0].detach().diag(), s.w)
        ),
        w=parameter(3, 3),
    ), draw(3)


@architecture()
def teacher_without_gradients():
    def run(s, x):
        with torch.no_grad():
            target = s.a(x) + s.w[0]
        return s.a(x) * target + F.linear(x, s.w)

    return Net(run, a=nn.Linear(3, 3), w=parameter(3, 3)), draw(3)


# In place


@architecture()
def in_place_operations():
    def run(s, x):
        h = s.a(x)
        h += s.b
        h *= s.g
        h[:, 0] = x[:, 0] * s.b[0]
        h[:, 1].add_(s.g[1])
        h.div_(s.c).tanh_()
        out = torch.zeros(len(x), 2, dtype=x.dtype)
        out.copy_(s.f(h))
        out[:, 1:].mul_(s.c)
        return out

    return Net(
        run, a=nn.Linear(3, 3), f=nn.Linear(3, 2), b=parameter(3), g=parameter(3), c=nn.Parameter(torch.full((1,), 2.0))
    ), draw(3)


@architecture(others=(1, 5))
def in_place_after_layers_of_sequences():
    def run(s, x):
        h = F.relu_(s.a(x))
        h = s.b(h.transpose(0, 1))
        h += s.g
        return s.c(h.sigmoid_().permute(1, 2, 0)).relu_().flatten(1)

    return Net(run, a=nn.Linear(3, 3), b=nn.Linear(3, 4), c=nn.Conv1d(4, 2, 2), g=parameter(4)), draw(5, 3)


@architecture()
def what_a_layer_has_seen_is_written_over():
    def run(s, x):
        h = x.clone()
        first = h @ s.w.detach() + s.b
        h.mul_(2).add_(s.c)
        return first.tanh() + s.a(h)

    return Net(run, w=parameter(3, 3), a=nn.Linear(3, 3), b=parameter(3), c=parameter(3)), draw(3)


# Autograd inside of the model


@architecture()
def checkpointed():
    return Net(
        lambda s, x: s.b(checkpoint(lambda h: s.a(h).tanh() * s.g, x, use_reentrant=False)),
        a=nn.Linear(3, 4),
        b=nn.Linear(4, 2),
        g=parameter(4),
    ), draw(3)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w**3

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w**3, (g * 3 * x * w**2).sum(0)


@architecture()
def own_autograd_function():
    return Net(lambda s, x: s.a(Cube.apply(x, s.w)).tanh(), a=nn.Linear(3, 2), w=parameter(3)), draw(3)


@architecture()
def straight_through():
    def run(s, x):
        h = s.a(x)
        return s.b(h + (h.sign() - h).detach()), s.b(h.relu() - h.detach())

    return Net(run, a=nn.Linear(3, 3), b=nn.Linear(3, 1)), draw(3)


@architecture()
def energy_and_forces():
    def run(s, x):
        x = x.detach().requires_grad_()
        energy = s.net(x).sum(1)
        (forces,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        return energy, -forces

    return Net(run, net=mlp(nn.Tanh, outputs=1)), draw(3)


@architecture(warns="`torch.jit.script` is deprecated")
def derivative_by_forward_mode():
    def run(s, x):
        return torch.cat(jvp(s.net, (x,), (torch.ones_like(x),)), 1)

    return Net(run, net=mlp(nn.Tanh)), draw(3)


@architecture()
def vectorised_inside():
    return Net(
        lambda s, x: vmap(lambda row: s.b(s.a(row).tanh()) * s.g)(x),
        a=nn.Linear(3, 3),
        b=nn.Linear(3, 2),
        g=parameter(2),
    ), draw(3)


@architecture()
def a_step_of_training_inside():
    def run(s, x):
        start = dict(s.net.named_parameters())
        loss = functional_call(s.net, start, (s.support,)).square().mean()
        gradients = torch.autograd.grad(loss, list(start.values()), create_graph=True)
        moved = {name: p - s.lr.exp() * g for (name, p), g in zip(start.items(), gradients, strict=True)}
        return functional_call(s.net, moved, (x,))

    net = Net(run, net=nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)), lr=parameter())
    net.register_buffer("support", torch.randn(3, 3))
    return net, draw(3)


@architecture()
def complex_numbers():
    return Net(
        lambda s, x: (
            torch.view_as_real(torch.fft.rfft(s.a(x) * s.g)).flatten(1)[:, :4]
            + torch.complex(s.a(x), s.a(x) * s.g).abs()
        ),
        a=nn.Linear(3, 4),
        g=parameter(4),
    ), draw(3)


@architecture()
def solves_and_determinants():
    def run(s, x):
        k = s.w @ s.w.T + torch.eye(3, dtype=x.dtype)
        return torch.linalg.solve(k, x.T).T, torch.logdet(k) * x[:, 0]

    return Net(run, w=parameter(3, 3)), draw(3)


@architecture()
def compiled_part():
    return Net(
        lambda s, x: s.b(s.a(x)) * s.g,
        a=torch.compile(mlp(nn.Tanh), backend="eager"),
        b=nn.Linear(2, 2),
        g=parameter(2),
    ), draw(3)
