"""The number of the store's format on disk."""

FORMAT = 1
"""Raised when an older reader would misread what a newer build writes."""
