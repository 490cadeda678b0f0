"""Displays of a linearization."""
