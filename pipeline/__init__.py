"""The stages of the road and their commands."""
