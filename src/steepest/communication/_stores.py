"""Stores of torch.distributed, connected without waiting for a slow name server."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

__all__ = ["connect", "host", "second_connection"]

T = TypeVar("T")

BACKLOG = 2048
PATIENCE = 0.25
ATTEMPTS = 4


def host(address: str = "127.0.0.1") -> dist.TCPStore:
    """Return a store that this process hosts, at a free port of an IPv4 address.

    The socket is made here: TCPStore's own would listen on all addresses, and see its clients under mapped IPv6
    addresses, whose names no file of hosts knows.
    """

    def make() -> dist.TCPStore:
        listening = socket.create_server((address, 0), backlog=BACKLOG)
        port = listening.getsockname()[1]
        return dist.TCPStore(
            address, port, None, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )

    return _first(make)


def connect(address: str, port: int) -> dist.TCPStore:
    """Return a connection to a store."""
    return _first(lambda: dist.TCPStore(address, port, None, is_master=False))


def second_connection(store: Any) -> dist.Store:
    """Return a store with a connection of its own: who waits for a key there keeps no other user waiting."""
    return _first(store.clone)


def _first(make: Callable[[], T]) -> T:
    """Return what comes first of several attempts, each of which starts when the last one is late.

    A TCPStore looks up the name of the host it has connected to, for its log. Where a name server drops one question
    in fifty, that takes five seconds, and a second connection a millisecond.
    """
    results: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            results.put((make(), None))
        except Exception as error:
            results.put((None, error))

    for number in range(ATTEMPTS):
        threading.Thread(target=attempt, daemon=True, name="connects to a store").start()
        try:
            made, error = results.get(timeout=PATIENCE if number < ATTEMPTS - 1 else None)
        except queue.Empty:
            continue
        if error is not None:
            raise error
        return made  # pyright: ignore[reportReturnType]
    raise AssertionError  # The last attempt is waited for.
