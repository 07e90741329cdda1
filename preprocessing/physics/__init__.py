"""Equations as objects, with their propagators and residuals."""
