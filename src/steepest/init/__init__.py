"""Initialisation of whole models."""

from steepest.init._activations import Activation
from steepest.init._fill.fill import Fill
from steepest.init._initialize import SCHEMES, initialize, resolve_scheme
from steepest.init._initializer import Initializer
from steepest.init._layers.layer import Layer
from steepest.init._schemes.basic import Constant, Default, Normal, Zero
from steepest.init._schemes.by_fan import He, Orthogonal, Xavier
from steepest.init._schemes.lsuv import LSUV
from steepest.init._table import InitRow, InitTable

__all__ = [
    "LSUV",
    "SCHEMES",
    "Activation",
    "Constant",
    "Default",
    "Fill",
    "He",
    "InitRow",
    "InitTable",
    "Initializer",
    "Layer",
    "Normal",
    "Orthogonal",
    "Xavier",
    "Zero",
    "initialize",
    "resolve_scheme",
]
