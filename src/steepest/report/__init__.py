"""Results as HTML pages."""

from steepest import _importing

_importing.require("steepest.report", "jinja2", "plotly", extra="compare")

from steepest.report._features import FeaturesReport
from steepest.report._report import write_report
from steepest.report._snapshots import Snapshot, Snapshots

__all__ = ["FeaturesReport", "Snapshot", "Snapshots", "write_report"]
