"""Batches read ahead of the network."""
