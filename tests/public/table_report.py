"""Rows of steepest.report."""

from __future__ import annotations

import copy
import functools
import pathlib

from tests.public.kinds import FLAG, MAPPING, OBJECT, PATH, TEXT, number, whole
from tests.public.rows import Fresh, Result, Row, row
from tests.public.table_compare import comparison
from tests.public.table_linearize import inputs, net

from steepest.report import FeaturesReport, Snapshots

COMMAND = ("steepest features", TEXT)


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


def report():
    return FeaturesReport(snapshots=snapshots(), task_name="curve", losses={0: 1.0}, settings={"optimizer": "sgd"})


TABLE: dict[str, Row | Result] = {
    "report.FeaturesReport": row(
        then=lambda made: made.as_json(),
        snapshots=(Fresh(snapshots), OBJECT),
        task_name=("curve", TEXT),
        losses=({0: 1.0}, MAPPING.also("{'x': None}")),
        settings=({"optimizer": "sgd"}, MAPPING),
        diverged=(False, FLAG),
        command=COMMAND,
        receiver=report,
    ),
    "report.FeaturesReport.as_json": row(),
    "report.FeaturesReport.write": row(folder=(pathlib.Path("results"), PATH)),
    "report.Snapshot": Result(lambda: snapshots().found[0]),
    "report.Snapshots": row(
        receiver=another,
        inputs=(Fresh(lambda: (inputs(),)), OBJECT.also("()", "[None]", "['x']", "('x', 'x')")),
        target=(Fresh(inputs), OBJECT.but("tensor")),
        time=(1.0, number("(0, inf)")),
        span=((-1.0, 1.0), OBJECT.but("None").also("()", "[nan]", "('x', 'x')")),
    ),
    "report.Snapshots.observe": row(step=(1, whole(0)), model=(Fresh(net), OBJECT)),
    "report.write_report": row(
        comparison=(Fresh(comparison), OBJECT), path=(pathlib.Path("report.html"), PATH), command=COMMAND
    ),
}
