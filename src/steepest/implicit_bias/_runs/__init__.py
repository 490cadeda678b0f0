"""The rules as they run."""
