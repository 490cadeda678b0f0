"""Gradients where there are none: estimators of the gradient of an objective, from its values or by backpropagation."""

from steepest.estimators._audit import FAULTS, Audit, audit
from steepest.estimators._baseline import Baseline
from steepest.estimators._choose import choose
from steepest.estimators._choosing.choice import Choice
from steepest.estimators._estimate import Estimate, Point
from steepest.estimators._finite_difference import FiniteDifference
from steepest.estimators._named import SOURCES, resolve_source
from steepest.estimators._objective import Objective, batched, pointwise
from steepest.estimators._pathwise import Backprop, Pathwise
from steepest.estimators._questions.ascent import Ascent
from steepest.estimators._questions.delta import DeltaEffect, delta_effect
from steepest.estimators._questions.efficiency import SampleEfficiency, sample_efficiency
from steepest.estimators._questions.step_size import StepSizeEffect, step_size_effect
from steepest.estimators._questions.straight import Straightness, straightness
from steepest.estimators._questions.terms import ScoreFunctionTerms, score_function_terms
from steepest.estimators._questions.zero import ZeroGradient, zero_gradient
from steepest.estimators._score_function import ScoreFunction
from steepest.estimators._source import GradientSource, needs_autograd

__all__ = [
    "FAULTS",
    "SOURCES",
    "Ascent",
    "Audit",
    "Backprop",
    "Baseline",
    "Choice",
    "DeltaEffect",
    "Estimate",
    "FiniteDifference",
    "GradientSource",
    "Objective",
    "Pathwise",
    "Point",
    "SampleEfficiency",
    "ScoreFunction",
    "ScoreFunctionTerms",
    "StepSizeEffect",
    "Straightness",
    "ZeroGradient",
    "audit",
    "batched",
    "choose",
    "delta_effect",
    "needs_autograd",
    "pointwise",
    "resolve_source",
    "sample_efficiency",
    "score_function_terms",
    "step_size_effect",
    "straightness",
    "zero_gradient",
]
