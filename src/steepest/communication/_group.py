"""A process group as schemes use it: connections, and a store in which its members compare what they pass."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist

from steepest import _check
from steepest.communication._link import Link
from steepest.communication._stores import second_connection
from steepest.errors import CommunicationError, InvalidArgument

__all__ = ["Group", "group_of"]


class Group:
    """One process group: the link of its members, and what they agree through.

    Attributes:
        link: The connections between its workers.
        served: The connections of its workers and a separate server, if there is one.
        names: The rank of every member in the whole world.
        store: A connection to the group's store, of its own: nothing else waits while it is waited for.
        calls: How many times this member has called.
        timeout: The seconds after which a missing member is given up.
    """

    def __init__(self, process_group: Any) -> None:
        rank, size = process_group.rank(), process_group.size()
        self.names = dist.get_process_group_ranks(process_group)
        self.link = Link(process_group, rank=rank, size=size, names=self.names)
        self.served: Link | None = None
        store = dist.distributed_c10d._get_process_group_store(process_group)
        self.store: dist.Store = dist.PrefixStore("steepest", second_connection(store))
        self.calls = 0
        self._process_group = process_group
        self._gathered: Link | None = None

    @property
    def rank(self) -> int:
        """This process's number in the group."""
        return self.link.rank

    @property
    def size(self) -> int:
        """The number of workers."""
        return self.link.size

    @property
    def timeout(self) -> timedelta:
        """How long a missing member is waited for."""
        device = self._process_group._device_types[0]
        return self._process_group._get_backend(device).options._timeout

    def attach_server(self, link: Link, store: dist.Store) -> None:
        """Let a separate server take part, which follows the calls in that store."""
        self.served, self.store = link, store

    def direct(self, device: torch.device) -> Link | None:
        """Return the connections of a backend that sends from the memory of a device, such as NCCL, if there is one.

        gloo sends from the memory of the CPU only, also in a group that names it for a GPU.
        """
        if device.type == "cpu" or not self.link.ahead:
            return self.link
        if self._gathered is None:
            try:
                named = self._process_group._get_backend(torch.device(device.type)).name()
            except RuntimeError:  # torch's answer where a group has none
                named = "gloo"
            if named.lower() == "gloo":
                return None
            self._gathered = Link(self._process_group, rank=self.rank, size=self.size, names=self.names)
            self._gathered.ahead = False
        return self._gathered


# What belongs to a process group lives as long as torch keeps that group: a program makes schemes as it likes, and
# their calls must be numbered over all of them.
_GROUPS: WeakKeyDictionary[Any, Group] = WeakKeyDictionary()


def group_of(group: Any) -> Group:
    """Return what belongs to a process group, or to all workers for None.

    Raises:
        InvalidArgument: It is no process group, or this process is not in it.
        CommunicationError: torch.distributed has not been initialised.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise CommunicationError(
            "averaging needs the process group of torch.distributed",
            remedy="Start the workers with steepest.communication.launch, or call "
            "torch.distributed.init_process_group first.",
        )
    if group is None:
        group = dist.group.WORLD
    if group is dist.GroupMember.NON_GROUP_MEMBER:
        remedy = "Call it on the members of the group only."
        raise InvalidArgument("group must be one that this process is in", got=dist.get_rank(), remedy=remedy)
    remedy = "Pass what torch.distributed.new_group has returned."
    group = _check.instance("group", group, dist.ProcessGroup, "a process group", remedy=remedy)
    if group not in _GROUPS:
        _GROUPS[group] = Group(group)
    return _GROUPS[group]
