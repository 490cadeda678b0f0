"""The connections of one rank while a scheme runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from steepest.communication._cost import ring_messages
from steepest.communication._traffic import received, sent
from steepest.errors import CommunicationError

__all__ = ["Link", "Pending", "pieces"]


class Pending:
    """An operation under way: a message that is sent or received."""

    def __init__(self, link: Link, described: str) -> None:
        self._link, self._described = link, described
        self._work: dist.Work | None = None

    def wait(self) -> None:
        """Return when the message has been sent, or received.

        Raises:
            CommunicationError: The connection broke, or the wait took longer than the link's timeout.
        """
        self._link.post()
        if self._work is None:
            return
        try:
            done = self._work.wait() if self._link.wait is None else self._work.wait(self._link.wait)
        except RuntimeError as error:
            raise self._failed(error) from error
        if not done:
            raise self._failed("the operation was ended")

    def _failed(self, why: object) -> CommunicationError:
        return failed(f"rank {self._link.rank} could not {self._described}", why)


def failed(what: str, why: object) -> CommunicationError:
    """Return the error for an operation that the backend gave up."""
    first = str(why).strip().splitlines()[0] if str(why).strip() else type(why).__name__
    return CommunicationError(what, got=first, remedy="See whether that process is alive, and start the group again.")


class Link:
    """One rank's connections to the others over a process group, point to point.

    On gloo every operation starts at once, and receives may be posted ahead. On NCCL, operations are gathered and
    start together when one of them is waited for, as `torch.distributed.batch_isend_irecv` does.

    Args:
        process_group: A ProcessGroup of torch.distributed, or a backend such as ProcessGroupGloo.
        rank: This worker's number among the workers; `size` for a separate server.
        size: How many workers hold gradients.
        server: The number of a separate server (== size), or None.
        ranks: The rank in the process group of every worker, and at last of the server; by default their numbers.
        names: What records call the workers and the server; by default their numbers.
        timeout: The seconds that one wait may take; None: the group's own timeout.
    """

    def __init__(
        self,
        process_group: Any,
        *,
        rank: int,
        size: int,
        server: int | None = None,
        ranks: Sequence[int] | None = None,
        names: Sequence[int] | None = None,
        timeout: float | None = None,
    ) -> None:
        members = size + (server is not None)
        self.rank, self.size, self.server = rank, size, server
        self.ranks = tuple(range(members) if ranks is None else ranks)
        self.names = tuple(range(members) if names is None else names)
        self.timeout = timeout
        self.wait = None if timeout is None else timedelta(seconds=timeout)
        self.group = process_group
        self.ahead, self._backend = _immediate(process_group)
        self._gathered: list[tuple[Pending, Any, Tensor, int]] = []
        self._scratch: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def send(self, tensor: Tensor, to: int) -> Pending:
        """Send a message, which counts as one."""
        self.count(to, tensor.numel() * tensor.element_size())
        return self.send_piece(tensor, to)

    def receive(self, tensor: Tensor, sender: int) -> Pending:
        """Receive a message into a contiguous tensor."""
        self.count_from_server(sender, tensor.numel() * tensor.element_size())
        return self.receive_piece(tensor, sender)

    def count(self, to: int, size: int) -> None:
        """Count a message of which the pieces are sent by `send_piece`."""
        sent(self.names[self.rank], self.names[to], size)

    def count_from_server(self, sender: int, size: int) -> None:
        """Note a message of a separate server, of which the pieces are received by `receive_piece`."""
        if sender == self.server:
            received(self.names[sender], self.names[self.rank], size)

    def send_piece(self, tensor: Tensor, to: int, tag: int = 0) -> Pending:
        """Send a piece of a message; pieces with one tag arrive in the order in which they are sent."""
        pending = Pending(self, f"send to rank {to}")
        if not self.ahead:
            self._gathered.append((pending, dist.isend, tensor, self.ranks[to]))
            return pending
        try:
            pending._work = self._backend.send([tensor], self.ranks[to], tag)
        except RuntimeError as error:
            raise pending._failed(error) from error
        return pending

    def receive_piece(self, tensor: Tensor, sender: int, tag: int = 0) -> Pending:
        """Receive a piece of a message."""
        pending = Pending(self, f"receive from rank {sender}")
        if not self.ahead:
            self._gathered.append((pending, dist.irecv, tensor, self.ranks[sender]))
            return pending
        try:
            pending._work = self._backend.recv([tensor], self.ranks[sender], tag)
        except RuntimeError as error:
            raise pending._failed(error) from error
        return pending

    def post(self) -> None:
        """Start what was gathered, together."""
        if not self._gathered:
            return
        gathered, self._gathered = self._gathered, []
        operations = [dist.P2POp(op, tensor, group=self.group, group_peer=peer) for _, op, tensor, peer in gathered]
        try:
            works = dist.batch_isend_irecv(operations)
        except RuntimeError as error:
            raise gathered[0][0]._failed(error) from error
        for index, (pending, *_) in enumerate(gathered):
            # A backend that joins them into one operation returns that one.
            pending._work = works[min(index, len(works) - 1)]

    def piece_length(self, flat: Tensor, size: int) -> int:
        """Return how many numbers a piece of about `size` bytes holds; messages that are gathered travel whole."""
        return max(size // flat.element_size() if self.ahead else flat.numel(), 1)

    def all_reduce(self, flat: Tensor) -> None:
        """Sum over all ranks of the process group by the backend's own operation, in place; it counts as a ring."""
        for numel in ring_messages(flat.numel(), self.size, self.rank):
            following = self.names[(self.rank + 1) % self.size]
            sent(self.names[self.rank], following, numel * flat.element_size(), "allreduce")
        try:
            if isinstance(self.group, dist.ProcessGroup):
                dist.all_reduce(flat, group=self.group)
            else:
                self._backend.allreduce([flat]).wait(*(() if self.wait is None else (self.wait,)))
        except RuntimeError as error:
            raise failed(f"rank {self.rank} could not reduce over the group", error) from error

    def scratch(self, name: str, like: Tensor, numel: int) -> Tensor:
        """Return memory of `numel` numbers like those of a tensor, which is kept for the next call."""
        key = (name, like.dtype, like.device)
        kept = self._scratch.get(key)
        if kept is None or kept.numel() < numel:
            kept = self._scratch[key] = torch.empty(numel, dtype=like.dtype, device=like.device)
        return kept[:numel]


def _immediate(process_group: Any) -> tuple[bool, Any]:
    """Return whether operations start at once, and the backend that carries them out."""
    if not isinstance(process_group, dist.ProcessGroup):
        return True, process_group
    if "gloo" not in dist.get_backend_config(process_group):
        return False, process_group
    return True, process_group._get_backend(torch.device("cpu"))


def pieces(start: int, end: int, length: int) -> list[tuple[int, int]]:
    """Return the bounds of the pieces of a message: at least one, also of an empty one.

    >>> pieces(10, 25, 10), pieces(3, 3, 10)
    ([(10, 20), (20, 25)], [(3, 3)])
    """
    return [(low, min(low + length, end)) for low in range(start, end, length)] or [(start, end)]
