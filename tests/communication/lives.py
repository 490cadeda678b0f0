"""What processes do in the tests of launching, and programs that are run as a user would."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from steepest.communication import ParameterServer, Ring
from steepest.communication._group import group_of


def gone(pid: int) -> bool:
    """Whether a process has ended; one that only waits to be read by its parent has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        os.sched_yield()


def ranks(offset: int = 0) -> tuple[int, int, float]:
    """The rank, the number of workers, and the mean of all ranks."""
    x = torch.tensor([float(dist.get_rank())])
    return dist.get_rank() + offset, dist.get_world_size(), Ring().average_(x).item()


def a_tensor() -> torch.Tensor:
    return torch.arange(100_000)


def served() -> tuple[int, int, list[float]]:
    """Average often through a separate server, with other schemes in between."""
    found: list[float] = []
    for step in range(20):
        x = torch.full((3,), float(dist.get_rank() + step))
        (Ring() if step % 3 == 0 else ParameterServer()).average_(x)
        found.append(float(x[0]))
    return dist.get_rank(), dist.get_world_size(), found


def raises_in_one(kind: str) -> None:
    """Worker 1 fails in its own way while the others wait for it."""
    Ring().average_(torch.zeros(3))
    if dist.get_rank() == 1:
        if kind == "raise":
            raise ValueError("a fault\nof its own")
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "exit":
            os._exit(7)
        if kind == "unsendable":
            return threading.Lock()  # type: ignore[return-value]
    Ring().average_(torch.zeros(3))
    return None


def server_dies(after: int) -> None:
    """The server ends by an error of its own: it can't read what the workers have written."""
    for _ in range(after):
        ParameterServer().average_(torch.zeros(3))
    store = group_of(None).store
    if dist.get_rank() == 0:
        store.set(f"{after}/0", "no description")
    store.set(f"{after}/1", "no description")
    forever()


def environment(name: str) -> tuple[str | None, int]:
    return os.environ.get(name), torch.get_num_threads()


def calls(functions: dict[str, Any]) -> Any:
    return functions["key"][0](0)


class Unreadable:
    """Can be pickled, but raises an error where it is read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise, (self.error,)


def _raise(error: Exception) -> None:
    raise error


def unreadable(error: Exception) -> Unreadable | int:
    """Worker 1 returns what cannot be read."""
    return Unreadable(error) if dist.get_rank() == 1 else 0


def forever() -> None:
    time.sleep(600)


# Functions of Processes: they are given their end of a pipe.
def echoes(connection: Any, times: int) -> None:
    for number in range(times):
        connection.send(("number", number))
    connection.send(connection.recv() * 2)


def hears(connection: Any) -> None:
    connection.send(os.getpid())
    connection.recv()


def fails(connection: Any) -> None:
    connection.send("before")
    raise KeyError("missing")


def ignores_sigterm(connection: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection.send(os.getpid())
    time.sleep(600)


PROGRAM = """
import dataclasses, functools
import torch.distributed as dist
from steepest.communication import launch

@dataclasses.dataclass
class Found:
    rank: int

def rank():
    return dist.get_rank()

def work(offset):
    return Found(rank() + offset)
"""

GUARDED = """
import os, sys, time
from steepest.communication import launch
def work():
    os.write(1, f"pid {{os.getpid()}}\\n".encode())
    {body}
if __name__ == "__main__":
    launch(work, 2)
"""

UNGUARDED = """
from steepest.communication import launch
def work():
    return 1
launch(work, 2)
"""
