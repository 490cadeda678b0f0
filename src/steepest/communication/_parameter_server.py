"""Parameter server: the workers send to one process, which adds and sends the sum back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest import _check
from steepest.communication._cost import Cost, checked_size
from steepest.communication._group import Group
from steepest.communication._link import Link, Pending, pieces
from steepest.communication._scheme import Scheme, usable_scale
from steepest.errors import CommunicationError, InvalidArgument

__all__ = ["ParameterServer"]

PIECE_BYTES = 1 << 20
AHEAD = 2


@dataclass(frozen=True)
class ParameterServer(Scheme):
    """Parameter server: every worker sends its p parameters to a server, which sends the sum back.

    A separate server process takes part in 2n messages of p parameters; a server that is one of the workers in
    2(n-1). All of them pass through the server's one connection to the network. The sum is in the order of ranks,
    where a worker that serves adds to its own.

    Args:
        server: The rank, in the group, of the worker that also serves; None for a separate process, which
            `launch(function, workers, scheme=ParameterServer())` starts.

    Source: M. Li et al., "Scaling distributed machine learning with the parameter server", OSDI 2014.

    >>> ParameterServer().cost(workers=4, parameters=1000).messages, ParameterServer(0).cost(4, 1000).messages
    (8, 6)
    """

    server: int | None = None

    def __post_init__(self) -> None:
        if self.server is not None:
            remedy = "Pass a rank, or None for a separate process."
            object.__setattr__(self, "server", _check.at_least("server", self.server, 0, remedy=remedy))

    def cost(self, workers: int, parameters: int, dtype: torch.dtype = torch.float32) -> Cost:
        n, p, itemsize = checked_size(workers, parameters, dtype)
        self._refuse_outside(n)
        messages = 2 * n if self.server is None else 2 * (n - 1)
        return Cost(messages, float(p), messages * p * itemsize)

    def sum_(self, flat: Tensor, scale: float, link: Link) -> None:
        scale = usable_scale(flat, scale)
        server = link.server if self.server is None else self.server
        assert server is not None
        if server == link.rank:
            flat.mul_(scale)
            _add(flat, [rank for rank in range(link.size) if rank != server], link, first=False)
            return
        size = flat.numel() * flat.element_size()
        link.count(server, size)
        link.count_from_server(server, size)
        sends: list[Pending] = []
        results: list[Pending] = []
        # A part of the result arrives where the own part was: it has been computed from it.
        for low, high in pieces(0, flat.numel(), link.piece_length(flat, PIECE_BYTES)):
            part = flat[low:high]
            sends.append(link.send_piece(part.mul_(scale), server))
            if link.ahead:
                results.append(link.receive_piece(part, server, 1))
        for pending in sends:
            pending.wait()
        if not link.ahead:
            results.append(link.receive_piece(flat, server))
        for pending in results:
            pending.wait()

    def serve(self, flat: Tensor, link: Link) -> None:
        _add(flat, list(range(link.size)), link, first=True)

    def _link(self, place: Group) -> Link:
        if self.server is not None:
            self._refuse_outside(place.size)
            return place.link
        if place.served is None:
            raise CommunicationError(
                "ParameterServer() needs a separate server process, which this group does not have",
                remedy="Start the workers with launch(function, workers, scheme=ParameterServer()), or let a worker "
                "serve, as ParameterServer(server=0) does.",
            )
        return place.served

    def _refuse_outside(self, workers: int) -> None:
        if self.server is not None and self.server >= workers:
            rule = f"server must be a rank of the {workers} worker{'s' * (workers > 1)}, 0 to {workers - 1}"
            raise InvalidArgument(rule, got=self.server, remedy="Pass one of them, or None for a separate process.")


def _add(flat: Tensor, senders: list[int], link: Link, *, first: bool) -> None:
    """Add what arrives from the senders to a tensor (the first of them replaces it), and send them the sum."""
    length = link.piece_length(flat, PIECE_BYTES)
    parts = pieces(0, flat.numel(), length)
    ahead = AHEAD if link.ahead else 1
    memory = {
        (rank, slot): link.scratch(f"server {rank} {slot}", flat, min(length, flat.numel()))
        for rank in senders[first:]
        for slot in range(min(ahead, len(parts)))
    }

    def expect(index: int) -> list[Pending]:
        low, high = parts[index]
        own = [link.receive_piece(flat[low:high], rank) for rank in senders[:first]]
        return own + [link.receive_piece(memory[rank, index % ahead][: high - low], rank) for rank in senders[first:]]

    for rank in senders:
        link.count(rank, flat.numel() * flat.element_size())
    expected = [expect(index) for index in range(min(ahead, len(parts)))]
    sends: list[Pending] = []
    for index, (low, high) in enumerate(parts):
        part = flat[low:high]
        for rank, pending in zip(senders, expected[index], strict=True):
            pending.wait()
            if not (first and rank == senders[0]):
                part.add_(memory[rank, index % ahead][: high - low])
        if index + ahead < len(parts):
            expected.append(expect(index + ahead))
        sends += [link.send_piece(part, rank, 1) for rank in senders]
    for pending in sends:
        pending.wait()
