"""Small models in which a fault can be planted: perceptrons, convolutional nets and transformers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Edit = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, tuple[type[nn.Module], Edit]] = {
    "relu": (nn.ReLU, F.relu),
    "gelu": (nn.GELU, F.gelu),
    "silu": (nn.SiLU, F.silu),
    "tanh": (nn.Tanh, torch.tanh),
    "sigmoid": (nn.Sigmoid, torch.sigmoid),
    "leaky": (nn.LeakyReLU, F.leaky_relu),
    "hardtanh": (nn.Hardtanh, F.hardtanh),
}


def activation(name: str, functional: bool) -> Edit:
    """An activation as a module of its own, or as a plain function that no module hook can see."""
    module, function = ACTIVATIONS[name]
    return function if functional else module()


class Editable(nn.Module):
    """A model whose forward has named places, input, middle, features and output, where a plain function may be put."""

    def __init__(self) -> None:
        super().__init__()
        self.edits: dict[str, Edit] = {}
        self.hidden: list[tuple[str, str]] = []  # names of a layer of hidden units and of the layer that reads them

    def edit(self, place: str, x: Tensor) -> Tensor:
        return self.edits[place](x) if place in self.edits else x


class Apply(nn.Module):
    """A plain function as a module, for nn.Sequential."""

    def __init__(self, function: Edit) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def put(model: nn.Module, place: str, function: Edit) -> None:
    """Put a function into the forward of a model; a Sequential gets a module more."""
    if isinstance(model, Editable):
        model.edits[place] = function
        return
    assert isinstance(model, nn.Sequential)
    parts = list(model)
    heads = [i for i, part in enumerate(parts) if isinstance(part, nn.Linear | nn.Conv2d)]
    position = {"input": 0, "middle": heads[len(heads) // 2], "features": heads[-1], "output": len(parts)}[place]
    model.insert(position, Apply(function))


def hidden_layers(model: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Pairs of a layer with hidden units and the layer that reads them (after the activation), from the input on."""
    if isinstance(model, Editable):
        return [(model.get_submodule(a), model.get_submodule(b)) for a, b in model.hidden]
    layers = [part for part in model.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return list(itertools.pairwise(layers))


class Perceptron(Editable):
    """Linear layers of one width, with or without norms, skips, dropout; tied=True uses one layer again and again."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        act: str = "relu",
        norm: str = "none",
        functional: bool = False,
        skip: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        tied: bool = False,
    ) -> None:
        super().__init__()
        first = [nn.Linear(inputs, width)]
        shared = nn.Linear(width, width)
        self.layers = nn.ModuleList(first + [shared if tied else nn.Linear(width, width) for _ in range(depth - 1)])
        kinds = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        self.norms = nn.ModuleList(kinds[norm](width) for _ in range(depth)) if norm != "none" else None
        self.act = activation(act, functional)
        self.dropout = dropout
        self.skip = skip
        self.head = nn.Linear(width, outputs, bias=bias)
        names = [f"layers.{i}" for i in range(depth)] + ["head"]
        self.hidden = list(itertools.pairwise(names))

    def forward(self, x: Tensor) -> Tensor:
        x = self.edit("input", x)
        for i, layer in enumerate(self.layers):
            if i == len(self.layers) // 2:
                x = self.edit("middle", x)
            out = layer(x)
            if self.norms is not None:
                out = self.norms[i](out)
            out = self.act(out)
            if self.dropout:
                out = F.dropout(out, self.dropout, self.training)
            x = x + out if self.skip and i else out
        return self.edit("output", self.head(self.edit("features", x)))


class ConvNet(Editable):
    """Three-by-three convolutions, some with stride two, then a linear head on what is left of the image."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channels: list[int],
        strides: list[int],
        side: int,
        act: str = "relu",
        norm: str = "none",
        functional: bool = False,
        skip: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for before, after, stride in zip([inputs, *channels], channels, strides, strict=False):
            last = self.layers[-1] if self.layers else None
            same = tied and last is not None and stride == last.stride[0] == 1 and last.in_channels == after
            self.layers.append(last if same else nn.Conv2d(before, after, 3, stride, padding=1))
            side = (side - 1) // stride + 1
        kinds = {"batch": nn.BatchNorm2d, "group": lambda c: nn.GroupNorm(4, c)}
        self.norms = nn.ModuleList(kinds[norm](c) for c in channels) if norm != "none" else None
        self.act = activation(act, functional)
        self.dropout = dropout
        self.skip = skip
        self.head = nn.Linear(channels[-1] * side * side, outputs, bias=bias)
        names = [f"layers.{i}" for i in range(len(channels))] + ["head"]
        self.hidden = list(itertools.pairwise(names))

    def forward(self, x: Tensor) -> Tensor:
        x = self.edit("input", x)
        for i, layer in enumerate(self.layers):
            if i == len(self.layers) // 2:
                x = self.edit("middle", x)
            out = layer(x)
            if self.norms is not None:
                out = self.norms[i](out)
            out = self.act(out)
            x = x + out if self.skip and x.shape == out.shape else out
        x = x.flatten(1)
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        return self.edit("output", self.head(self.edit("features", x)))


class Block(nn.Module):
    """A hand-written transformer block: attention and two linear layers, pre-norm, each with a skip connection."""

    def __init__(
        self, width: int, heads: int, act: str, norm: bool, functional: bool, skip: bool, dropout: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width) if norm else None
        self.norm2 = nn.LayerNorm(width) if norm else None
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)
        self.act = activation(act, functional)
        self.skip = skip
        self.dropout = dropout

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        n, length, width = x.shape
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads)
        if mask is not None:
            scores = scores + mask
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.attend(x if self.norm1 is None else self.norm1(x), mask)
        y = F.dropout(y, self.dropout, self.training) if self.dropout else y
        x = x + y if self.skip else y
        y = self.fc2(self.act(self.fc1(x if self.norm2 is None else self.norm2(x))))
        y = F.dropout(y, self.dropout, self.training) if self.dropout else y
        return x + y if self.skip else y


