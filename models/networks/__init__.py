"""The networks, and the union of their configurations."""
