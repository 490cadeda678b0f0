"""The queue, the execution and the storage of runs."""
