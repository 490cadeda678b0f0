"""Gradients of parameters without a rule, one row per example: slower, and right."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from steepest.errors import InvalidArgument
from steepest.linearize._inputs import Inputs, take
from steepest.linearize._trace.network import Network

__all__ = ["by_backward", "by_vmap", "undifferentiable"]


def by_vmap(network: Network, inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the rows [n, C, size] by a vectorised Jacobian of one example's outputs."""
    chosen = {name: network.parameters[name].detach() for name in names}

    def one(parameters: dict[str, Tensor], *example: Tensor) -> Tensor:
        return network(tuple(t.unsqueeze(0) for t in example), parameters)[0]

    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")  # an operation without a batching rule is slower, no more
        found = vmap(jacrev(one), (None, *(0 for _ in inputs)))(chosen, *inputs)
    return {name: rows.flatten(2) for name, rows in found.items()}


def by_backward(network: Network, inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the rows [n, C, size] by one backward pass per output: over its example, or all where they are coupled."""
    chosen = [network.parameters[name] for name in names]
    rows: list[list[Tensor]] = [[] for _ in names]
    n, outputs = len(inputs[0]), 0
    whole = network(inputs) if network.coupled else None
    for i in range(n):
        own = network(take(inputs, slice(i, i + 1)))[0] if whole is None else whole[i]
        outputs = len(own)
        for c in range(outputs):
            last = c == outputs - 1 and (whole is None or i == n - 1)
            if own.requires_grad:
                gradients = torch.autograd.grad(own[c], chosen, retain_graph=not last, allow_unused=True)
            else:
                gradients = [None] * len(chosen)
            for of_name, gradient, p in zip(rows, gradients, chosen, strict=True):
                dense = torch.zeros_like(p) if gradient is None else gradient
                of_name.append((dense.to_dense() if dense.is_sparse else dense).detach().flatten())
    return {name: torch.stack(found).unflatten(0, (n, outputs)) for name, found in zip(names, rows, strict=True)}


def undifferentiable(error: RuntimeError) -> InvalidArgument:
    """Return what to raise where autograd's backward pass fails."""
    return InvalidArgument(
        "autograd must be able to differentiate the model",
        got=str(error).strip().splitlines()[0][:200],
        remedy="The same error comes from output.backward().",
    )
