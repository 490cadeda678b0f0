"""Watches a run."""

from steepest.diagnose._displays import GradientNormDisplay, LayerGradientDisplay
from steepest.diagnose._monitor import Monitor

__all__ = ["GradientNormDisplay", "LayerGradientDisplay", "Monitor"]
