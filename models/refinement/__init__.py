"""Refinement of forecasts by the residual of their equation."""
