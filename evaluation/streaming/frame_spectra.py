"""Frame spectra: energy by wavenumber of many fields at once, as `spectra` defines it, for scores made frame by frame.

Shapes: N fields, H rows, W columns, K wavenumbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pelagos.evaluation.spectra import EARTH_RADIUS, shell_numbers
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.samples.kernel_cache import compiled

Modes = NDArray[Any]
"""(N, ...) complex, or real where an axis is expanded in cosines alone."""


@dataclass(frozen=True, eq=False)
class FrameSpectra:
    """The transform of a grid, and which wavenumber each of its modes belongs to.

    On Cartesian grids E(k) is the sum over a shell, on latitudes the mean over circles of latitude, see `spectra`.

    Attributes:
        wavenumbers: (K,).
        shells: the number of each mode's shell, in the shape of the modes.
        factors: of each mode's square in the spectrum.
        cosine: axes expanded in cosines.
        fourier: axes expanded in Fourier modes, of the last of which only half is kept.
    """

    wavenumbers: Floats
    shells: NDArray[np.intp]
    factors: Floats
    cosine: tuple[int, ...]
    fourier: tuple[int, ...]

    @classmethod
    def of(cls, grid: Grid) -> "FrameSpectra | None":
        """The spectra of a grid; None where they aren't defined, see `has_spectra`."""
        if not has_spectra(grid):
            return None
        return _shells(grid) if grid.kind == "cartesian" else _circles(grid)

    def modes(self, fields_NHW: NDArray[Any]) -> Modes:
        """The modes of fields; they are linear in these, so that an error's are the difference of two."""
        modes: Modes = fields_NHW.astype(np.float64)
        for axis in self.cosine:
            modes = fft.dct(modes, type=2, norm="ortho", axis=axis) / np.sqrt(modes.shape[axis])
        return fft.rfftn(modes, axes=self.fourier, norm="forward") if self.fourier else modes

    def energy(self, modes: Modes, others: Modes | None = None) -> Floats:
        """(N, K) energy of each field, or of its difference from another; NaN where a value isn't a number."""
        out_NK = np.zeros((len(modes), len(self.wavenumbers)))
        parts, less = (self._parts(one) for one in (modes, modes if others is None else others))
        _add_energy(parts, less, others is not None, self.shells.ravel(), self.factors.ravel(), out_NK)
        return out_NK

    def _parts(self, modes: Modes) -> Floats:
        """(N, modes, real and imaginary part)."""
        return np.ascontiguousarray(modes).view(np.float64).reshape(len(modes), self.shells.size, -1)


def has_spectra(grid: Grid) -> bool:
    """Whether wavenumbers make sense: evenly spaced points, and on latitudes whole circles."""
    return all(grid.even) if grid.kind == "cartesian" else grid.periodic[1]


def _shells(grid: Grid) -> FrameSpectra:
    shells, width = shell_numbers(grid)
    fourier = tuple(axis for axis in (-2, -1) if grid.periodic[axis])
    cosine = tuple(axis for axis in (-2, -1) if not grid.periodic[axis])
    factors = np.full(grid.shape, 0.5)
    if fourier:
        # Of a real field the other half has the same squares: a mode and its twin count as two.
        half, axis = grid.shape[fourier[-1]] // 2 + 1, fourier[-1]
        shells = np.take(shells, range(half), axis=axis)
        factors = np.take(factors, range(half), axis=axis) * _along(_twins(grid.shape[axis]), axis)
    return FrameSpectra(
        width * np.arange(shells.max() + 1), np.ascontiguousarray(shells), factors, cosine, fourier
    )


def _circles(grid: Grid) -> FrameSpectra:
    circle = 2 * np.pi * EARTH_RADIUS * np.cos(np.deg2rad(grid.y))
    rows = grid.area_weights()[:, 0]
    factors = (circle * rows / rows.sum())[:, None] * _twins(len(grid.x))
    numbers = np.arange(factors.shape[1])
    shells = np.broadcast_to(numbers, factors.shape)
    return FrameSpectra(numbers.astype(np.float64), np.ascontiguousarray(shells), factors, (), (-1,))


def _twins(size: int) -> Floats:
    """How many modes each of the kept half stands for."""
    twins = np.full(size // 2 + 1, 2.0)
    twins[0] = 1.0
    if size % 2 == 0:
        twins[-1] = 1.0
    return twins


def _along(values: Floats, axis: int) -> Floats:
    return values[:, None] if axis == -2 else values


@compiled
def _add_energy(
    parts_NMP: Floats,
    less_NMP: Floats,
    apart: bool,
    shells_M: NDArray[np.intp],
    factors_M: Floats,
    out_NK: Floats,
) -> None:
    """Add the squares of each mode's parts to its shell, of differences where other modes are taken away."""
    for n in range(len(parts_NMP)):
        for m in range(len(shells_M)):
            square = 0.0
            for part in range(parts_NMP.shape[2]):
                value = parts_NMP[n, m, part] - less_NMP[n, m, part] if apart else parts_NMP[n, m, part]
                square += value**2
            out_NK[n, shells_M[m]] += factors_M[m] * square
