"""Kept force: the rolls and turns of a periodic grid that leave a force that is no channel as it is.

Shapes: G turns, M moves, H rows, W columns.
"""

from collections.abc import Sequence

import numpy as np

from pelagos.preprocessing.array_types import Floats, Ints
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.samples.augment_config import ForceWave

_SAME = 1e-9  # of the force's energy: rounding leaves a millionth of that, the smallest other move far more


def keeping_moves(waves: Sequence[ForceWave], grid: Grid, turns: Ints, spans: tuple[int, int]) -> Ints:
    """(M, 5) of all rolls within the spans, followed by one of the turns, those under which the force stays.

    Args:
        waves: of the force.
        grid: periodic and evenly spaced.
        turns: (G, 3) see `SampleMoves`.
        spans: numbers of rows and columns that may be rolled by, from 0 on.

    Returns:
        turns, then rows and columns of the roll before them.
    """
    force = {
        component: _field(waves, component, grid) for component in ("force_x", "force_y", "vorticity_source")
    }
    energy = sum(float(np.sum(field**2)) for field in force.values())
    found = []
    for turn in turns.tolist():
        # |F(roll) - F'|^2 over all rolls at once, where F' is what the turn makes into F.
        before = _turned_back(force, turn, grid)
        overlap = sum(_correlation(force[name], before[name]) for name in force)
        rows, columns = np.nonzero(2 * (energy - np.asarray(overlap)) <= _SAME * energy)
        kept = (rows < spans[0]) & (columns < spans[1])
        found += [(*turn, row, column) for row, column in zip(rows[kept], columns[kept], strict=True)]
    return np.array(found, np.int64)


def _field(waves: Sequence[ForceWave], component: str, grid: Grid) -> Floats:
    h, w = grid.shape
    y, x = np.meshgrid(np.arange(h) / h, np.arange(w) / w, indexing="ij")
    field = np.zeros((h, w))
    for wave in waves:
        if wave.component == component:
            turns = wave.waves_y * y + wave.waves_x * x + wave.phase / 360
            field += wave.amplitude * np.sin(2 * np.pi * turns)
    return field


def _turned_back(force: dict[str, Floats], turn: Sequence[int], grid: Grid) -> dict[str, Floats]:
    """The force that a turn makes into this one: each step undone, the last first."""
    transposed, rows, columns = turn
    along_x, along_y, curl = force["force_x"], force["force_y"], force["vorticity_source"]
    if columns:
        along_x, along_y, curl = -along_x[:, ::-1], along_y[:, ::-1], -curl[:, ::-1]
    if rows:
        along_x, along_y, curl = along_x[::-1], -along_y[::-1], -curl[::-1]
    if transposed:
        # Where one axis descends, to exchange rows and columns mirrors space at the other diagonal.
        sense = 1 if (grid.y[-1] > grid.y[0]) == (grid.x[-1] > grid.x[0]) else -1
        along_x, along_y, curl = sense * along_y.T, sense * along_x.T, -curl.T
    return {"force_x": along_x, "force_y": along_y, "vorticity_source": curl}


def _correlation(rolled: Floats, other: Floats) -> Floats:
    """(H, W) the sum over points of one field, rolled by each number of rows and columns, times another."""
    spectrum = np.fft.rfft2(rolled) * np.fft.rfft2(other).conj()
    return np.fft.irfft2(spectrum, s=rolled.shape)
