"""The parts of `choose`: what is found out about the objective, and the measurement of candidates."""
