"""Builds: archives to stores, shard by shard."""
