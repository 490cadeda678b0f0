"""What is done to the parameters of a model."""
