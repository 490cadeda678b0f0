"""Geometry: a norm, its dual norm, its duality map, the steps they give, and the certificate of any step."""

from steepest.norms._blockwise import Blockwise
from steepest.norms._ellipsoid import Ellipsoid
from steepest.norms._flattened import Flattened
from steepest.norms._kullback_leibler import KullbackLeibler
from steepest.norms._lp import Lp
from steepest.norms._norm import Distance, Norm
from steepest.norms._polar.factor import polar_factor
from steepest.norms._polar.products import ProductSpeed, product_speed
from steepest.norms._power import Power
from steepest.norms._rows import MaxColumn, MaxRow
from steepest.norms._scaled import Scaled
from steepest.norms._schatten import Nuclear, Schatten
from steepest.norms._spectral import Spectral
from steepest.norms._split import Split
from steepest.norms._steps import constrained_step, duality_gap, objective, penalized_step
from steepest.norms._vector import L1, L2, LInf

__all__ = [
    "L1",
    "L2",
    "Blockwise",
    "Distance",
    "Ellipsoid",
    "Flattened",
    "KullbackLeibler",
    "LInf",
    "Lp",
    "MaxColumn",
    "MaxRow",
    "Norm",
    "Nuclear",
    "Power",
    "ProductSpeed",
    "Scaled",
    "Schatten",
    "Spectral",
    "Split",
    "constrained_step",
    "duality_gap",
    "objective",
    "penalized_step",
    "polar_factor",
    "product_speed",
]
