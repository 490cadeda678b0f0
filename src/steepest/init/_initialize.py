"""`initialize`: every parameter of a model filled by a scheme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Generator, nn

from steepest._check import instance
from steepest._importing import load_attribute, loading
from steepest.errors import UnknownName
from steepest.init._arguments import check_model
from steepest.init._initializer import Initializer
from steepest.init._schemes.basic import Constant, Default, Normal, Zero
from steepest.init._schemes.by_fan import He, Orthogonal, Xavier
from steepest.init._schemes.lsuv import LSUV
from steepest.init._table import InitTable

__all__ = ["SCHEMES", "initialize", "resolve_scheme"]

SCHEMES: dict[str, type[Initializer]] = {
    "zero": Zero,
    "constant": Constant,
    "random": Normal,
    "normal": Normal,
    "he": He,
    "xavier": Xavier,
    "orthogonal": Orthogonal,
    "lsuv": LSUV,
    "default": Default,
}
"""Every scheme that has a name, made with its default options; lsuv gets its data at the call."""


def resolve_scheme(scheme: str | Initializer) -> Initializer:
    """Return the scheme of that name, the one at `module:attribute` or `file.py:attribute`, or the scheme given.

    Raises:
        UnknownName: If there is no scheme of that name.
        ImportFailed: If `module:attribute` cannot be imported.
        InvalidArgument: If it is no scheme.

    >>> resolve_scheme("random")
    Normal(std=0.01)
    """
    if isinstance(scheme, Initializer):
        return scheme
    if ":" in instance("scheme", scheme, str, "the name of a scheme, or a scheme", remedy='Try "he".'):
        found = load_attribute(scheme)
        with loading(scheme, f"the scheme {scheme}"):
            made = found() if isinstance(found, type) else found
        remedy = "Derive it from steepest.init.Initializer."
        return instance(scheme, made, Initializer, "a scheme, or the class of one", remedy=remedy)
    if scheme not in SCHEMES:
        raise UnknownName.among("init", scheme, SCHEMES, also=", or your own as module:attribute or file.py:attribute")
    return SCHEMES[scheme]()


def initialize(
    model: nn.Module,
    scheme: str | Initializer,
    generator: Generator | None = None,
    data: Any = None,
    *,
    biases: Literal["zero", "keep"] = "zero",
    depth_scaled: bool = False,
    frozen: Sequence[str] = (),
) -> InitTable:
    """Fill every trainable parameter of a model in place, and return a table of what was done.

    A weight gets the gain of the activation that follows its layer. It is found by running the model once on `data`,
    or without data by following it with symbols (torch.fx), and its submodules one by one where that fails. Shapes,
    sums, scalings, norm layers, pooling and dropout in between are skipped; a layer whose output meets the next layer,
    a softmax or the model's end first has gain 1. Where the activation is not known, or there are several, the table
    says so and which gain was used. Neither the run nor the trace changes anything else in the model, or the global
    random number generators.

    | parameter                                     | start                                                       |
    |-----------------------------------------------|-------------------------------------------------------------|
    | weights and kernels                           | the scheme's, by the fans and the gain of their layer       |
    | fused projections, gates of recurrent layers  | the scheme's, part by part                                  |
    | Embedding, EmbeddingBag, weights tied to one  | N(0, 1/dimension) unless the scheme fixes it; padding row 0 |
    | norm layers                                   | weight 1, bias 0                                            |
    | biases                                        | 0, or as they are                                           |
    | weights with a parametrization                | the scheme's, through its inverse, if it has one            |
    | weights behind a weight_norm or spectral_norm | the scheme's, through what they are computed from           |
    | others (class tokens, layer scales)           | as the model made them                                      |
    | frozen, or with requires_grad=False           | not touched                                                 |

    A linear layer is a fused one if its outputs are three times its inputs and it is called qkv, Wqkv, in_proj, c_attn
    or query_key_value. A fan of a transposed convolution is counted as `fan_in` = inputs / groups * kernel / stride.

    Args:
        model: Any module with parameters; it stays on its device. Of a sharded model, each process fills its part of
            the same tensors, if all processes have the same seed.
        scheme: A scheme, or a name in `SCHEMES`.
        generator: The source of randomness, on any device: its device and seed decide the numbers, on any device of the
            model. None uses a private one on the CPU, seed 0.
        data: One batch of the model's inputs: a tensor, a tuple of inputs, or a dict of them by keyword.
        biases: "zero", or "keep" for as the model made them (those of norm layers are 0 in any case).
        depth_scaled: Whether to multiply the last weight of each residual branch by 1/sqrt(number of residual branches
            along the stream), as GPT-2 does.
        frozen: Further parameters to leave unchanged: names of parameters or modules, or patterns as in a shell.

    Returns:
        A table with one row per parameter: rule, fan, gain, standard deviation asked and measured.

    Raises:
        UnknownName: If there is no scheme of that name, or a name in `frozen` is no parameter's or module's.
        InvalidArgument: If the model has no parameters, or some without memory (lazy, meta); if data do not fit the
            model or are missing; if a weight has no fan that the scheme asks for; if no residual branch is found.

    >>> model = nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 10))
    >>> table = initialize(model, "he")
    >>> table["0.weight"].rule, table["0.weight"].std_asked
    ('He fan_in=50, relu', 0.2)
    >>> table["2.weight"].rule, round(table["2.weight"].std_asked, 4)
    ('He fan_in=50, no activation', 0.1414)

    Warns:
        UserWarning: If a weight could not be filled, such as zeros behind a spectral norm.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), for `depth_scaled`.
    """
    initializer = resolve_scheme(scheme)
    check_model(model)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    if data is None and depth_scaled is False and biases == "zero" and frozen == ():
        return initializer(model, generator)  # so that a user's scheme need not know the options
    return initializer(model, generator, data, biases=biases, depth_scaled=depth_scaled, frozen=frozen)
