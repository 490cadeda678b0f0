"""One estimated gradient of a whole model, without backpropagation: time and memory over those of one forward pass.

The model is a transformer block over 4,096 tokens. The perturbations of its parameters are as large as the parameters;
they are drawn again from their seeds where they are needed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.harness import Candidate, Row, Table, interleave, milliseconds, ratio
from benchmarks.memory import peak
from steepest.estimators import Backprop, FiniteDifference, ScoreFunction

WIDTH, HEADS, CONTEXT, BATCH = 512, 8, 1024, 4
ROUNDS = 7
SIGMA = 1e-3

Parameters = dict[str, Tensor]


class Block(nn.Module):
    """Attention and a network of one hidden layer, both behind a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, context, width]."""
        batch, context, _ = x.shape
        heads = self.qkv(self.first(x)).view(batch, context, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, context, WIDTH))
        return x + self.mlp(self.second(x))


def _in_place(loss: Callable[[Parameters], Tensor], x: Parameters) -> Parameters:
    """Return the gradient from one pair along one direction, whose seed is kept, by changing x in place."""
    seed = 0

    def move(scale: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        for each in x.values():
            each.add_(torch.randn(each.shape, generator=generator), alpha=scale)

    move(SIGMA)
    up = loss(x)
    move(-2 * SIGMA)
    down = loss(x)
    move(SIGMA)
    slope, generator = float(up - down) / (2 * SIGMA), torch.Generator().manual_seed(seed)
    return {name: torch.randn(each.shape, generator=generator).mul_(slope) for name, each in x.items()}


def run() -> Table:
    torch.manual_seed(0)
    model, data = Block(), torch.randn(BATCH, CONTEXT, WIDTH)
    x = {name: each.detach() for name, each in model.named_parameters()}
    size = sum(each.numel() * each.element_size() for each in x.values())

    def loss(parameters: Parameters) -> Tensor:
        return functional_call(model, parameters, (data,)).square().mean()

    def of(source: Callable[..., object]) -> Callable[[], object]:
        return lambda: source(loss, x, torch.Generator().manual_seed(0))

    forward = "one forward pass"
    calls: dict[str, Callable[[], object]] = {
        forward: torch.no_grad()(lambda: loss(x)),
        "score function, one pair": of(ScoreFunction(SIGMA, 2)),
        "random differences, one pair": of(FiniteDifference(SIGMA, directions="random")),
        "score function, two pairs": of(ScoreFunction(SIGMA, 4)),
        "one pair by hand, parameters changed in place": torch.no_grad()(lambda: _in_place(loss, x)),
        "backpropagation": of(Backprop()),
    }
    goals = {
        "score function, one pair": ("<= 2.2", "<= 1.2"),
        "random differences, one pair": ("<= 2.2", "<= 1.2"),
        "score function, two pairs": ("", "<= 1.2"),
    }
    taken = interleave({name: Candidate(call) for name, call in calls.items()}, ROUNDS)
    held = {name: peak(call) - (0 if name == forward else size) for name, call in calls.items()}
    rows: list[Row] = []
    for name in calls:
        time, memory = goals.get(name, ("", ""))
        rows.append((
            name,
            milliseconds(taken[name].cpu, digits=0),
            ratio(taken[name].cpu, taken[forward].cpu),
            time,
            f"{held[name] / 2**20:.1f}",
            f"{held[name] / held[forward]:.2f}",
            memory,
        ))  # fmt: skip
    count = sum(each.numel() for each in x.values())
    return Table(
        title="An estimated gradient of a transformer block",
        method=f"Width {WIDTH}, {count:,} parameters, {BATCH} sequences of {CONTEXT:,} tokens, float32. CPU time in "
        "turns, medians, and quartiles of the ratios of the same round. Memory: the highest sum of what torch's "
        "allocator gave and took back during a call, without the gradient itself, which is as large as the parameters "
        f"({size / 2**20:.0f} MiB).",
        columns=("call", "ms", "time / forward", "goal", "MiB above the gradient", "memory / forward", "goal"),
        rows=rows,
    )
