"""The runs that are to be executed, and where they are kept."""
