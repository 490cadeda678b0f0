"""What decides the numbers of a run, and which finished runs may be used again."""
