"""Equations with their initial states, propagators and residuals."""