class Transformer(Editable):
    """A transformer that predicts next tokens, or reads image patches and gives one answer for each image."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        length: int,
        width: int,
        depth: int,
        heads: int = 4,
        act: str = "relu",
        norm: str = "layer",
        torch_layers: bool = False,
        functional: bool = True,
        skip: bool = True,
        dropout: float = 0.0,
        bias: bool = True,
        tied: bool = False,
        tokens: bool = True,
        tied_embedding: bool = False,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.embed: nn.Module = nn.Embedding(inputs, width) if tokens else nn.Linear(inputs, width)
        self.position = nn.Parameter((0.02 if tokens else 0.5) * torch.randn(length, width))
        if tokens:
            nn.init.normal_(self.embed.weight, std=0.5)
        if torch_layers:
            act_function = ACTIVATIONS[act][1]
            made: list[nn.Module] = [
                nn.TransformerEncoderLayer(
                    width, heads, 2 * width, dropout, act_function, batch_first=True, norm_first=True
                )
                for _ in range(depth)
            ]
        else:
            made = [Block(width, heads, act, norm == "layer", functional, skip, dropout) for _ in range(depth)]
        self.blocks = nn.ModuleList([made[0]] * depth if tied else made)
        self.norm = nn.LayerNorm(width) if norm == "layer" else nn.Identity()
        self.head = nn.Linear(width, outputs, bias=bias)
        if tied_embedding:
            self.head.weight = self.embed.weight
            nn.init.normal_(self.embed.weight, std=width**-0.5)
        one, two = ("linear1", "linear2") if torch_layers else ("fc1", "fc2")
        self.hidden = [(f"blocks.{i}.{one}", f"blocks.{i}.{two}") for i in range(depth)]
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.edit("input", self.embed(x)) if self.tokens else self.embed(self.edit("input", x))
        x = x + self.position[: x.shape[1]]
        mask = self.mask[: x.shape[1], : x.shape[1]] if self.tokens else None
        for i, block in enumerate(self.blocks):
            if i == len(self.blocks) // 2:
                x = self.edit("middle", x)
            x = block(x, mask)
        x = self.norm(x)
        if not self.tokens:
            x = x.mean(1)
        return self.edit("output", self.head(self.edit("features", x)))


def sequential(model: Perceptron | ConvNet) -> nn.Sequential:
    """Say the same perceptron or convolutional net as an nn.Sequential."""
    parts: list[nn.Module] = []
    for i, layer in enumerate(model.layers):
        parts.append(layer)
        if model.norms is not None:
            parts.append(model.norms[i])
        act = model.act
        parts.append(type(act)() if isinstance(act, nn.Module) else Apply(act))
    if isinstance(model, ConvNet):
        parts.append(nn.Flatten())
    if model.dropout:
        parts.append(nn.Dropout(model.dropout))
    return nn.Sequential(*parts, model.head)


def he(model: nn.Module) -> None:
    """He initialisation of every weight matrix and kernel; biases zero."""
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
