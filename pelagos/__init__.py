"""Pelagos: a foundation-model pipeline for partial differential equations and weather."""

__version__ = "0.1.0"
