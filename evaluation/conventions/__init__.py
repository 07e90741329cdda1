"""Conventions: what a benchmark computes of statistics, to the last eps."""
