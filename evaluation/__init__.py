"""Scores of forecasts against the truth and against baselines."""
