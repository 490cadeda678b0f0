"""Several hosts out of one machine: network namespaces at a switch, with a limited bandwidth for each; root only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from steepest.communication._processes import Ended, Processes

__all__ = ["Hosts", "hosts", "missing"]

NEW_UTS, NEW_NETWORK = 0x04000000, 0x40000000
ETHERNET = 1448 / 1514
"""What TCP leaves of a byte that `tc` counts: headers of Ethernet, IP and TCP with timestamps in 1514 bytes."""


def missing() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if absent := [tool for tool in ("ip", "tc") if shutil.which(tool) is None]:
        return f"{' and '.join(absent)} of iproute2 are not installed"
    try:
        with hosts(1, megabits=100):
            return ""
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"


class Hosts:
    """Hosts at one switch.

    Attributes:
        names: The namespace of each.
        addresses: The address of each.
    """

    def __init__(self, names: list[str], addresses: list[str]) -> None:
        self.names, self.addresses = names, addresses

    def run(self, function: Callable[..., Any], *args: Any, timeout: float = 120.0) -> list[Any]:
        """What `function(*args)` returns on every host, in a process group of gloo over the switch."""
        results: dict[str, Any] = {}
        with Processes() as processes:
            for rank, name in enumerate(self.names):
                processes.start(_work, name, rank, len(self.names), self.addresses[0], function, args, name=name)
            for worker, message in processes.messages(timeout):
                if isinstance(message, Ended):
                    raise message.failure(worker.name)
                results[worker.name] = message
                if len(results) == len(self.names):
                    return [results[name] for name in self.names]
        raise TimeoutError(f"only {sorted(results)} have finished")

    def sent(self) -> list[int]:
        """How many bytes each host has sent, with all headers."""
        return [
            int(_ip("netns", "exec", name, "cat", "/sys/class/net/eth0/statistics/tx_bytes")) for name in self.names
        ]


@contextlib.contextmanager
def hosts(count: int, *, megabits: float) -> Iterator[Hosts]:
    """Hosts whose links carry so many Mbit/s in each direction; nothing of them is left afterwards."""
    switch = f"steepest-{os.getpid()}-switch"
    names = [f"steepest-{os.getpid()}-{k}" for k in range(count)]
    addresses = [f"10.77.0.{k + 1}" for k in range(count)]
    try:
        _ip("netns", "add", switch)
        inside = ("netns", "exec", switch)
        _ip(*inside, "ip", "link", "add", "bridge", "type", "bridge")
        _ip(*inside, "ip", "link", "set", "bridge", "up")
        for k, name in enumerate(names):
            _ip("netns", "add", name)
            _ip(*inside, "ip", "link", "add", f"port{k}", "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip(*inside, "ip", "link", "set", f"port{k}", "master", "bridge", "up")
            own = ("netns", "exec", name)
            _ip(*own, "ip", "address", "add", f"{addresses[k]}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip(*own, "ip", "link", "set", device, "up")
            limit = ("rate", f"{megabits}mbit", "burst", "32kb", "limit", "512kb")
            _ip(*own, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *limit)
            _ip(*inside, "tc", "qdisc", "add", "dev", f"port{k}", "root", "tbf", *limit)
        yield Hosts(names, addresses)
    finally:
        for name in (*names, switch):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", name)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=20).stdout


def _work(connection: Any, name: str, rank: int, size: int, address: str, function: Any, args: tuple[Any, ...]) -> None:
    """Become a host of its own: its network and its name; threads that start from here on are in it, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{name}").open() as namespace:
        for failed in (libc.setns(namespace.fileno(), NEW_NETWORK), libc.unshare(NEW_UTS)):
            if failed:
                raise OSError(ctypes.get_errno(), "this process cannot become a host")
    socket.sethostname(name)
    os.environ.update(GLOO_SOCKET_IFNAME="eth0", TORCH_CPP_LOG_LEVEL="ERROR")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://{address}:29500", rank=rank, world_size=size)
    result = function(*args)
    dist.barrier()  # nobody leaves while another still uses the store
    connection.send(result)
    dist.destroy_process_group()
