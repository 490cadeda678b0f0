"""Questions on estimators that are answered by measurement, each with its display."""
