"""MLflow: runs, the registry, and what waits for a server that is away."""
