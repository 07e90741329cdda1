"""Inference: how far scores can be told from chance."""
