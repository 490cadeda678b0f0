"""Steepest descent for PyTorch in any norm, and a fair trial that tells you which optimizer to use.

The packages are imported by name: `steepest.norms`, `steepest.optim`, `steepest.init`, `steepest.diagnose`,
`steepest.linearize`, `steepest.implicit_bias`, `steepest.tasks`, `steepest.train`, `steepest.compare`,
`steepest.report`.
"""

from steepest._version import __version__
from steepest.errors import (
    Diverged,
    ImportFailed,
    InvalidArgument,
    MissingExtra,
    NonFiniteGradient,
    OutputError,
    SteepestError,
    StorageError,
    TaskError,
    UnknownName,
)

__all__ = [
    "Diverged",
    "ImportFailed",
    "InvalidArgument",
    "MissingExtra",
    "NonFiniteGradient",
    "OutputError",
    "SteepestError",
    "StorageError",
    "TaskError",
    "UnknownName",
    "__version__",
]
