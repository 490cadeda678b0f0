"""Watches a run, and names the cause when it does not train."""

from steepest.diagnose._diagnosis import CAUSES, Diagnosis
from steepest.diagnose._displays import ActivationDisplay, GradientNormDisplay, LayerGradientDisplay
from steepest.diagnose._monitor import Monitor
from steepest.diagnose._statistics import STATISTICS
from steepest.diagnose._summary import SummaryDisplay

__all__ = [
    "CAUSES",
    "STATISTICS",
    "ActivationDisplay",
    "Diagnosis",
    "GradientNormDisplay",
    "LayerGradientDisplay",
    "Monitor",
    "SummaryDisplay",
]
