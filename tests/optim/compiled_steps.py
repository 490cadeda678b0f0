"""Steps eager and compiled, for test_compile.py: in a process without the shape checks, which no compiler follows."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from steepest.norms import L2
from steepest.optim import Muon, SignDescent, SteepestDescent

MAKERS = {
    "SignDescent": lambda params, lr: SignDescent(
        params, lr, mode="constrained", momentum=0.9, nonfinite="ignore", weight_decay=0.1
    ),
    "L2": lambda params, lr: SteepestDescent(params, L2(), lr, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Muon": lambda params, lr: Muon(params, lr),
}


def trained(make, backend: str | None) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and buffers after three steps, each with another learning rate in the same tensor."""
    torch._dynamo.reset()
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((8, 4), (4, 8), (3, 3))]
    optimizer = make(params, torch.tensor([0.1]))
    step = torch.compile(optimizer.step, backend=backend) if backend else optimizer.step
    for rate in (0.1, 0.03, 0.5):
        for group in optimizer.param_groups:
            group["lr"].fill_(rate)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        step()
    return [p.data for p in params], [optimizer.state[p]["momentum_buffer"] for p in params]


if __name__ == "__main__":
    for name, make in MAKERS.items():
        eager, compiled = trained(make, None), trained(make, sys.argv[1])
        torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=1e-6)
        print(name, "is the same")  # noqa: T201 - what the test reads
