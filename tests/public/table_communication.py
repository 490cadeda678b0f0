"""Rows of steepest.communication."""

from __future__ import annotations

import torch
import torch.distributed as dist
from tests.public.kinds import FLOATING, NAMES, Kind, number, untried, whole
from tests.public.rows import Fresh, Result, Row, row

from steepest.communication import Cost, ParameterServer, Record, Traffic
from steepest.communication._link import Link


def gradient():
    """A tensor of the only worker of a process group."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return torch.linspace(-1, 1, 5)


def link(size):
    """The connections of that worker, or of a server of nobody."""
    gradient()
    return Link(dist.group.WORLD, rank=0, size=size)


DTYPE: Kind = NAMES.also("None", "'x'")
OWN_CALL = untried("the library calls it with what it made")

TABLE: dict[str, Row | Result] = {
    "communication.AllReduce": row(),
    "communication.AllToAll": row(),
    "communication.Cost": Result(lambda: Cost(6, 5.0, 120)),
    "communication.ParameterServer": row(server=(0, whole(0).but("None")), receiver=lambda: ParameterServer(0)),
    "communication.Record": Result(lambda: Record(0, 1, 4, 0)),
    "communication.Ring": row(),
    "communication.Scheme.average_": row(
        tensors=(Fresh(gradient), FLOATING.but("[]").also("[None]")),
        group=(None, NAMES.also("'x'")),
        examples=(None, number("[0, inf)").but("None")),
    ),
    "communication.Scheme.cost": row(workers=(4, whole(1)), parameters=(10, whole(0)), dtype=(torch.float32, DTYPE)),
    "communication.Scheme.serve": row(flat=(Fresh(gradient), OWN_CALL), link=(Fresh(lambda: link(0)), OWN_CALL)),
    "communication.Scheme.sum_": row(
        flat=(Fresh(gradient), OWN_CALL), scale=(1.0, OWN_CALL), link=(Fresh(lambda: link(1)), OWN_CALL)
    ),
    "communication.Traffic": Result(Traffic),
    "communication.measure": row(),
}
