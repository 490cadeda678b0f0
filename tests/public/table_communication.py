"""Rows of steepest.communication."""

from __future__ import annotations

import atexit

import torch
import torch.distributed as dist
from tests.public.kinds import (
    FLAG,
    FLOATING,
    FUNCTION,
    NAMES,
    OBJECT,
    TEXT,
    Kind,
    anything,
    choice,
    number,
    untried,
    whole,
)
from tests.public.rows import Fresh, Result, Row, row

from steepest.communication import (
    Cost,
    Deadlines,
    ElasticGroup,
    GroupEvent,
    ParameterServer,
    Record,
    Ring,
    Traffic,
    View,
)
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


class Nothing:
    """The state of a worker that keeps none."""

    step = 0

    def save(self):
        return b""

    def load(self, data):
        pass


class Groups:
    """Groups of one worker: one that has been formed, for many calls, and new ones, each for one call."""

    def __init__(self):
        self.formed = self.new = None
        atexit.register(self.close)

    def close(self):
        for group in (self.formed, self.new):
            if group is not None:
                group.close()

    def receiver(self):
        """The new one, if there is any, else the one that has been formed."""
        new, self.new = self.new, None
        if new is not None:
            atexit.register(new.close)
            return new
        if self.formed is None or self.formed._node.is_closed:
            self.formed = ElasticGroup(0, Ring())
            self.formed.form([self.formed.address])
            self.formed.begin(Nothing())
        return self.formed

    def addresses(self):
        """Those of a new one."""
        if self.new is None:
            self.new = ElasticGroup(0, Ring())
        return [self.new.address]

    def others(self):
        """That of a group which the new one is to join."""
        self.addresses()
        return [self.receiver_of_others().address]

    def receiver_of_others(self):
        new, self.new = self.new, None
        formed = self.receiver()
        self.new = new
        return formed


GROUPS = Groups()
MEMBERS = OBJECT
DTYPE: Kind = NAMES.also("None", "'x'")
OWN_CALL = untried("the library calls it with what it made")

TABLE: dict[str, Row | Result] = {
    "communication.AllReduce": row(),
    "communication.AllToAll": row(),
    "communication.Cost": Result(lambda: Cost(6, 5.0, 120)),
    "communication.Address": Result(lambda: GROUPS.receiver().address),
    "communication.Deadlines": row(
        heartbeat=(0.1, number("(0, inf)")),
        step=(5.0, number("(0, inf)")),
        patience=(5.0, number("(1, inf)")),
        rebuild=(15.0, number("(0, inf)")),
        give_up=(300.0, number("(0, inf)")),
        slow=(3.0, number("(1, inf)")),
    ),
    "communication.ElasticGroup": row(
        then=ElasticGroup.close,
        receiver=GROUPS.receiver,
        worker=(0, whole(0)),
        scheme=(Ring(), OBJECT),
        role=("worker", choice()),
        contact=("127.0.0.1", TEXT.but("None")),
        listen=("127.0.0.1", TEXT),
        deadlines=(Deadlines(), OBJECT.but("None")),
        observe=(None, FUNCTION.but("None")),
    ),
    "communication.ElasticGroup.average_": row(
        tensors=(Fresh(lambda: [torch.ones(3)]), OBJECT.but("[]").also("[None]")), weight=(1.0, number("[0, 1]"))
    ),
    "communication.ElasticGroup.begin": row(state=(Nothing(), OBJECT)),
    "communication.ElasticGroup.busy": row(what=("validation", TEXT)),
    "communication.ElasticGroup.close": row(),
    "communication.ElasticGroup.completed": row(step=(0, whole(0))),
    "communication.ElasticGroup.form": row(members=(Fresh(GROUPS.addresses), MEMBERS)),
    "communication.ElasticGroup.join": row(members=(Fresh(GROUPS.others), MEMBERS)),
    "communication.ElasticGroup.leave": row(),
    "communication.GroupEvent": Result(lambda: GroupEvent("died", 0.0, 3, 2)),
    "communication.View": Result(lambda: View(0, (0, 1), 0, 2, None)),
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
    "communication.ddp_hook": row(
        scheme=(Ring(), OBJECT), group=(None, anything("DistributedDataParallel has checked its own"))
    ),
    "communication.measure": row(native=(True, FLAG)),
}
