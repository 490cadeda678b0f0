"""The identity of runs, and the finished runs that may be used again."""
