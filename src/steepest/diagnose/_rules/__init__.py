"""The rules: each one looks at the records of a run and names a cause, or does not."""

from steepest.diagnose._rules.order import diagnose

__all__ = ["diagnose"]
