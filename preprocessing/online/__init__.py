"""Training on simulations that run meanwhile."""
