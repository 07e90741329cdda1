"""What a path is, and a configuration to build it."""
