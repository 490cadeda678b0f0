"""The parts of `audit`: the reference, repetitions of an estimator and their statistics, and the names of faults."""
