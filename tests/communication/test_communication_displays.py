"""Displays: the messages of real schemes, links, curves and timelines."""

import threading

import numpy as np
import pytest
import torch

from steepest.communication import (
    AllReduce,
    AllToAll,
    Cluster,
    CostCurves,
    Faults,
    LinkTraffic,
    Measurement,
    MessageDiagram,
    ParameterServer,
    Record,
    RecoveryTimeline,
    Ring,
    Scheme,
    SimulationEvent,
    fit,
    measure,
    predict,
    simulate,
)
from steepest.errors import InvalidArgument

SCHEMES = (AllToAll(), ParameterServer(), ParameterServer(server=1), Ring())


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_diagram_has_the_messages_of_the_formula(scheme, n):
    diagram = MessageDiagram.of(scheme, n)
    cost = scheme.cost(n, n)
    assert len(diagram.rounds) == cost.messages
    assert (diagram.chunks[:, 1] - diagram.chunks[:, 0]).mean() == cost.parameters_per_message
    assert int(diagram.rounds.max()) == {"AllToAll": 1, "ParameterServer": 2}.get(type(scheme).__name__, 2 * (n - 1))
    drawn = diagram.plot().data
    assert len(drawn) == cost.messages
    legend = [trace.name for trace in drawn if trace.showlegend]
    assert sorted(legend) == sorted({trace.name for trace in drawn})


def test_a_ring_passes_chunks_to_the_next_worker_and_adds_on_the_way():
    diagram, n = MessageDiagram.of(Ring(), 4), 4
    assert ((diagram.senders + 1) % n == diagram.receivers).all()
    for number, sender, (first, end), ranks in zip(
        diagram.rounds, diagram.senders, diagram.chunks, diagram.summed, strict=True
    ):
        assert len(ranks) == min(number, n)
        assert sender in ranks
        assert end == first + 1
    for rounds in range(1, 7):
        assert sorted(diagram.senders[diagram.rounds == rounds]) == [0, 1, 2, 3]


def test_a_server_is_drawn_as_what_it_is():
    apart, inside = MessageDiagram.of(ParameterServer(), 3), MessageDiagram.of(ParameterServer(server=1), 3)
    assert {*apart.receivers[apart.rounds == 1].tolist()} == {3}
    assert {*inside.receivers[inside.rounds == 1].tolist()} == {1}
    assert list(apart.plot().layout.yaxis.ticktext) == ["worker 0", "worker 1", "worker 2", "server"]
    assert all(len(ranks) == 3 for ranks, k in zip(apart.summed, apart.rounds, strict=True) if k == 2)


def test_a_diagram_leaves_measurements_and_random_numbers_alone(rng_untouched):
    with measure() as traffic, rng_untouched():
        MessageDiagram.of(Ring(), 3)
    assert (traffic.messages, traffic.records) == (0, [])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("Thread-") and thread.is_alive()]


def test_a_scheme_without_messages_of_its_own_is_refused():
    with pytest.raises(InvalidArgument, match="messages of its own"):
        MessageDiagram.of(AllReduce(), 3)


def test_the_error_of_a_scheme_comes_through():
    class Broken(Scheme):
        def cost(self, workers, parameters, dtype=torch.float32):
            return Ring().cost(workers, parameters, dtype)

        def sum_(self, flat, scale, link):
            del scale
            if link.rank == 1:
                raise ZeroDivisionError
            link.receive(flat, 1 - link.rank).wait()

    with pytest.raises(ZeroDivisionError):
        MessageDiagram.of(Broken(), 2)


def test_traffic_adds_records_by_link():
    display = LinkTraffic.of([Record(0, 1, 400, 0), Record(0, 1, 400, 1), Record(1, 2, 0, 0)], ["a", "b", "server"])
    assert display.bytes.tolist() == [[0, 800, 0], [0, 0, 0], [0, 0, 0]]
    assert display.messages.tolist() == [[0, 2, 0], [0, 0, 1], [0, 0, 0]]
    heat = display.plot().data[0]
    assert list(heat.y) == ["a", "b", "server"]
    assert (heat.zmin, heat.zmax) == (0, 800)
    in_kilobytes = LinkTraffic.of([Record(0, 1, 40_000, 0)]).plot().data[0]
    assert (in_kilobytes.z[0][1], in_kilobytes.zmax, in_kilobytes.colorbar.title.text) == (40, 40, "kB")
    assert [[None if v is None else float(v) for v in row] for row in heat.z] == [
        [None, 800.0, None],
        [None, None, 0.0],
        [None, None, None],
    ]
    for strange in (Record(-1, 0, 4, 0), Record(0, 10**9, 4, 0)):
        with pytest.raises(InvalidArgument, match="ranks from 0"):
            LinkTraffic.of([strange])
    with pytest.raises(InvalidArgument, match="2 processes"):
        LinkTraffic.of([Record(0, 1, 4, 0)], ["a"])


