"""The rules: each one reads the records of a run and names a cause, or none."""

from steepest.diagnose._rules.order import diagnose

__all__ = ["diagnose"]
