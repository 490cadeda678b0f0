"""The kinds of data that a task takes, behind one interface."""
