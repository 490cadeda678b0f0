"""Results as HTML pages."""

from steepest.report._report import write_report

__all__ = ["write_report"]
