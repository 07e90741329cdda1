"""Files: durable, on a server, or of a stranger."""
