"""The page of a task that was trained once: one self-contained file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from steepest._figure import GREY, color
from steepest.communication import (
    AllReduce,
    CostCurves,
    LinkTraffic,
    MessageDiagram,
    RecoveryTimeline,
    choose,
    fit,
)
from steepest.errors import SteepestError
from steepest.report._finite import finite
from steepest.report._page.page import figure_json, write_page
from steepest.report._training.curves import loss_figure, metric_figure
from steepest.train import GroupRun, TrainingRun
from steepest.train._distributed.ledger import Exchange

__all__ = ["training_as_json", "write_training_page"]

_DRAWN = 16
"""The most workers of which every message is drawn."""


def write_training_page(run: TrainingRun, path: Path, command: str) -> Path:
    """Write the page; return its path.

    Raises:
        OutputError: If the file cannot be written.
    """
    return write_page(path, "_training/training.html.jinja", _content(run, command))


def training_as_json(run: TrainingRun, command: str) -> dict[str, Any]:
    """Return a run as plain JSON; numbers that are not finite are None."""
    history = dataclasses.asdict(run.history)
    group = run.group
    data: dict[str, Any] = {
        "task": run.task_name,
        "command": command,
        "headline": run.headline,
        "settings": run.settings,
        "history": history,
    }
    if group is not None:
        data["group"] = {
            "workers": group.workers,
            "scheme": type(group.scheme).__name__,
            "parameters": group.parameters,
            "recoveries": group.recoveries,
            "traffic": [dataclasses.asdict(row) for row in group.traffic],
            "events": [dataclasses.asdict(event) for event in group.events],
            "losses": [dataclasses.asdict(each) for each in group.losses],
            "paces": [dataclasses.asdict(each) for each in group.paces],
            "survivors": list(group.survivors),
            "agrees": group.agrees,
        }
    return finite(data)


def _content(run: TrainingRun, command: str) -> dict[str, Any]:
    group, history = run.group, run.history
    changes = [] if group is None else sorted({event.step for event in group.changes})
    figures: dict[str, Markup | None] = {"loss": figure_json(loss_figure(run, changes))}
    keys: dict[str, Any] = {
        "loss": [
            ("validation", color(0), "line"),
            (f"training, each batch{', as estimated' if run.counts_evaluations else ''}", GREY, "line"),
            *([("the group changes", color(1), "line dotted")] if changes else []),
        ]
    }
    content: dict[str, Any] = {
        "run": run,
        "group": group,
        "command_line": command,
        "figures": figures,
        "over": "evaluations of the loss" if run.counts_evaluations else "step",
        "sentences": [] if group is None else [f"{text[0].upper()}{text[1:]}." for text in group.recoveries],
        "metrics": [
            {
                "title": f"{name.replace('_', ' ').capitalize()}",
                "figure": figure_json(metric_figure(run, name, changes)),
            }
            for name in history.valid_metrics
        ],
        "keys": keys,
    }
    return content if group is None else {**content, **_of_group(group, figures, keys)}


def _of_group(group: GroupRun, figures: dict[str, Markup | None], keys: dict[str, Any]) -> dict[str, Any]:
    """Return what the page says of the group, and add its figures and their keys."""
    size = len(group.exchanges[0].workers) if group.exchanges else group.workers
    shows = not isinstance(group.scheme, AllReduce) and 1 < size <= _DRAWN
    figures["messages"] = figure_json(MessageDiagram.of(group.scheme, size).plot()) if shows else None
    figures["links"] = None
    if group.exchanges:
        figures["links"] = figure_json(_links(group.exchanges[0]).plot())
    server = [group.workers] if group.exchanges and group.exchanges[0].server is not None else []
    timeline = RecoveryTimeline.of(group.events, [*range(group.workers), *server])
    drawing = timeline.plot()
    names = ["server" if worker in server else f"worker {worker}" for worker in timeline.everybody]
    figures["events"] = figure_json(drawing.update_yaxes(tickvals=list(range(len(names))), ticktext=names))
    figures["costs"], choice = None, ""
    if group.measurements:
        try:
            cluster = fit(group.measurements)
            curves = CostCurves.of(group.measurements, cluster)
            figures["costs"] = figure_json(curves.plot())
            keys["costs"] = [(name, color(k), "line") for k, name in enumerate(curves.measured)]
            parameters = sum(group.parameters.values())
            found = choose(cluster, parameters, group.workers)
            choice = f"Predicted for {parameters:,} parameters and {group.workers} workers of this machine: {found}."
        except SteepestError as error:
            choice = str(error)
    return {
        "parameters": ", ".join(f"{count:,} numbers in {dtype}" for dtype, count in group.parameters.items()),
        "broken": sum(each.broken for each in group.exchanges),
        "events": _events(timeline),
        "agreement": (
            "All workers ended with the same bits."
            if group.agrees
            else "The workers did NOT end with the same parameters."
        ),
        "choice": choice,
        "is_backend": isinstance(group.scheme, AllReduce),
    }


def _links(exchange: Exchange) -> LinkTraffic:
    """Return the heat map of one exchange."""
    processes = [*exchange.workers, *([] if exchange.server is None else [exchange.server])]
    place = {number: k for k, number in enumerate(processes)}
    sizes, counts = np.zeros((len(processes), len(processes))), np.zeros((len(processes), len(processes)))
    for (sender, receiver), size in exchange.bytes.items():
        sizes[place[sender], place[receiver]] = size
        counts[place[sender], place[receiver]] = exchange.messages[sender, receiver]
    names = [f"worker {number}" for number in exchange.workers] + ["server"] * (exchange.server is not None)
    whole: list[Any] = [each.round().astype(np.int64) for each in (sizes, counts)]
    return LinkTraffic(whole[0], whole[1], names)


def _events(timeline: RecoveryTimeline) -> list[dict[str, str]]:
    """Return the rows of the table of events; what several workers have seen is one row, at its first time."""
    return [
        {
            "seconds": f"{timeline.times[k]:.3f}",
            "step": f"{int(timeline.steps[k]):,}",
            "worker": "" if timeline.workers[k] < 0 else str(int(timeline.workers[k])),
            "what": ": ".join(filter(None, (timeline.kinds[k], timeline.details[k]))),
        }
        for k in range(len(timeline.kinds))
        if timeline.kinds[k] != "interrupted"  # what "died" or "left out" says, in the words of the backend
    ]
