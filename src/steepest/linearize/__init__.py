"""A network's linearisation: its Jacobian as tangent features, their kernel, spectrum and principal features."""

from steepest.linearize._adjoint import Adjoint
from steepest.linearize._change import LinearizationChange, compare_linearizations
from steepest.linearize._displays.functions import FeaturesDisplay, FunctionDisplay, PrincipalFeaturesDisplay
from steepest.linearize._displays.kernel import ChangeDisplay, LearningDisplay, SpectrumDisplay
from steepest.linearize._feature_change import RIDGE, FeatureChange, Spectrum
from steepest.linearize._jacobian.check import LinearizationMismatch
from steepest.linearize._labels import Label, Labels
from steepest.linearize._linearization import Linearization
from steepest.linearize._spectrum.plan import Plan
from steepest.linearize._spectrum.svd import SVD
from steepest.linearize._trajectory import Alignment, Trajectory

__all__ = [
    "RIDGE",
    "SVD",
    "Adjoint",
    "Alignment",
    "ChangeDisplay",
    "FeatureChange",
    "FeaturesDisplay",
    "FunctionDisplay",
    "Label",
    "Labels",
    "LearningDisplay",
    "Linearization",
    "LinearizationChange",
    "LinearizationMismatch",
    "Plan",
    "PrincipalFeaturesDisplay",
    "Spectrum",
    "SpectrumDisplay",
    "Trajectory",
    "compare_linearizations",
]
