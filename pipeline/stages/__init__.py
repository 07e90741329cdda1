"""The stages, one a file, each with its configuration and `run(config)`."""
