"""Geometry: a norm, its dual norm, its duality map, and the steps they give."""

from steepest.norms._flattened import Flattened
from steepest.norms._norm import Norm
from steepest.norms._polar import polar_factor
from steepest.norms._scaled import Scaled
from steepest.norms._spectral import Spectral
from steepest.norms._steps import constrained_step, constrained_steps, penalized_step
from steepest.norms._vector import L2, LInf

__all__ = [
    "L2",
    "Flattened",
    "LInf",
    "Norm",
    "Scaled",
    "Spectral",
    "constrained_step",
    "constrained_steps",
    "penalized_step",
    "polar_factor",
]
