"""What can be known of a training run before it starts."""
