"""From a network and a batch to the factors of its Jacobian."""
