"""What can be known before something runs: of a run, of what lies at a path, and which configuration to begin with."""
