"""Files: durable, private, or on a server."""
