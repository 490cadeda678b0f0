"""A scheme's own messages, recorded while it runs in threads of this process, without any network."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steepest.communication._link import Link
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._scheme import Scheme
from steepest.errors import CommunicationError, InvalidArgument

__all__ = ["Message", "rehearse"]

SECONDS = 10.0


@dataclass(frozen=True)
class Message:
    """A message as it was sent.

    Attributes:
        round: It could leave only after a message of the round before had arrived at its sender; from 1.
        sender: A worker's rank, or n for a separate server.
        receiver: The same.
        first: The first parameter that it holds.
        end: The parameter after the last one that it holds.
        summed: The ranks whose gradients are summed in it.
    """

    round: int
    sender: int
    receiver: int
    first: int
    end: int
    summed: tuple[int, ...]


def rehearse(scheme: Scheme, workers: int) -> list[Message]:
    """Return the messages of one averaging over n workers of n parameters each, in order of rounds and senders.

    Every worker holds 2^rank in each parameter, so that the bits of a sum say whose gradients are in it.
    """
    served = isinstance(scheme, ParameterServer) and scheme.server is None
    network = _Network(workers)
    failed: list[BaseException] = []

    def act(rank: int) -> None:
        flat = torch.full((workers,), 2.0**rank if rank < workers else 0.0, dtype=torch.float64)
        server = workers if served else None
        link = _Uncounted(_Backend(network, rank), rank=rank, size=workers, server=server, timeout=SECONDS)
        try:
            if rank < workers:
                scheme.sum_(flat, 1.0, link)
            else:
                scheme.serve(flat, link)
        except BaseException as error:
            failed.append(error)
            network.close()

    threads = [threading.Thread(target=act, args=(rank,), daemon=True) for rank in range(workers + served)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    if failed:
        raise failed[0]
    return sorted(network.messages, key=lambda each: (each.round, each.sender, each.receiver))


class _Uncounted(Link):
    """A link whose messages do not count in `measure()`."""

    def count(self, to: int, size: int) -> None:
        del to, size

    def count_from_server(self, sender: int, size: int) -> None:
        del sender, size


class _Network:
    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.messages: list[Message] = []
        self.arrived = threading.Condition()
        self.boxes: dict[tuple[int, int, int], deque[tuple[Tensor, int]]] = defaultdict(deque)
        self.closed = False

    def close(self) -> None:
        with self.arrived:
            self.closed = True
            self.arrived.notify_all()


class _Backend:
    """What a link asks of a process group, for one rank."""

    def __init__(self, network: _Network, rank: int) -> None:
        self._network, self._rank = network, rank
        self.round = 0  # of the last message that has arrived here

    def send(self, tensors: list[Tensor], to: int, tag: int) -> _Sent:
        tensor, workers = tensors[0], self._network.workers
        first = int(tensor.storage_offset()) if tensor.numel() < workers else 0
        bits = int(tensor[0]) if tensor.numel() else 0
        summed = tuple(rank for rank in range(workers) if bits >> rank & 1)
        message = Message(self.round + 1, self._rank, to, first, first + int(tensor.numel()), summed)
        with self._network.arrived:
            self._network.messages.append(message)
            self._network.boxes[self._rank, to, tag].append((tensor.clone(), message.round))
            self._network.arrived.notify_all()
        return _Sent()

    def recv(self, tensors: list[Tensor], sender: int, tag: int) -> _Arriving:
        return _Arriving(self, self._network, tensors[0], (sender, self._rank, tag))

    def allreduce(self, tensors: list[Tensor]) -> Any:
        del tensors
        raise InvalidArgument(
            "scheme must send messages of its own, to be drawn", remedy="Pass AllToAll(), ParameterServer() or Ring()."
        )


class _Sent:
    def wait(self, *timeout: Any) -> bool:
        del timeout
        return True


class _Arriving:
    def __init__(self, backend: _Backend, network: _Network, tensor: Tensor, box: tuple[int, int, int]) -> None:
        self._backend, self._network, self._tensor, self._box = backend, network, tensor, box

    def wait(self, *timeout: Any) -> bool:
        del timeout
        with self._network.arrived:
            box = self._network.boxes[self._box]
            self._network.arrived.wait_for(lambda: bool(box) or self._network.closed, SECONDS)
            if not box:
                raise CommunicationError("the scheme waits for a message that nobody sends", got=self._box)
            content, arrived = box.popleft()
        self._tensor.copy_(content)
        self._backend.round = max(self._backend.round, arrived)
        return True
