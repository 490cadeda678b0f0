"""Gradients where there are none: estimators of the gradient of an objective, from its values or by backpropagation."""

from steepest.estimators._baseline import Baseline
from steepest.estimators._estimate import Estimate, Point
from steepest.estimators._finite_difference import FiniteDifference
from steepest.estimators._named import SOURCES, resolve_source
from steepest.estimators._objective import Objective, batched, pointwise
from steepest.estimators._pathwise import Backprop, Pathwise
from steepest.estimators._score_function import ScoreFunction
from steepest.estimators._source import GradientSource, needs_autograd

__all__ = [
    "SOURCES",
    "Backprop",
    "Baseline",
    "Estimate",
    "FiniteDifference",
    "GradientSource",
    "Objective",
    "Pathwise",
    "Point",
    "ScoreFunction",
    "batched",
    "needs_autograd",
    "pointwise",
    "resolve_source",
]
