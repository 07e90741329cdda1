"""Quantities: units, and dates in the calendars of models."""
