"""What the layers of a model are."""
