"""The schemes, one file for each kind."""
