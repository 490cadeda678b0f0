"""The meaning of each torch function for the layer in front of it."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from steepest.init._activations import Activation, activation_of_call
from steepest.init._graph.graph import Op

__all__ = ["name_of", "operation"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_THROUGH = _words("""
    view reshape flatten unflatten ravel transpose permute t T mT H mH adjoint movedim moveaxis swapaxes swapdims
    squeeze unsqueeze expand expand_as repeat repeat_interleave tile contiguous clone detach data real to type
    type_as float half double bfloat16 cuda cpu cat concat concatenate stack hstack vstack dstack roll flip rot90
    unfold fold pad constant_pad_nd reshape_as view_as broadcast_to requires_grad dropout dropout1d dropout2d
    dropout3d alpha_dropout feature_dropout feature_alpha_dropout layer_norm batch_norm group_norm instance_norm
    rms_norm local_response_norm normalize mean sum amax max nanmean cumsum interpolate upsample upsample_nearest
    upsample_bilinear pixel_shuffle pixel_unshuffle channel_shuffle neg negative positive sub subtract rsub isub
    masked_fill nan_to_num lerp grid_sample tril triu diagonal checkpoint
""")
_PIECES = _words(
    "getitem select narrow index_select gather take_along_dim chunk split split_with_sizes tensor_split unbind "
    "unsafe_chunk unsafe_split hsplit vsplit dsplit slice"
)
_ADD = _words("add radd iadd")
_MULTIPLY = _words("mul rmul imul multiply div divide true_divide truediv rtruediv itruediv rdiv idiv")
_MIX = _words("""
    matmul rmatmul imatmul mm bmm mv dot vdot inner outer einsum addmm addmv addbmm baddbmm tensordot chain_matmul
    softmax log_softmax softmin gumbel_softmax scaled_dot_product_attention multi_head_attention_forward linear bilinear
    conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d embedding embedding_bag
    cross_entropy binary_cross_entropy binary_cross_entropy_with_logits kl_div logsumexp argmax argmin topk sort argsort
    cdist pairwise_distance cosine_similarity one_hot multinomial lstm gru rnn_tanh rnn_relu
""")
_ASIDE = _words("""
    size shape dim ndim numel nelement device dtype layout is_cuda stride item tolist len is_floating_point is_complex
    lt le gt ge eq ne lt less greater std var std_mean var_mean norm vector_norm isnan isinf isfinite any all allclose
    equal zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full
    new_tensor arange zeros ones full rand randn finfo assert _assert grad requires_grad is_leaf bool long int grad_fn
""")


def name_of(function: Any) -> str:
    """Return a function's or method's name without underscores at its ends; of a property, the property's.

    >>> import torch
    >>> name_of(torch.Tensor.__iadd__), name_of(torch.Tensor.relu_), name_of(torch.Tensor.shape.__get__)
    ('iadd', 'relu', 'shape')
    """
    if isinstance(function, str):
        return function.strip("_")
    name = str(getattr(function, "__name__", type(function).__name__))
    if name == "__get__":
        name = str(getattr(getattr(function, "__self__", None), "__name__", name))
    return name.strip("_")


def operation(function: Any, positional: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[Op, Activation | None]:
    """Return what a call means: its kind, and the activation if it is a known one.

    A function that is not listed may be an activation: it is UNKNOWN, never silently none.

    Args:
        function: The function, or a method's name.
        positional: Its positional arguments, the tensor first.
        keywords: Its keyword arguments.
    """
    name = name_of(function)
    if function is builtins.getattr:
        name = str(positional[1])
        if name not in _THROUGH:
            return Op.ASIDE, None
    activation = activation_of_call(name, positional[1:], keywords)
    if activation is not None:
        return (Op.THROUGH, None) if activation.name == "none" else (Op.ACTIVATION, activation)
    if name in _PIECES:
        return Op.PIECE, None
    if name in _THROUGH or "pool" in name:
        return Op.THROUGH, None
    if name in _ADD:
        return Op.ADD, None
    if name in _MULTIPLY:
        return Op.MULTIPLY, None
    if name in _MIX or name.endswith("_loss"):
        return Op.MIX, None
    if name in _ASIDE:
        return Op.ASIDE, None
    return Op.UNKNOWN, None
