"""The errors that steepest raises on purpose.

A message is one line: the rule that was broken, the value received, and what to do about it.
The command line prints that line and exits with status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

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
]


class _Nothing:
    """Marks a missing value where None is a value."""


class _Shown(str):
    """A value in words: its repr, without the quotes of a string."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _kept(value: object) -> object:
    """Return a value of a plain type as it is, and of any other type its repr, shortened where it is long.

    So an error keeps no tensor alive, can be sent to another process, and is raised even if the value's repr fails.
    """
    if isinstance(value, (_Nothing, _Shown, str, int, float, complex, type(None))):
        return value
    if type(value) is tuple and all(_kept(item) is item for item in value):
        return value
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__} that cannot be shown"
    return _Shown(text if len(text) <= 200 else f"{text[:160]} ... {text[-30:]}")


class SteepestError(Exception):
    """Base class of all errors raised by steepest.

    Args:
        rule: The rule that was broken, as a clause without a full stop.
        got: The value received, shown in parentheses, shortened if long; leave it out if there is none.
        remedy: What to do, as a sentence.

    >>> str(SteepestError("lr must not be negative", got=-1.0, remedy="Pass lr >= 0."))
    'lr must not be negative (got -1.0). Pass lr >= 0.'
    """

    def __init__(self, rule: str, *, got: object = _Nothing(), remedy: str = "") -> None:
        self.rule, self.got, self.remedy = rule, _kept(got), remedy
        received = "" if isinstance(got, _Nothing) else f" (got {self.got!r})"
        # A rule that quotes another error's message may end with that one's full stop.
        super().__init__(" ".join(f"{(rule + received).rstrip().removesuffix('.')}. {remedy}".split()))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are rebuilt from .args by default; ours cross process borders with their parts.
        return (_rebuild, (type(self), self.rule, self.got, self.remedy))


def _rebuild(kind: type[SteepestError], rule: str, got: object, remedy: str) -> SteepestError:
    return kind(rule, got=got, remedy=remedy)


class InvalidArgument(SteepestError, ValueError):  # noqa: N818 - the names of design.md
    """An argument is outside of its documented range."""


class NoFiniteValue(InvalidArgument):
    """An objective is NaN or infinite at all points at which it was evaluated, so that it has no estimate."""


class UnknownName(InvalidArgument):
    """A name is not among the known ones."""

    @classmethod
    def among(cls, kind: str, name: object, known: Iterable[str], also: str = "") -> UnknownName:
        """Build the error for `name`, suggesting the nearest of the `known` names.

        >>> print(UnknownName.among("optimizer", "adamv", ["adamw", "sgd"]))
        there is no such optimizer (got 'adamv'). Did you mean adamw? Known: adamw, sgd.
        """
        names = list(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) if isinstance(name, str) else []
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        return cls(f"there is no such {kind}", got=name, remedy=f"{hint}Known: {', '.join(names)}{also}.")


class ImportFailed(SteepestError, ImportError):  # noqa: N818
    """A `module:attribute` could not be imported."""


class MissingExtra(SteepestError, ImportError):  # noqa: N818
    """A package of an extra of steepest is not installed; the remedy is the command that installs it."""


class TaskError(SteepestError, ValueError):
    """A task's model, data, loss or metric does not do what training needs."""


class NonFiniteGradient(SteepestError, ArithmeticError):  # noqa: N818
    """A gradient holds NaN or infinity."""


class Diverged(SteepestError, ArithmeticError):  # noqa: N818
    """A run's validation loss is not finite: the run has diverged, and ends."""


class StorageError(SteepestError):
    """A storage of results cannot be opened, or holds another comparison."""


class OutputError(SteepestError, OSError):
    """An output folder or file cannot be written."""


class CommunicationError(SteepestError, RuntimeError):
    """Workers could not exchange what they had to: one did not arrive, or a connection broke."""


class WorkerFailed(SteepestError, RuntimeError):  # noqa: N818
    """A process that was started for the caller has raised an error, or has ended before its time."""


class MembershipChanged(SteepestError, RuntimeError):  # noqa: N818
    """A worker of the group is gone or another one joins: the step under way has to be repeated."""


class GroupLost(SteepestError, RuntimeError):  # noqa: N818
    """A group of workers cannot go on, or has ended without this worker."""


class EvaluationFailed(SteepestError, RuntimeError):  # noqa: N818
    """An objective has raised an error at a point; what it returned before is kept here.

    Attributes:
        values: Its values before, in order, [k]; None where the error comes from another process.
        points: The points of these values, [k, ...] or such tensors by name; None where they were not stored.
        failed: The point at which it failed, in the structure of x.
    """

    values: Tensor | None = None
    points: Any = None
    failed: Any = None
