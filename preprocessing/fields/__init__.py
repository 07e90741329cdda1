"""From a source to the fields of a store: selection, units, grids."""
