"""The limit of a rule: a point or a direction, and its certificate."""
