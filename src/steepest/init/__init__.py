"""How a whole model starts."""

from steepest.init._initialize import initialize
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
]
