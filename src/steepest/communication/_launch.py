"""Workers on this machine: one process each, in a process group of torch.distributed."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from steepest import _check
from steepest.communication._agreement import agreed_by_workers, leave
from steepest.communication._channel import Channel
from steepest.communication._group import group_of
from steepest.communication._link import Link
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._processes import Ended, Processes, Worker
from steepest.communication._scheme import Scheme
from steepest.communication._stores import connect, host
from steepest.errors import CommunicationError, InvalidArgument, SteepestError, WorkerFailed

__all__ = ["launch"]

CALLS = "steepest/calls"
LIMIT = timedelta(minutes=30)  # as torch.distributed's own
CASCADE = 0.5
"""The seconds in which the failure of one worker makes others fail, whose errors say less."""

FAREWELL = 5.0
"""The seconds in which workers that have returned may end by themselves."""


def launch(
    function: Callable[..., Any],
    workers: int,
    scheme: Scheme | None = None,
    args: Sequence[Any] = (),
    timeout: float | None = None,
) -> list[Any]:
    """Call a function in n processes on this machine, which form the default process group of torch.distributed.

    In each of them, `torch.distributed.get_rank()` is 0 to n-1, and the backend is gloo. With
    `scheme=ParameterServer()`, one more process serves, of which the function sees nothing.

    Args:
        function: What every worker does: `function(*args)`. What it returns must be such as can be pickled.
        workers: The number of workers, n >= 1.
        scheme: A scheme that needs a separate server gets one; others need nothing.
        args: The arguments of the function, alike for all workers.
        timeout: The seconds after which the workers are ended; None: never.

    Returns:
        What the workers returned, in the order of their ranks.

    Raises:
        InvalidArgument: An argument is invalid, or can't be sent to another process.
        WorkerFailed: A worker raised an error, whose traceback is the cause, or was killed, or returned what cannot be
            read in this process; the others are ended.
        CommunicationError: The workers did not end in time.

    >>> import torch
    >>> def mean_of_ranks():
    ...     x = torch.tensor([float(torch.distributed.get_rank())])
    ...     return Ring().average_(x).item()
    >>> launch(mean_of_ranks, workers=3)  # doctest: +SKIP
    [1.0, 1.0, 1.0]
    """
    _check.function("function", function)
    workers = _check.at_least("workers", workers, 1)
    if scheme is not None:
        _check.instance("scheme", scheme, Scheme, "a scheme such as Ring()")
        scheme.cost(workers, 0)  # It refuses a server outside of the workers.
    if timeout is not None:
        timeout = _check.in_range("timeout", timeout, "(0, inf)")
    if not isinstance(args, (list, tuple)):
        raise InvalidArgument("args must be a tuple or a list", got=args, remedy="Pass a tuple, such as (1,).")
    if not dist.is_available():
        raise CommunicationError("this torch has no torch.distributed", remedy="Install one that has.")
    served = isinstance(scheme, ParameterServer) and scheme.server is None
    # The system chooses a free port, and the store lives in this process: no worker's death ends it.
    store = host()
    with Processes() as processes:
        started: list[Worker] = []
        for rank in range(workers):
            call = (function, tuple(args), rank, workers, store.port, served)
            started.append(processes.start(_work, *call, name=f"worker {rank}"))
        if served:
            processes.start(_serve, scheme, workers, store.port, name="the server")
        return _results(processes, started, timeout)


def _results(processes: Processes, started: list[Worker], timeout: float | None) -> list[Any]:
    results: dict[Worker, Any] = {}
    for worker, message in processes.messages(timeout):
        if isinstance(message, Ended):
            raise _first_failure(processes, worker, message)
        results[worker] = message
        if len(results) == len(started):
            _dismiss(processes, started)
            return [results[worker] for worker in started]
    late = ", ".join(worker.name for worker in started if worker not in results)
    raise CommunicationError(
        f"the workers must end within {timeout:g} s",
        got=late,
        remedy="Pass a longer timeout, or see whether all workers average equally often.",
    )


def _dismiss(processes: Processes, started: list[Worker]) -> None:
    """Let the workers end by themselves, now that all have returned."""
    for worker in started:
        with contextlib.suppress(OSError):
            worker.connection.send("done")
    left = set(started)
    for worker, message in processes.messages(FAREWELL):
        if isinstance(message, Ended):
            left.discard(worker)
        if not left:
            return


def _first_failure(processes: Processes, worker: Worker, ended: Ended) -> Exception:
    """Return the error of the worker that failed first: one that dies takes its peers' connections with it."""
    failures = [(worker, ended)]
    with contextlib.suppress(WorkerFailed):  # Another one's value that cannot be read says less.
        for another, message in processes.messages(CASCADE):
            if isinstance(message, Ended) and message.exitcode != 0:
                failures.append((another, message))

    def order(failure: tuple[Worker, Ended]) -> tuple[bool, float]:
        raised = failure[1].raised
        return raised is not None, raised.time if raised else 0.0

    first, how = min(failures, key=order)
    return how.failure(first.name)


def _over_loopback() -> None:
    names = [name for _, name in socket.if_nameindex()]
    loopback = next((name for name in ("lo", "lo0") if name in names), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)


def _work(
    channel: Channel,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    rank: int,
    workers: int,
    port: int,
    served: bool,
) -> None:
    _over_loopback()
    torch.set_num_threads(max((os.cpu_count() or 1) // workers, 1))
    store = connect("127.0.0.1", port)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)
    if served:
        group_of(None).attach_server(
            _server_link(store, rank, workers), dist.PrefixStore(CALLS, connect("127.0.0.1", port))
        )
    channel.send(function(*args))
    with contextlib.suppress(SteepestError, RuntimeError):  # The function may have destroyed the group.
        leave(group_of(None))
    # A worker that left now would close connections on which others may still wait for its last message.
    channel.recv()
    dist.destroy_process_group()


def _serve(channel: Channel, scheme: ParameterServer, workers: int, port: int) -> None:
    """Serve every call that the workers have agreed on, until this process is ended."""
    del channel
    _over_loopback()
    torch.set_num_threads(max((os.cpu_count() or 1) // workers, 1))
    store = connect("127.0.0.1", port)
    link = _server_link(store, workers, workers)
    for buckets in agreed_by_workers(dist.PrefixStore(CALLS, connect("127.0.0.1", port)), workers):
        for called, dtype, numel, _ in buckets:
            if called == repr(scheme):
                scheme.serve(torch.empty(numel, dtype=getattr(torch, dtype)), link)


def _server_link(store: dist.Store, rank: int, workers: int) -> Link:
    """Return the connections of the workers and the server, in a group of their own beside the workers'."""
    place = dist.PrefixStore("steepest/server", store)
    group = dist.ProcessGroupGloo(place, rank, workers + 1, LIMIT)
    return Link(group, rank=rank, size=workers, server=workers)
