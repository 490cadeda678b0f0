"""Rows of steepest.communication: predictions, measurements, simulations and displays."""

from __future__ import annotations

import torch
from tests.public.kinds import MAPPING, NAMES, NUMBERS, OBJECT, SERIES, Kind, choice, number, whole
from tests.public.rows import Fresh, Result, Row, row
from tests.public.table_communication import DTYPE, gradient

from steepest.communication import (
    AllToAll,
    Cluster,
    Deadlines,
    Heterogeneity,
    Measurement,
    Protocol,
    Record,
    Ring,
    SimulationEvent,
    choose,
    simulate,
)


def plotted(display):
    display.plot()


CLUSTER = Cluster(4, latency=1e-4, bandwidth=1e9)
LIST: Kind = MAPPING

TABLE: dict[str, Row | Result] = {
    "communication.Choice": Result(lambda: choose(CLUSTER, 1000)),
    "communication.Cluster": row(
        workers=(4, whole(1, 10**9)),
        latency=(1e-4, number("[0, inf)")),
        bandwidth=(1e9, number("(0, inf]")),
        protocol=(Protocol(), OBJECT),
        host=(None, OBJECT.but("None")),
        compute=(0.0, number("[0, inf)")),
        heterogeneity=(Heterogeneity(), OBJECT),
    ),
    "communication.Cluster.ethernet": row(workers=(4, whole(1, 10**9)), gigabits=(10.0, number("(0, 1e9)"))),
    "communication.CostCurves": row(
        then=plotted,
        measured=({"ring": [[2, 10, 0.1]]}, SERIES),
        predicted=({"ring": [[2, 10, 0.1], [2, 20, 0.2]]}, SERIES),
        workers=(2, whole(1, 10**9)),
        parameters=(10, whole(0, 10**18)),
    ),
    "communication.CostCurves.of": row(
        then=plotted, measurements=([Measurement(Ring(), 2, 10, 0.1)], LIST), cluster=(None, OBJECT.but("None"))
    ),
    "communication.CostCurves.plot": row(),
    "communication.Faults": row(
        between=(1e6, number("(0, inf]")),
        silent=(0.1, number("[0, 1]")),
        detection=(0.1, number("[0, 1e9]")),
        silence=(1.0, number("[0, 1e9]")),
        rebuild=(0.1, number("[0, 1e9]")),
        replacement=(10.0, number("[0, inf]")),
        state=(3.0, number("[0, 1e9]")),
        deadlines=(Deadlines(), OBJECT),
    ),
    "communication.Faults.of_job": row(
        workers=(4, whole(1, 10**9)), between=(1e3, number("(0, 1e12]")), others=(None, NAMES.also("None"))
    ),
    "communication.Heterogeneity": row(
        speed=(0.1, number("[0, 10]")),
        links=(0.1, number("[0, 10]")),
        jitter=(0.1, number("[0, 10]")),
        straggling=(0.1, number("[0, 1]")),
        slowdown=(2.0, number("[1, 1e9]")),
        slow_steps=(2.0, number("[1, 1e9]")),
    ),
    "communication.Host": row(
        workers=(None, whole(1).but("None")),
        overhead=(1e-4, number("[0, inf)")),
        bandwidth=(1e9, number("(0, inf]")),
        pieces=((), LIST.but("[]").also("{}", "tensor", "[1.0, 2.0]", "('x', 'x')")),
    ),
    "communication.LinkTraffic": row(
        then=plotted,
        bytes=([[0, 4], [4, 0]], NUMBERS.also("numpy vector")),
        messages=([[0, 1], [1, 0]], NUMBERS.also("numpy vector")),
        names=(["0", "1"], LIST.also("[1.0, 2.0]", "[nan]")),
    ),
    "communication.LinkTraffic.of": row(
        then=plotted, records=([Record(0, 1, 4, 0)], LIST.but("[]")), names=(None, LIST.but("None"))
    ),
    "communication.LinkTraffic.plot": row(),
    "communication.Measurement": row(
        scheme=(Ring(), OBJECT),
        workers=(2, whole(1, 10**9)),
        parameters=(10, whole(0, 10**18)),
        seconds=(0.1, number("(0, inf)")),
        dtype=(torch.float32, DTYPE),
        hosts=(None, whole(1, 2).but("None")),
    ),
    "communication.MessageDiagram": row(
        then=plotted,
        rounds=([1], NUMBERS),
        senders=([0], NUMBERS.also("integer vector")),
        receivers=([1], NUMBERS.also("integer vector")),
        chunks=([[0, 2]], NUMBERS),
        summed=([[0]], LIST.also("{}", "[1.0, 2.0]", "[nan]")),
        workers=(2, whole(1, 1000)),
    ),
    "communication.MessageDiagram.of": row(then=plotted, scheme=(Ring(), OBJECT), workers=(2, whole(1, 32))),
    "communication.MessageDiagram.plot": row(),
    "communication.Protocol": row(
        overhead=(1e-4, number("[0, inf)")),
        pieces=((), LIST.but("[]").also("{}", "tensor", "[1.0, 2.0]", "('x', 'x')")),
        incast=(1.0, number("[1, inf)")),
        all_reduce=("ring", choice()),
        factors=({}, MAPPING.also("{'x': None}", "{1: 2}")),
    ),
    "communication.RecoveryTimeline": row(
        then=plotted,
        times=([0.5], NUMBERS.also("[nan]")),
        kinds=(["died"], LIST.but("['x']").also("[1.0, 2.0]", "{}")),
        workers=([0], NUMBERS.also("[1.0, 2.0]")),
        steps=([0], NUMBERS.also("[1.0, 2.0]")),
        details=([""], LIST.but("['x']").also("[1.0, 2.0]", "{}")),
        everybody=([0, 1], NUMBERS.also("[1.0, 2.0]")),
    ),
    "communication.RecoveryTimeline.of": row(
        then=plotted,
        events=([SimulationEvent("died", 0.5, 1, 0)], LIST.but("[]")),
        workers=(None, NUMBERS.but("None")),
    ),
    "communication.RecoveryTimeline.plot": row(),
    "communication.Simulation": Result(lambda: simulate(Ring(), CLUSTER, 10, 2)),
    "communication.SimulationEvent": Result(lambda: SimulationEvent("died", 0.5, 1, 0)),
    "communication.busbw": row(
        seconds=(0.1, number("(0, inf)")),
        parameters=(10, whole(0, 10**18)),
        workers=(4, whole(1, 10**18)),
        dtype=(torch.float32, DTYPE),
    ),
    "communication.choose": row(
        cluster=(CLUSTER, OBJECT),
        parameters=(10, whole(0, 10**18)),
        workers=(None, whole(1, 10**9).but("None")),
        schemes=(None, LIST.but("None")),
        faults=(None, OBJECT.but("None")),
        dtype=(torch.float32, DTYPE),
    ),
    "communication.fit": row(
        measurements=([Measurement(Ring(), 2, p, 0.1 + p) for p in (10, 100)], LIST.also("{}", "tensor", "()"))
    ),
    "communication.measure_cluster": row(
        schemes=(Fresh(lambda: [Ring(), AllToAll()] * bool(len(gradient()))), LIST.but("None")),
        parameters=([1, 10], LIST.also("[-1]", "[1.0, 2.0]")),
        workers=(None, LIST.but("None").also("[-1]", "[1.0, 2.0]")),
        seconds=(0.01, number("(0, inf)")),
    ),
    "communication.predict": row(
        scheme=(Ring(), OBJECT),
        cluster=(CLUSTER, OBJECT),
        parameters=(10, whole(0, 10**18)),
        workers=(None, whole(1, 10**18).but("None")),
        dtype=(torch.float32, DTYPE),
    ),
    "communication.simulate": row(
        scheme=(Ring(), OBJECT),
        cluster=(CLUSTER, OBJECT),
        parameters=(10, whole(0, 10**18)),
        steps=(3, whole(0, 10**7)),
        workers=(None, whole(1, 10**7).but("None")),
        faults=(None, OBJECT.but("None")),
        dtype=(torch.float32, DTYPE),
        seed=(0, whole(0, 2**64 - 1)),
    ),
}
