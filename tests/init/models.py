"""Models that the tests of this package share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def course_network(inputs: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(inputs, 50), nn.ReLU()]
    for _ in range(9):
        layers += [nn.Linear(50, 50), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(50, 10))


class Everything(nn.Module):
    """A layer of every kind that the schemes know, and one parameter that they do not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(30, 40)
        self.bilinear = nn.Bilinear(6, 7, 8)
        self.conv = nn.Conv2d(8, 16, 3)
        self.conv1d = nn.Conv1d(8, 16, 5, groups=2)
        self.transposed = nn.ConvTranspose2d(8, 8, 3)
        self.embedding = nn.Embedding(200, 25, padding_idx=3)
        self.bag = nn.EmbeddingBag(100, 16)
        self.attention = nn.MultiheadAttention(32, 4)
        self.cross_attention = nn.MultiheadAttention(32, 4, kdim=16, vdim=24, add_bias_kv=True)
        self.gru = nn.GRU(20, 30, num_layers=2, bidirectional=True)
        self.lstm = nn.LSTM(20, 30, proj_size=10)
        self.rnn = nn.RNN(20, 30)
        self.cell = nn.GRUCell(20, 30)
        self.layer_norm = nn.LayerNorm(12)
        self.group_norm = nn.GroupNorm(2, 12)
        self.batch_norm = nn.BatchNorm1d(12)
        self.instance_norm = nn.InstanceNorm2d(12, affine=True)
        self.rms_norm = nn.RMSNorm(12)
        self.own_norm = OwnNorm(12)
        self.bare = nn.Parameter(torch.randn(7, 3))


NORM_LAYERS = ["layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm", "own_norm"]


class OwnNorm(nn.Module):
    """As users write them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size))
        self.bias = nn.Parameter(torch.rand(size))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True)) * self.weight + self.bias


class Conv1D(nn.Module):
    """Hugging Face's linear layer: the weight is inputs x outputs."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x):
        return torch.addmm(self.bias, x.reshape(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


class Block(nn.Module):
    """A GPT-2 block, its attention written out."""

    def __init__(self, width: int, heads: int = 2, length: int = 16) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.c_fc = nn.Linear(width, 4 * width)
        self.out = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(0.1)
        self.heads = heads
        self.register_buffer("mask", torch.tril(torch.ones(length, length)))

    def attend(self, x):
        batch, length, width = x.size()
        shape = (batch, length, self.heads, width // self.heads)
        q, k, v = self.c_attn(x).split(width, dim=2)
        q, k, v = q.view(*shape).transpose(1, 2), k.view(*shape).transpose(1, 2), v.view(*shape).transpose(1, 2)
        scores = (q @ k.transpose(-2, -1)) * (1.0 / k.size(-1) ** 0.5)
        scores = scores.masked_fill(self.mask[:length, :length] == 0, float("-inf"))
        mixed = (self.dropout(F.softmax(scores, dim=-1)) @ v).transpose(1, 2).contiguous().view(batch, length, width)
        return self.dropout(self.c_proj(mixed))

    def forward(self, x):
        x = x + self.attend(self.ln_1(x))
        return x + self.dropout(self.out(F.gelu(self.c_fc(self.ln_2(x)))))


class GPT(nn.Module):
    """A small GPT with tied embeddings, an assert and optional targets."""

    def __init__(self, width: int = 8, depth: int = 3, words: int = 20) -> None:
        super().__init__()
        self.wte = nn.Embedding(words, width)
        self.wpe = nn.Embedding(16, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, words, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, idx, targets=None):
        _, length = idx.size()
        assert length <= 16, f"{length} is too long"
        x = self.wte(idx) + self.wpe(torch.arange(0, length, device=idx.device))
        for block in self.blocks:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        if targets is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class ResidualConv(nn.Module):
    """A ResNet block; with stride 2 its shortcut is projected."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else None

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.shortcut is None else self.shortcut(x)
        return self.relu(out)


def resnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        ResidualConv(8, 8), ResidualConv(8, 16, 2), ResidualConv(16, 16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def made(build, *args, **kwargs):
    """Build a model with the same weights each time, the global generator left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return build(*args, **kwargs)


def noise(*shape: int, seed: int = 100, dtype=torch.float32) -> torch.Tensor:
    """Return normal numbers: not those of seed 0, which the weights get."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
