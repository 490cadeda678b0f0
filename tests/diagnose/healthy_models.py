"""Models that only healthy runs use."""

from __future__ import annotations

import torch
from tests.diagnose.models import Block, Transformer
from torch import Tensor, nn


class Adapter(nn.Module):
    """A base and, beside its first layers, a low-rank branch B A x whose B starts at zero."""

    def __init__(self, inputs: int, rank: int = 8) -> None:
        super().__init__()
        self.base = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.down = nn.ModuleList([nn.Linear(inputs, rank, bias=False), nn.Linear(64, rank, bias=False)])
        self.up = nn.ModuleList([nn.Linear(rank, 64, bias=False), nn.Linear(rank, 64, bias=False)])
        self.out = nn.ModuleList([nn.Linear(64, rank, bias=False), nn.Linear(rank, 10, bias=False)])
        for layer in [*self.up, self.out[1]]:
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        first, act, second, _, last = self.base
        x = act(first(x) + self.up[0](self.down[0](x)))
        x = act(second(x) + self.up[1](self.down[1](x)))
        return last(x) + self.out[1](self.out[0](x))


class Autoencoder(nn.Module):
    """Down to eight numbers and up again."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 8))
        self.up = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


class Experts(nn.Module):
    """A balanced router sends each example to one of sixteen experts: each gets some, and none in some steps."""

    def __init__(self, inputs: int, count: int = 16) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, 32)
        self.router = nn.Linear(32, count)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)) for _ in range(count)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        wishes = self.router(x)
        shares = ((wishes - wishes.mean(0)) / (wishes.std(0) + 1e-3)).softmax(-1)
        share, chosen = shares.max(-1)
        out = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            rows = (chosen == k).nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, share[rows, None] * expert(x[rows]))
        return self.head(x + out)


class Recurrent(nn.Module):
    """An LSTM or a GRU that predicts next tokens, or reads patches and gives one answer."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], inputs: int, tokens: bool = True) -> None:
        super().__init__()
        self.tokens = tokens
        self.embed: nn.Module = nn.Embedding(inputs, 32) if tokens else nn.Linear(inputs, 32)
        self.cell = cell(32, 48, batch_first=True)
        self.head = nn.Linear(48, inputs if tokens else 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cell(self.embed(x))
        return self.head(states if self.tokens else states[:, -1])


class Residual(nn.Module):
    """Residual branches of two layers; the last layer of each, or its norm's scale, starts at zero."""

    def __init__(self, inputs: int, image: bool, norm: bool, depth: int = 4, width: int = 32) -> None:
        super().__init__()

        def layer(before: int, after: int, stride: int = 1) -> nn.Module:
            return nn.Conv2d(before, after, 3, stride, padding=1) if image else nn.Linear(before, after)

        def normed(count: int) -> nn.Module:
            if not norm:
                return nn.Identity()
            return nn.BatchNorm2d(count) if image else nn.LayerNorm(count)

        self.stem = layer(inputs, width, 2)
        self.branches = nn.ModuleList(
            nn.Sequential(layer(width, width), normed(width), nn.ReLU(), layer(width, width), normed(width))
            for _ in range(depth)
        )
        for branch in self.branches:
            last = branch[-1] if norm else branch[-2]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        for branch in self.branches:
            x = (x + branch(x)).relu()
        return self.head(x.amax((2, 3)) if x.dim() == 4 else x)


def zero_branches(model: nn.Module) -> None:
    """In every block of a transformer the layers that write to the stream start at zero."""
    assert isinstance(model, Transformer)
    for block in model.blocks:
        assert isinstance(block, Block)
        for layer in (block.out, block.fc2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
