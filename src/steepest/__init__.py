"""Steepest descent for PyTorch in any norm, and a fair trial that tells you which optimizer to use.

The packages are imported by name: `steepest.norms`, `steepest.optim`, `steepest.init`, `steepest.diagnose`,
`steepest.linearize`, `steepest.implicit_bias`, `steepest.communication`, `steepest.estimators`, `steepest.tasks`,
`steepest.train`, `steepest.compare`, `steepest.report`.
"""

from steepest._version import __version__
from steepest.errors import (
    CommunicationError,
    Diverged,
    EvaluationFailed,
    GroupLost,
    ImportFailed,
    InvalidArgument,
    MembershipChanged,
    MissingExtra,
    NoFiniteValue,
    NonFiniteGradient,
    OutputError,
    SteepestError,
    StorageError,
    TaskError,
    UnknownName,
    WorkerFailed,
)

__all__ = [
    "CommunicationError",
    "Diverged",
    "EvaluationFailed",
    "GroupLost",
    "ImportFailed",
    "InvalidArgument",
    "MembershipChanged",
    "MissingExtra",
    "NoFiniteValue",
    "NonFiniteGradient",
    "OutputError",
    "SteepestError",
    "StorageError",
    "TaskError",
    "UnknownName",
    "WorkerFailed",
    "__version__",
]