def test_curves_hold_measurements_and_the_predictions_of_the_same_cluster():
    cluster = Cluster(8, latency=1e-4, bandwidth=1e9)
    measured = [
        Measurement(scheme, n, p, predict(scheme, cluster, p, n))
        for scheme in (Ring(), AllToAll()) for n in (2, 4) for p in (10, 1000, 100_000)
    ]  # fmt: skip
    display = CostCurves.of(measured, fit(measured))
    assert (display.workers, display.parameters) == (4, 100_000)
    assert set(display.measured) == {"ring", "all-to-all"}
    for name, points in display.measured.items():
        line = display.predicted[name]
        at = line[(line[:, 0] == 4) & (line[:, 1] == 100_000)]
        assert at[0, 2] == pytest.approx(points[(points[:, 0] == 4) & (points[:, 1] == 100_000)][0, 2], rel=0.05)
    assert len(display.plot().data) == 8
    assert len(CostCurves.of(measured).plot().data) == 4


def test_curves_of_a_server_on_a_late_rank_begin_with_two_workers():
    cluster = Cluster(4, latency=1e-4, bandwidth=1e9)
    served = [Measurement(ParameterServer(server=3), 4, p, predict(Ring(), cluster, p)) for p in (10, 1000)]
    (line,) = CostCurves.of(served, cluster).predicted.values()
    assert line[:, 0].min() == 2


def test_a_timeline_shows_who_took_part_when():
    seen = [
        SimulationEvent("died", 10.0, 50, 2),
        SimulationEvent("died", 10.02, 50, 2, "another saw it later"),
        SimulationEvent("recovered", 10.2, 50, None),
        SimulationEvent("slow", 12.0, 60, 1),
        SimulationEvent("left out", 12.1, 60, 1),
        SimulationEvent("rejoined", 15.0, 70, 1),
        SimulationEvent("joined", 16.0, 80, 4),
    ]
    display = RecoveryTimeline.of(seen[::-1], workers=[0, 1, 2, 3])
    assert display.kinds == ("died", "recovered", "slow", "left out", "rejoined", "joined")
    assert display.times.tolist() == pytest.approx([0, 0.2, 2, 2.1, 5, 6])
    assert display.everybody == (0, 1, 2, 3, 4)
    spans = {worker: display._present(worker, 7.0) for worker in display.everybody}
    assert spans[0] == [(0.0, 7.0)]
    assert spans[1] == [(0.0, pytest.approx(2.1)), (5.0, 7.0)]
    assert spans[2] == [(0.0, 0.0)]
    assert spans[4] == [(6.0, 7.0)]
    drawing = display.plot()
    assert len(drawing.layout.shapes) == 1
    assert {trace.name for trace in drawing.data} == {"takes part", "died", "slow", "left out", "rejoined", "joined"}


def test_a_timeline_takes_the_events_of_a_simulation():
    faults = Faults(between=4.0, replacement=0.5)
    run = simulate(Ring(), Cluster(5, latency=1e-4, bandwidth=1e9, compute=0.05), 1000, 60, faults=faults)
    display = RecoveryTimeline.of(run.events, workers=range(5))
    assert sum(kind == "died" for kind in display.kinds) == run.deaths > 0
    display.plot()


@pytest.mark.parametrize("empty", [
    lambda: MessageDiagram.of(Ring(), 1), lambda: LinkTraffic.of([]), lambda: RecoveryTimeline.of([]),
])  # fmt: skip
def test_a_display_of_nothing_can_be_drawn(empty):
    assert empty().plot() is not None


def test_numbers_of_a_display_are_arrays():
    assert isinstance(MessageDiagram.of(Ring(), 2).rounds, np.ndarray)
