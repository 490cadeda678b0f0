"""Which modules are weight layers, norm layers and composites, and what is known of them without a trace."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList

from steepest._layers import EMBEDDINGS

__all__ = [
    "RECURRENT",
    "closing_layers",
    "is_composite",
    "is_leaf",
    "is_norm",
    "is_transformers_conv1d",
    "is_weight_layer",
    "unwrapped",
]

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
"""The layers whose weights hold gates."""
_WEIGHTED = (nn.Linear, nn.Bilinear, _ConvNd, nn.MultiheadAttention)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _NormBase)
_COMPOSITES = (
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
    nn.Transformer,
)


def is_transformers_conv1d(module: nn.Module) -> bool:
    """Return whether a module is Hugging Face's Conv1D, a linear layer whose weight is inputs x outputs."""
    return any(kind.__name__ == "Conv1D" for kind in type(module).__mro__) and hasattr(module, "nf")


def is_weight_layer(module: nn.Module) -> bool:
    """Return whether a module multiplies by a weight that a scheme fills, embeddings apart."""
    return isinstance(module, (*_WEIGHTED, *RECURRENT)) or is_transformers_conv1d(module)


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a norm layer: torch's, or one with "Norm" in its class name and a vector as weight."""
    if isinstance(module, _NORMS):
        return True
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return weight is not None and weight.ndim == 1 and "Norm" in type(module).__name__


def is_composite(module: nn.Module) -> bool:
    """Return whether a module is one of torch's transformer modules, whose forward cannot be followed but is known."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in _COMPOSITES)


def is_leaf(module: nn.Module) -> bool:
    """Return whether a module is one step of a trace, of which nothing inside is followed."""
    known = is_weight_layer(module) or is_norm(module) or is_composite(module)
    return known or isinstance(module, (*EMBEDDINGS, nn.PReLU, ParametrizationList))


def closing_layers(module: nn.Module) -> list[nn.Module]:
    """Return the last layer of each residual branch of one of torch's transformer modules; none of another."""
    if not is_composite(module):
        return []
    found: list[nn.Module] = []
    for inner in module.modules():
        if isinstance(inner, nn.TransformerEncoderLayer):
            found += [inner.self_attn.out_proj, inner.linear2]
        elif isinstance(inner, nn.TransformerDecoderLayer):
            found += [inner.self_attn.out_proj, inner.multihead_attn.out_proj, inner.linear2]
    return found


_WRAPPERS = {"OptimizedModule": "_orig_mod", "DistributedDataParallel": "module", "DataParallel": "module"}


def unwrapped(model: nn.Module) -> nn.Module:
    """Return what `torch.compile` or a data-parallel module wraps: it computes the same."""
    while type(model).__name__ in _WRAPPERS:
        model = getattr(model, _WRAPPERS[type(model).__name__])
    return model
