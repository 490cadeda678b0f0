"""What each kind of operation knows of its weights' gradients: one file a kind."""

from __future__ import annotations

from typing import Any

from steepest.linearize._record import Rule
from steepest.linearize._rules._convolution import CONVOLUTION
from steepest.linearize._rules._elementwise import ELEMENTWISE
from steepest.linearize._rules._embedding import EMBEDDING
from steepest.linearize._rules._linear import LINEAR
from steepest.linearize._rules._normalization import NORMALIZATION

__all__ = ["RULES"]

RULES: dict[Any, Rule] = {**LINEAR, **CONVOLUTION, **NORMALIZATION, **EMBEDDING, **ELEMENTWISE}
"""By torch function."""
