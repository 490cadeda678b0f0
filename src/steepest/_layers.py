"""Kinds of layers that several packages tell apart."""

from __future__ import annotations

from torch import nn

__all__ = ["EMBEDDINGS"]

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
"""The layers that look rows up."""
