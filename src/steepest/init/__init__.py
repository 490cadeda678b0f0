"""How a whole model starts."""

from steepest.init._initialize import initialize, resolve_scheme
from steepest.init._schemes import SCHEMES, Default, He, Initializer, Normal, Zero
from steepest.init._table import InitRow, InitTable

__all__ = [
    "SCHEMES",
    "Default",
    "He",
    "InitRow",
    "InitTable",
    "Initializer",
    "Normal",
    "Zero",
    "initialize",
    "resolve_scheme",
]
