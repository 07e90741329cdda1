"""Lazy arrays over files, shared by formats."""
