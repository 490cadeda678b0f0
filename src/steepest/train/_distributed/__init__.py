"""Training one task with several workers."""
