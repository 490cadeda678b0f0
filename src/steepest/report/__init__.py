"""Results as files and as HTML pages."""

from steepest import _importing

_importing.require("steepest.report", "jinja2", "plotly", extra="compare")

from steepest.report._write import as_json, write, write_page

__all__ = ["as_json", "write", "write_page"]
