"""Which decomposition, and its result."""
