"""Bytes on every link, as a heat map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest import _check
from steepest._figure import figure, heatmap
from steepest._series import Array, as_arrays, numbers
from steepest.communication._traffic import Record
from steepest.errors import InvalidArgument

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["LinkTraffic"]

MOST = 1000
"""Processes that a heat map can show."""

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))


@dataclass(frozen=True)
class LinkTraffic:
    """The bytes that each process has sent to each other one.

    Attributes:
        bytes: Payload by sender and receiver, [processes, processes].
        messages: How many messages carried it, [processes, processes].
        names: The names of the processes.
    """

    bytes: Array
    messages: Array
    names: Sequence[str]

    @classmethod
    def of(cls, records: Iterable[Record], names: Sequence[str] | None = None) -> LinkTraffic:
        """Return the display of records, those of all workers' `measure()` together.

        Args:
            records: The records of all workers, in one list.
            names: What the processes are called, that of rank 0 first; by default "0", "1", ...

        Raises:
            InvalidArgument: An argument is no record, or a rank has no name.

        >>> LinkTraffic.of([Record(0, 1, 40, 0), Record(1, 0, 40, 0), Record(0, 1, 40, 1)]).bytes.tolist()
        [[0, 80], [40, 0]]
        """
        given: Any = records
        if not isinstance(given, (list, tuple)):
            raise InvalidArgument("records must be a list of records", got=given, remedy="Pass traffic.records.")
        for record in given:
            _check.instance("records", record, Record, "a list of records", remedy="Pass traffic.records.")
        ranks = [rank for record in given for rank in (record.sender, record.receiver)]
        count = max(ranks, default=-1) + 1
        if count > MOST or min(ranks, default=0) < 0:
            rule = f"records must be of ranks from 0 to {MOST - 1}"
            raise InvalidArgument(rule, got=(min(ranks), max(ranks)), remedy="Pass those of fewer processes.")
        known = [str(rank) for rank in range(count)] if names is None else list(_names(names))
        if len(known) < count:
            raise InvalidArgument(f"names must name {count} processes", got=names, remedy="Name the server, too.")
        found = np.zeros((2, len(known), len(known)), dtype=np.int64)
        for record in given:
            found[:, record.sender, record.receiver] += (record.bytes, 1)
        return cls(found[0], found[1], known)

    def __post_init__(self) -> None:
        count = len(_names(self.names))
        numbers("bytes", self.bytes, count, count, whole=True)
        numbers("messages", self.messages, count, count, whole=True)
        as_arrays(self)

    def plot(self) -> go.Figure:
        """Draw senders as rows and receivers as columns; where nothing was sent it is blank."""
        drawing = figure("to", "from")
        largest = float(self.bytes.max(initial=0))
        scale, unit = next((each for each in UNITS if largest >= each[0]), UNITS[-1])
        shown = np.where(self.messages > 0, self.bytes / scale, np.nan)
        hover = f"%{{y}} to %{{x}}: %{{z:.4g}} {unit} in %{{customdata}} messages"
        names = list(self.names)
        heatmap(
            drawing, names, names, shown, self.messages, unit, hover, xgap=2, ygap=2, zmin=0, zmax=largest / scale or 1
        )
        drawing.update_xaxes(type="category", showgrid=False, categoryorder="array", categoryarray=names)
        return drawing.update_layout(height=max(240, 34 * len(names) + 100))


def _names(names: Any) -> Sequence[str]:
    if not (isinstance(names, (list, tuple)) and all(type(name) is str for name in names)):
        raise InvalidArgument("names must be a list of strings", got=names, remedy="Pass one for each process.")
    if len(set(names)) < len(names):
        raise InvalidArgument("names must be different", got=names, remedy="Number those that are alike.")
    return names
