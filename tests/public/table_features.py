"""Rows of steepest.features."""

from __future__ import annotations

import copy
import functools

from tests.public.kinds import FLAG, FUNCTION, MAPPING, OBJECT, TEXT, number, untried, whole
from tests.public.rows import Fresh, Result, Row, row
from tests.public.table_linearize import inputs, linearization, net
from tests.public.table_tasks import history, task

from steepest.features import FeatureObserver, Features, Snapshots
from steepest.linearize import FeatureChange

HUGE = ("10**30", "1e300", "10**400")
EVENT = untried("a run calls it with its events")


def fresh():
    return Snapshots((inputs(),), inputs(), 1.0)


@functools.cache
def snapshots() -> Snapshots:
    made = fresh()
    made.observe(0, net())
    return made


def another() -> Snapshots:
    """The same, free to see more."""
    made = copy.copy(snapshots())
    made.found, made.refused = list(made.found), dict(made.refused)
    return made


def result():
    return Features(snapshots=snapshots(), task_name="curve", losses={0: 1.0}, settings={"optimizer": "sgd"})


TABLE: dict[str, Row | Result] = {
    "features.Curves": Result(lambda: snapshots().found[0].curves),
    "features.FeatureObserver": row(then=lambda made: made.found()),
    "features.FeatureObserver.__call__": row(event=(None, EVENT), receiver=FeatureObserver),
    "features.FeatureObserver.found": row(receiver=FeatureObserver),
    "features.Features": row(
        then=lambda made: made.as_dict(),
        snapshots=(Fresh(snapshots), OBJECT),
        task_name=("curve", TEXT),
        losses=({0: 1.0}, MAPPING.also("{'x': None}")),
        settings=({"optimizer": "sgd"}, MAPPING),
        constant_loss=(0.6, number("(-inf, inf)").but("None")),
        diverged=(False, FLAG),
        receiver=result,
    ),
    "features.Features.as_dict": row(),
    "features.Features.record": row(snapshot=(Fresh(lambda: snapshots().found[0]), EVENT)),
    "features.Snapshot": Result(lambda: snapshots().found[0]),
    "features.Snapshots": row(
        receiver=another,
        inputs=(Fresh(lambda: (inputs(),)), OBJECT.also("()", "[None]", "['x']", "('x', 'x')")),
        target=(Fresh(inputs), OBJECT.but("tensor")),
        time=(1.0, number("(0, inf)")),
        span=((-1.0, 1.0), OBJECT.but("None").also("()", "[nan]", "('x', 'x')")),
    ),
    "features.Snapshots.__call__": row(event=(None, EVENT)),
    "features.Snapshots.observe": row(step=(1, whole(0)), model=(Fresh(net), OBJECT)),
    "features.change_of": row(history=(Fresh(history), OBJECT), name=("features", TEXT)),
    "features.features": row(
        costly=HUGE,
        task=(Fresh(task), OBJECT.also("''")),
        width=(None, whole(1).but("None")),
        depth=(None, whole(1).but("None")),
        steps=(2, whole(1).but("None")),
        lr=(0.1, number("(0, inf)")),
        seed=(0, whole(0)),
        examples=(2, whole(1).but("None")),
        observe=((), FUNCTION.but("[]")),
    ),
    "features.spectra": row(change=(Fresh(lambda: FeatureChange.of(linearization(), linearization())), OBJECT)),
}
