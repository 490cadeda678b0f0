"""The page of a task that was trained once."""
