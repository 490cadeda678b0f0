"""The result of a comparison: statistics, verdict and displays."""
