"""The kinds of a model's layers."""
