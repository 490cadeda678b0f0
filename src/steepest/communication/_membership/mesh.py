"""Connections for what concerns the membership: one thread, plain sockets, a connection for each direction."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from steepest.communication._membership.identity import Identity, watch
from steepest.communication._membership.membership import Address
from steepest.communication._membership.messages import Frames, Hello, encode

__all__ = ["Listener", "Mesh"]

MOST = 1 << 20
"""Bytes that may wait for one worker; what does not fit is dropped, as everything that matters is said again."""

RETRY = 0.05
"""Seconds before a connection that failed is tried again."""


class Listener(Protocol):
    """Who is told what the network thread hears; each call is made with the lock held."""

    def heard(self, worker: int, message: Any) -> None:
        """Take in a message."""
        ...

    def ended(self, worker: int) -> None:
        """Take in that a worker's process has ended."""
        ...

    def due(self) -> float:
        """Do what is due by the clock, and return the seconds until the next call."""
        ...

    def failed(self, error: BaseException) -> None:
        """Take in that the thread ends because of an error."""
        ...


@dataclass(eq=False)
class _Outgoing:
    address: Address
    socket: socket.socket | None = None
    is_connected: bool = False
    waiting: bytearray = field(default_factory=bytearray)
    retry_at: float = 0.0


@dataclass(eq=False)
class _Incoming:
    socket: socket.socket
    frames: Frames = field(default_factory=Frames)
    sender: int | None = None


