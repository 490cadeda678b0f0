"""Where an optimizer lands: which solution it chooses of many, with a certificate, or that nothing determines it."""

from steepest.landing._claim import Certificate
from steepest.landing._displays import LossDisplay, SensitivityDisplay, TrajectoryDisplay
from steepest.landing._effective_preconditioner import effective_preconditioner
from steepest.landing._epoch_adam import EpochAdam
from steepest.landing._gradient_descent import GradientDescent, Preconditioned, RescaledFeatures
from steepest.landing._landing import Landing, certify, predict, predict_batch
from steepest.landing._mirror_descent import MirrorDescent
from steepest.landing._norm_steepest import NormSteepest
from steepest.landing._potentials import Entropy, Hypentropy, PNorm, Potential
from steepest.landing._rule import Rule
from steepest.landing._schedules import inverse_square_root
from steepest.landing._sensitivity import sensitivity
from steepest.landing._sign_descent import SignDescent
from steepest.landing._simulate import Simulation, simulate
from steepest.landing._spread import Spread
from steepest.landing._survey import RULES, Surveyed, survey
from steepest.landing._two_cycle import two_cycle

__all__ = [
    "RULES",
    "Certificate",
    "Entropy",
    "EpochAdam",
    "GradientDescent",
    "Hypentropy",
    "Landing",
    "LossDisplay",
    "MirrorDescent",
    "NormSteepest",
    "PNorm",
    "Potential",
    "Preconditioned",
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
