"""The operations that follow a layer, found by a run on data or a symbolic trace."""