class Mesh:
    """The network thread of one worker.

    Args:
        listen: The address of the interface to listen on.
        identity: Of this process.
        listener: Who is told.
        lock: Held during each call of the listener; `notify_all` is called after them.
    """

    def __init__(self, listen: str, identity: Identity, listener: Listener, lock: threading.Condition) -> None:
        self._server = socket.create_server((listen, 0))
        self._server.setblocking(False)
        self.port: int = self._server.getsockname()[1]
        self.cut: frozenset[int] = frozenset()  # workers that are unreachable, in tests
        self._identity, self._listener, self._lock = identity, listener, lock
        self._selector = selectors.DefaultSelector()
        self._ear, self._mouth = socket.socketpair()
        self._ear.setblocking(False)
        self._mouth.setblocking(False)
        self._out: dict[int, _Outgoing] = {}
        self._in: list[_Incoming] = []
        self._watched: dict[int, Identity] = {}
        self._unseen: dict[int, Identity] = {}  # visible processes of which no end is announced
        self._ends_at: float | None = None
        self._hello = b""
        self._thread = threading.Thread(target=self._run, name="steepest membership", daemon=True)

    def start(self, address: Address) -> None:
        """Begin to listen, as the worker of this address."""
        self._hello = encode(Hello(address))
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)
        self._selector.register(self._ear, selectors.EVENT_READ, self._wake)
        self._thread.start()

    def send(self, address: Address, message: Any) -> None:
        """Send a message when there is a connection; to be called with the lock held."""
        if address.worker in self.cut:
            return
        out = self._out.setdefault(address.worker, _Outgoing(address))
        if len(out.waiting) < MOST:
            out.waiting += encode(message)
        if threading.current_thread() is not self._thread:
            with contextlib.suppress(BlockingIOError, OSError):
                self._mouth.send(b"!")

    def close(self, seconds: float) -> None:
        """Send what waits, for so many seconds at most, and end."""
        with self._lock:
            if self._ends_at is None:
                self._ends_at = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            self._mouth.send(b"!")
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(seconds + 1)

    def _run(self) -> None:
        try:
            delay = 0.0
            while not self._is_done():
                events = self._selector.select(delay)
                with self._lock:
                    for key, mask in events:
                        key.data(key.fileobj, mask)
                    self._look_up()
                    delay = min(self._listener.due(), 0.02) if self._ends_at else self._listener.due()
                    self._deliver()
                    self._lock.notify_all()
        except BaseException as error:
            with self._lock:
                self._listener.failed(error)
                self._lock.notify_all()
        finally:
            for key in list(self._selector.get_map().values()):
                if isinstance(key.fileobj, int):
                    os.close(key.fileobj)
                else:
                    key.fileobj.close()  # pyright: ignore[reportAttributeAccessIssue]
            self._selector.close()
            self._mouth.close()

    def _is_done(self) -> bool:
        if self._ends_at is None:
            return False
        return time.monotonic() > self._ends_at or not any(out.waiting for out in self._out.values())

    def _accept(self, server: socket.socket, mask: int) -> None:
        del mask
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            connection.setblocking(False)
            incoming = _Incoming(connection)
            self._in.append(incoming)
            self._selector.register(connection, selectors.EVENT_READ, lambda _socket, _mask: self._read(incoming))

    def _wake(self, ear: socket.socket, mask: int) -> None:
        del mask
        with contextlib.suppress(BlockingIOError):
            ear.recv(4096)

    def _read(self, incoming: _Incoming) -> bool:
        """Take in what has arrived on a connection; return whether there was anything."""
        if incoming not in self._in:
            return False
        try:
            data = incoming.socket.recv(1 << 16)
            if not data:
                self._hang_up(incoming)
                return False
            for message in incoming.frames.feed(data):
                if incoming.sender is None:
                    if not isinstance(message, Hello):
                        raise ValueError("a connection begins with Hello")
                    incoming.sender = message.address.worker
                    self.watch(message.address)
                elif incoming.sender not in self.cut:
                    self._listener.heard(incoming.sender, message)
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            self._hang_up(incoming)
            return False
        return True

    def _hang_up(self, incoming: _Incoming) -> None:
        self._in.remove(incoming)
        self._selector.unregister(incoming.socket)
        incoming.socket.close()

    def watch(self, address: Address) -> None:
        """Learn of the end of a worker's process, if it is visible; to be called with the lock held."""
        worker, identity = address.worker, address.identity
        if worker in self._watched or not identity.is_visible_to(self._identity):
            return
        self._watched[worker] = identity
        descriptor = watch(identity)
        if descriptor is None:
            self._unseen[worker] = identity
            return
        self._selector.register(descriptor, selectors.EVENT_READ, lambda _file, _mask: self._ended(worker, descriptor))

    def _ended(self, worker: int, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)
        self._has_ended(worker)

    def _has_ended(self, worker: int) -> None:
        """Take in the last words of a worker before its end: all that it has sent is here."""
        for incoming in [incoming for incoming in self._in if incoming.sender == worker]:
            while incoming in self._in and self._read(incoming):
                pass
        self._listener.ended(worker)

    def _look_up(self) -> None:
        for worker, identity in list(self._unseen.items()):
            if identity.has_ended():
                del self._unseen[worker]
                self._has_ended(worker)

    def _deliver(self) -> None:
        now = time.monotonic()
        for out in list(self._out.values()):
            if not out.waiting:
                continue
            if out.socket is None:
                if now >= out.retry_at:
                    self._connect(out)
            elif out.is_connected:
                self._write(out)

    def _connect(self, out: _Outgoing) -> None:
        self.watch(out.address)
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                out.address.host, out.address.port, type=socket.SOCK_STREAM
            )[0]
            out.socket = socket.socket(family, kind, protocol)
            out.socket.setblocking(False)
            out.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            out.socket.connect(place)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(out)
            return
        assert out.socket is not None
        out.waiting[:0] = self._hello
        self._selector.register(
            out.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, lambda _socket, mask: self._progress(out, mask)
        )

    def _progress(self, out: _Outgoing, mask: int) -> None:
        if out.socket is None:
            return
        if not out.is_connected:
            if out.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._drop(out)
                return
            out.is_connected = True
            self._selector.modify(out.socket, selectors.EVENT_READ, lambda _socket, mask: self._progress(out, mask))
        elif mask & selectors.EVENT_READ and _is_closed(out.socket):
            self._drop(out)
            return
        self._write(out)

    def _write(self, out: _Outgoing) -> None:
        assert out.socket is not None
        wants_more = False
        try:
            while out.waiting:
                sent = out.socket.send(out.waiting[: 1 << 16])
                del out.waiting[:sent]
        except BlockingIOError:
            wants_more = True
        except OSError:
            self._drop(out)
            return
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if wants_more else 0)
        if self._selector.get_key(out.socket).events != mask:
            self._selector.modify(out.socket, mask, lambda _socket, mask: self._progress(out, mask))

    def _drop(self, out: _Outgoing) -> None:
        if out.socket is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(out.socket)
            out.socket.close()
        out.socket, out.is_connected, out.retry_at = None, False, time.monotonic() + RETRY
        out.waiting.clear()


def _is_closed(connection: socket.socket) -> bool:
    """Return whether a connection on which nobody answers was closed at the other end."""
    try:
        return not connection.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True
