"""The simulation of a run: random draws, the end of an exchange, and the steps with their faults."""
