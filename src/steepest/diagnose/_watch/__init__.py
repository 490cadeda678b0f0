"""Observation of a model while it trains."""
