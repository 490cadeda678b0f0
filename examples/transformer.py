"""A small transformer that learns to write Python, trained by Muon; each parameter is routed to the norm that fits it.

    python examples/transformer.py                      # Muon through route
    python examples/transformer.py --optimizer adamw    # for comparison
    python examples/transformer.py --optimizer scion

The text is the source of Python's own standard library, so there is nothing to download.
"""

import argparse
import ast
import inspect
import math

import torch
from torch import Tensor, nn

from steepest.norms import Scaled, Spectral, Split
from steepest.optim import Muon, Routing, Scion, route, scion_rules

WIDTH, HEADS, LAYERS, CONTEXT, BATCH = 128, 4, 2, 64, 16
RATES = {"muon": 0.02, "scion": 0.02, "adamw": 3e-3}


class Block(nn.Module):
    """Attention and a feed-forward layer, each around a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, width) to the same shape."""
        batch, time, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, time, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True
        )  # (batch, heads, time, width/heads)
        x = x + self.out(attended.transpose(1, 2).reshape(x.shape))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Characters to the logits of the next character."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(characters, WIDTH)
        self.position_embedding = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, characters)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time) of character numbers to (batch, time, characters)."""
        x = self.token_embedding(x) + self.position_embedding.weight[: x.shape[1]]
        return self.head(self.norm(self.blocks(x)))


def routing(model: nn.Module) -> Routing:
    """Send q, k and v to a spectral norm of their own each; for the rest take the rules of Scion."""
    qkv = Split(Scaled(Spectral(), by=1.0), parts=3, dim=0)
    return route(model, [("*.qkv.weight", qkv), *scion_rules(model)])


def optimizer_of(name: str, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Return one of the three optimizers."""
    if name == "muon":
        return Muon(routing(model).param_groups(lr), lr=lr)
    if name == "scion":
        return Scion(model, lr=lr)
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)


def train(name: str, steps: int, lr: float, seed: int = 0) -> tuple[float, float]:
    """Train on nine tenths of the text; return the validation loss, in nats a character, before and after."""
    text = "".join(inspect.getsource(module) for module in (argparse, ast, inspect))
    characters = sorted(set(text))
    data = torch.tensor([characters.index(c) for c in text])
    split = len(data) * 9 // 10
    training, validation = data[:split], data[split:]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Transformer(len(characters))
    generator = torch.Generator().manual_seed(seed)
    optimizer = optimizer_of(name, model, lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)

    def loss_on(source: Tensor, generator: torch.Generator, batch: int) -> Tensor:
        start = torch.randint(len(source) - CONTEXT, (batch, 1), generator=generator)
        window = source[start + torch.arange(CONTEXT + 1)]
        return nn.functional.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())

    def validate() -> float:
        with torch.no_grad():
            return float(loss_on(validation, torch.Generator().manual_seed(0), batch=128))

    before = validate()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_on(training, generator, BATCH).backward()
        optimizer.step()
        scheduler.step()
    return before, validate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", choices=RATES, default="muon")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float)
    given = parser.parse_args()
    if given.optimizer == "muon":
        print(routing(Transformer(100)), "\n")
    before, after = train(given.optimizer, given.steps, given.lr or RATES[given.optimizer])
    print(f"{given.optimizer}: validation loss {before:.3f} -> {after:.3f} nats a character in {given.steps} steps")
