"""Decompositions, minima and exact fractions."""
