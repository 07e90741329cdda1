"""What every command has: configuration, run folder, model folder."""
