"""The rules for the gradients of each kind of operation's weights: one file per kind."""

from __future__ import annotations

from typing import Any

from steepest.linearize._trace.record import LayerRule
from steepest.linearize._trace.rules.convolution import CONVOLUTION
from steepest.linearize._trace.rules.elementwise import ELEMENTWISE
from steepest.linearize._trace.rules.embedding import EMBEDDING
from steepest.linearize._trace.rules.linear import LINEAR
from steepest.linearize._trace.rules.normalization import NORMALIZATION

__all__ = ["RULES"]

RULES: dict[Any, LayerRule] = {**LINEAR, **CONVOLUTION, **NORMALIZATION, **EMBEDDING, **ELEMENTWISE}
"""By torch function."""
