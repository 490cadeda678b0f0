"""What `ElasticGroup` is made of: who belongs to the group, and how the members agree on it."""
