"""Streaming evaluation: forecasts are scored frame by frame, and each frame is dropped."""
