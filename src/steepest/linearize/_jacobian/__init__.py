"""The Jacobian from its factors, and its check against automatic differentiation."""
