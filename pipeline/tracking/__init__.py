"""MLflow: runs, the model registry, and metrics kept until a server answers."""
