"""The polar factor of a matrix."""
