"""Stores: layout on disk, manifest, and readers; nothing here knows an archive."""
