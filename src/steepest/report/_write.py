"""Writing a result: every file and page of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steepest._check import instance
from steepest._files import write_text
from steepest.compare import Comparison
from steepest.features import Features
from steepest.report._comparison.page import write_comparison_page
from steepest.report._comparison.tables import comparison_as_json, write_tables
from steepest.report._features.page import write_features_page
from steepest.report._training.page import training_as_json, write_training_page
from steepest.train import TrainingRun

__all__ = ["as_json", "write", "write_page"]

_RESULTS = (Comparison, Features, TrainingRun)
_RULE = "a Comparison, Features or TrainingRun"


def write(result: Comparison | Features | TrainingRun, folder: str | Path, command: str = "") -> Path:
    """Write all files of a result into a folder; return the path of its page.

    A comparison becomes report.html, results.csv (losses and metrics), timing.csv (costs) and results.json. Tangent
    features become features.html and results.json.

    Args:
        result: The return value of `steepest.compare.compare`, `steepest.features.features` or
            `steepest.train.train_distributed`.
        folder: The folder of the files; created if it does not exist.
        command: The command line to show on the page.

    Raises:
        OutputError: If the folder cannot be written.
        InvalidArgument: If result is something else.
    """
    place = Path(instance("folder", folder, (str, Path), "a path"))
    data = as_json(result, command)
    if isinstance(result, Comparison):
        write_tables(result, place)
    write_text(place / "results.json", json.dumps(data, indent=2, allow_nan=False) + "\n")
    page = {Comparison: "report.html", Features: "features.html", TrainingRun: "training.html"}[type(result)]
    return write_page(result, place / page, command)


def write_page(result: Comparison | Features | TrainingRun, path: str | Path, command: str = "") -> Path:
    """Write the page of a result, one self-contained HTML file; return its path.

    Raises:
        OutputError: If the file cannot be written.
        InvalidArgument: If result is something else.
    """
    instance("result", result, _RESULTS, _RULE)
    place = Path(instance("path", path, (str, Path), "a path"))
    instance("command", command, str, "a string")
    if isinstance(result, Comparison):
        return write_comparison_page(result, place, command)
    if isinstance(result, TrainingRun):
        return write_training_page(result, place, command)
    return write_features_page(result, place, command)


def as_json(result: Comparison | Features | TrainingRun, command: str = "") -> dict[str, Any]:
    """Return a result and all it rests on as plain JSON; numbers that are not finite are None.

    Raises:
        InvalidArgument: If result is none of these, or command no string.
    """
    instance("result", result, _RESULTS, _RULE)
    instance("command", command, str, "a string")
    if isinstance(result, Comparison):
        return comparison_as_json(result, command)
    if isinstance(result, TrainingRun):
        return training_as_json(result, command)
    return {**result.as_dict(), "command": command}
