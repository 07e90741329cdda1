"""Forecasts: models bound to stores, and what their networks are given."""
