"""Run configurations, one YAML file a run, in folders named after their command."""
