"""The page of tangent features over training."""
