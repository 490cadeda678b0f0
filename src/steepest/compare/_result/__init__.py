"""What a comparison found, and what may be said of it."""
