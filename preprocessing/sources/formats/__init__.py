"""One file a format, and the union of all."""
