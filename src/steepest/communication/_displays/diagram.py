"""The messages of a scheme, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steepest import _check
from steepest._figure import color, figure
from steepest._series import Array, as_arrays, numbers
from steepest.communication._displays.rehearsal import rehearse
from steepest.communication._scheme import Scheme
from steepest.errors import InvalidArgument

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["MessageDiagram"]


@dataclass(frozen=True)
class MessageDiagram:
    """Who sends which chunk to whom, round by round: time runs to the right, with a row for each worker.

    A message of round k could leave only after one of round k - 1 had arrived at its sender. The n workers average n
    parameters each, so that the chunks of a ring are single parameters.

    Attributes:
        rounds: The round of each message, from 1, [messages].
        senders: Who sends it: a rank, or n for a separate server, [messages].
        receivers: Who receives it, [messages].
        chunks: The first parameter that it holds, and the one after the last, [messages, 2].
        summed: The ranks whose gradients are summed in it, a list for each message.
        workers: n.
    """

    rounds: Array
    senders: Array
    receivers: Array
    chunks: Array
    summed: Sequence[Sequence[int]]
    workers: int

    @classmethod
    def of(cls, scheme: Scheme, workers: int = 4) -> MessageDiagram:
        """Return the diagram of a scheme's own messages: the scheme runs, with threads as workers.

        Args:
            scheme: A scheme that sends messages of its own, which the backend's all-reduce does not.
            workers: n, at most 32.

        Raises:
            InvalidArgument: An argument is out of its range.

        >>> from steepest.communication import Ring
        >>> diagram = MessageDiagram.of(Ring(), workers=3)
        >>> len(diagram.rounds), int(diagram.rounds.max())
        (12, 4)
        """
        _check.instance("scheme", scheme, Scheme, "a scheme", remedy="Try Ring().")
        n = _check.at_least("workers", workers, 1, most=32)
        scheme.cost(n, n)  # refuses a server outside of the workers
        found = rehearse(scheme, n)
        return cls(
            _whole([each.round for each in found]),
            _whole([each.sender for each in found]),
            _whole([each.receiver for each in found]),
            _whole([(each.first, each.end) for each in found]).reshape(-1, 2),
            tuple(each.summed for each in found),
            n,
        )

    def __post_init__(self) -> None:
        (count,) = numbers("rounds", self.rounds, None, whole=True)
        numbers("senders", self.senders, count, whole=True)
        numbers("receivers", self.receivers, count, whole=True)
        numbers("chunks", self.chunks, count, 2, whole=True)
        _check.at_least("workers", self.workers, 1, most=1000)
        given: Any = self.summed
        if not isinstance(given, (list, tuple)) or len(given) != count:
            raise InvalidArgument("summed must be a list of ranks for each message", got=given, remedy="Pass one each.")
        for index, ranks in enumerate(given):
            numbers(f"summed[{index}]", ranks, None, whole=True)
        as_arrays(self)
        for name, ranks in (("senders", self.senders), ("receivers", self.receivers)):
            if count and not (ranks.min() >= 0 and ranks.max() <= self.workers):
                raise InvalidArgument(
                    f"{name} must be ranks from 0 to workers", got=ranks.tolist(), remedy="Check them."
                )

    def plot(self) -> go.Figure:
        """Draw an arrow for each message, in the colour of its chunk; dotted until it holds the sum of all workers."""
        last = int(self.rounds.max(initial=1))
        drawing = figure("round", "")
        places = np.arange(1, last + 1)
        drawing.update_xaxes(
            tickvals=(places - 0.5).tolist(), ticktext=[str(k) for k in places], range=[-0.06, last + 0.06]
        )
        for k in range(last + 1):
            drawing.add_vline(x=k, line={"color": "rgba(128, 128, 128, 0.25)", "width": 1})
        served = self.workers in {*self.senders.tolist(), *self.receivers.tolist()}
        names = [f"worker {rank}" for rank in range(self.workers)] + ["server"] * served
        drawing.update_xaxes(showgrid=False)
        drawing.update_yaxes(tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.6, -0.4])
        shown: set[str] = set()
        for index in np.argsort(self.chunks[:, 0], kind="stable").tolist():
            name, shade = self._chunk(index)
            complete = len(self.summed[index]) == self.workers
            begun, sender, receiver = (int(of[index]) for of in (self.rounds, self.senders, self.receivers))
            ranks = ", ".join(str(int(rank)) for rank in self.summed[index])
            content = "summed over all workers" if complete else f"of worker{'s' * (',' in ranks)} {ranks}"
            told = f"round {begun}: {names[sender]} to {names[receiver]}<br>{name}, {content}"
            drawing.add_scatter(
                x=[begun - 0.94, begun - 0.5, begun - 0.06],
                y=[sender, (sender + receiver) / 2, receiver],
                name=name,
                legendgroup=name,
                showlegend=name not in shown,
                mode="lines+markers",
                line={"color": shade, "width": 2, "dash": "solid" if complete else "dot"},
                marker={
                    "symbol": ["circle", "circle", "arrow"],
                    "size": [6, 1, 12],
                    "angleref": "previous",
                    "opacity": 1,
                    "line": {"width": 0},
                },
                hovertemplate=f"{told}<extra></extra>",
            )
            shown.add(name)
        return drawing.update_layout(
            height=max(220, 52 * len(names) + 90), legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
        )

    def _chunk(self, index: int) -> tuple[str, str]:
        """Return the name and the colour of a message's chunk."""
        first, end = (int(bound) for bound in self.chunks[index])
        if end - first == self.workers:
            return "whole gradient", color(0)
        return (f"chunk {first}" if end - first == 1 else f"chunk {first} to {end - 1}"), color(first)


def _whole(values: list[Any]) -> Any:
    return np.array(values, dtype=np.int64)
