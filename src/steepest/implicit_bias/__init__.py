"""Where an optimizer ends: which of many solutions it chooses, with a certificate, or that nothing determines it."""

from steepest._schedules import inverse_square_root
from steepest.implicit_bias._displays import LossDisplay, SensitivityDisplay, TrajectoryDisplay
from steepest.implicit_bias._effective_preconditioner import effective_preconditioner
from steepest.implicit_bias._limits.limit import Certificate
from steepest.implicit_bias._potentials import Entropy, Hypentropy, PNorm, Potential
from steepest.implicit_bias._predict import Prediction, certify, predict, predict_batch
from steepest.implicit_bias._rules.epoch_adam import EpochAdam
from steepest.implicit_bias._rules.gradient_descent import GradientDescent, Preconditioned, RescaledFeatures
from steepest.implicit_bias._rules.mirror_descent import MirrorDescent
from steepest.implicit_bias._rules.norm_steepest import NormSteepest
from steepest.implicit_bias._rules.rule import Rule
from steepest.implicit_bias._rules.sign_descent import SignDescent
from steepest.implicit_bias._runs.simulate import Simulation, simulate
from steepest.implicit_bias._runs.spread import Spread
from steepest.implicit_bias._sensitivity import sensitivity
from steepest.implicit_bias._survey import RULES, Surveyed, survey
from steepest.implicit_bias._two_cycle import two_cycle

__all__ = [
    "RULES",
    "Certificate",
    "Entropy",
    "EpochAdam",
    "GradientDescent",
    "Hypentropy",
    "LossDisplay",
    "MirrorDescent",
    "NormSteepest",
    "PNorm",
    "Potential",
    "Preconditioned",
    "Prediction",
    "RescaledFeatures",
    "Rule",
    "SensitivityDisplay",
    "SignDescent",
    "Simulation",
    "Spread",
    "Surveyed",
    "TrajectoryDisplay",
    "certify",
    "effective_preconditioner",
    "inverse_square_root",
    "predict",
    "predict_batch",
    "sensitivity",
    "simulate",
    "survey",
    "two_cycle",
]
