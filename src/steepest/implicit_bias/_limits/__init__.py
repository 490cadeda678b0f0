"""Where a rule ends: a point or a direction, and its certificate."""
