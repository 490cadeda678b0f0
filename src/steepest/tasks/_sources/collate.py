"""The function that makes a batch of items, and errors that come from worker processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import get_worker_info

from steepest._contained import last_line
from steepest.errors import SteepestError, TaskError

__all__ = ["Collate", "Failure", "of_worker", "unfailed"]


@dataclass(frozen=True)
class Failure:
    """An error in a worker process, as it is sent to this one."""

    rule: str
    got: str
    remedy: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return the failure of an error."""
        if isinstance(error, _CollateError):
            return cls(error.rule, error.line, error.remedy)
        return cls("the data must be readable in a worker process", last_line(error), "Try num_workers=0 first.")


def unfailed(batch: Any) -> Any:
    """Return a batch.

    Raises:
        TaskError: If it is the failure of a worker process.
    """
    if isinstance(batch, Failure):
        raise TaskError(batch.rule, got=batch.got, remedy=batch.remedy)
    return batch


class _CollateError(TaskError):
    """What a collate function has raised."""

    def __init__(self, rule: str, line: str, remedy: str) -> None:
        super().__init__(rule, got=line, remedy=remedy)
        self.rule, self.line, self.remedy = rule, line, remedy


class Collate:
    """A collate function whose errors say that it was this function that failed.

    Args:
        field: Whose items they are, "train" or "valid".
        function: collate(items) -> the batch.
        is_own: Whether it is the user's own, and not torch's.
    """

    def __init__(self, field: str, function: Callable[[list[Any]], Any], *, is_own: bool) -> None:
        self._field, self._function, self._is_own = field, function, is_own

    def __call__(self, items: list[Any]) -> Any:
        try:
            return self._function(items)
        except SteepestError:
            raise
        except Exception as error:
            found = self._error(error)
            if get_worker_info() is not None:
                return Failure.of(found)
            raise found from error

    def _error(self, error: Exception) -> _CollateError:
        if self._is_own:
            rule = f"collate must make a batch of a list of items of {self._field}"
            return _CollateError(rule, last_line(error), f"Call it by hand: collate([{self._field}[0], ...]).")
        rule = f"the items of {self._field} must be alike, so that torch's default_collate can make a batch of them"
        return _CollateError(rule, last_line(error), "Pass collate=, for example a function that pads them.")


def of_worker(field: str, error: Exception) -> TaskError | None:
    """Return an error that a DataLoader's worker process has sent as the text of a traceback; None for another one."""
    lines = str(error).strip().splitlines()
    if not lines or "in DataLoader worker process" not in lines[0]:
        return None
    remedy = "Try the DataLoader with num_workers=0."
    return TaskError(f"the DataLoader {field} must give batches", got=lines[-1].strip(), remedy=remedy)
