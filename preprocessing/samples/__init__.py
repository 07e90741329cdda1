"""Stores to samples: which frames, in which order, normalised how."""
