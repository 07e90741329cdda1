"""Reduced grids: rows of latitude with fewer points towards the poles (Gaussian, octahedral, or evenly spaced rows)."""

import numpy as np

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.sources.cells import Cells


def reduced_cells(cells: Cells) -> Cells:
    """The same points with the boxes around them where they are a reduced grid around the globe; else as they were.

    Boxes reach half-way to the rows before and after, and to the poles; along a row they are equal.
    """
    starts = np.flatnonzero(np.diff(cells.latitude, prepend=np.nan) != 0)
    if len(starts) < 2 or len(starts) == len(cells.latitude):
        return cells
    rows, counts = cells.latitude[starts], np.diff(starts, append=len(cells.latitude))
    steps = np.diff(rows)
    if not (np.all(steps < 0) or np.all(steps > 0)):
        return cells
    row = np.repeat(np.arange(len(rows)), counts)
    spacing = (360 / counts)[row]
    # Of each row evenly spaced points, all the way round.
    expected = cells.longitude[starts][row] + (np.arange(len(row)) - starts[row]) * spacing
    off = np.abs((cells.longitude - expected + 180) % 360 - 180)
    if np.any(off > 1e-2 * spacing) or not _reaches_poles(rows):
        return cells
    middles = (rows[1:] + rows[:-1]) / 2
    pole = 90.0 if rows[0] > rows[-1] else -90.0
    edges = np.concatenate([[pole], middles, [-pole]])
    return Cells(
        cells.latitude,
        cells.longitude,
        "points of a reduced grid",
        _boxes(edges, row, expected, spacing),
        True,
    )


def _reaches_poles(rows: Floats) -> bool:
    """Whether no further row would fit before the first and after the last."""
    step = np.abs(np.diff(rows)).mean()
    return bool(np.all(90 - np.abs(rows[[0, -1]]) < step))


def _boxes(
    edges: Floats, row: "np.ndarray[tuple[int], np.dtype[np.int64]]", middle: Floats, width: Floats
) -> Floats:
    before, after = edges[row], edges[row + 1]
    west, east = middle - width / 2, middle + width / 2
    return np.stack([np.stack([before, before, after, after], -1), np.stack([west, east, east, west], -1)])
