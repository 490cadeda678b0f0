"""Embeddings: the rows of a table."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steepest.linearize._factors import Factor, Lookup
from steepest.linearize._trace.layout import Layout
from steepest.linearize._trace.record import CallRecorder, LayerRule, Slot, Use, alias
from steepest.linearize._trace.rules.affine import positions_last, rule

__all__ = ["EMBEDDING"]


def _embedding(
    recorder: CallRecorder,
    weight: Any,
    indices: Any,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    slot = recorder.slot(weight)
    if slot is None or scale_grad_by_freq:  # gradients scaled by frequencies are those of no function
        return NotImplemented
    key = recorder.begins("embedding", slot)
    if key is None:
        if padding_idx >= 0 or slot.index is not None:
            return NotImplemented
        # No example has an index of its own (positions, for one): the result is a part of the table.
        result = torch.embedding(weight, indices)
        width = weight.shape[1]
        places = indices[..., None] * width + torch.arange(width, device=indices.device)
        recorder.gathered(result, Slot(slot.name, places.flatten()))
        return result
    del sparse
    output = torch.embedding(alias(weight), indices, padding_idx)
    length = weight.shape[0]

    def build(cotangents: Tensor, layout: Layout, n: int) -> Factor:
        index = positions_last(indices[..., None], layout, n).squeeze(2)
        if padding_idx >= 0:
            cotangents = cotangents * (index != padding_idx)[:, None, :, None]
        return Lookup(index, cotangents, length)

    return recorder.ends(key, output, indices.ndim, [Use(slot, build)])


EMBEDDING: dict[Any, LayerRule] = {torch.embedding: rule(_embedding)}
