"""LongitudeAxis: longitudes in one order without a seam, and without columns that repeat others."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url

_SLACK = 1e-2  # of the spacing: coordinates in float32 are off by less, and no grid puts two columns so near


@dataclass(frozen=True, eq=False)
class LongitudeAxis:
    """The columns of a grid on the Earth.

    Attributes:
        values: (W,) degrees east of all columns of the file, without jumps; they may go round more than once.
        kept: the columns that repeat no other, of which the rest are copies.
    """

    values: NDArray[np.float64]
    kept: slice

    @property
    def repeats(self) -> bool:
        """Whether the first columns come again at the end, so that the axis goes round the Earth."""
        return self.kept != slice(0, len(self.values))

    @classmethod
    def of(cls, path: Path | Url, columns: NDArray[np.float64]) -> "LongitudeAxis":
        """The axis of a file's longitudes.

        Raises:
            DataError: they are in no order even where a jump from 360 to 0, or from 180 to -180, is allowed.
        """
        values = _unwrapped(path, columns)
        if len(values) < 2:
            return cls(values, slice(0, len(values)))
        steps = np.abs(np.diff(values))
        around = np.abs(values - values[0])
        kept = int(np.count_nonzero(around < 360 - _SLACK * steps.min()))
        # A grid of which a column comes again must come round to the very same place.
        if kept < len(values) and abs(around[kept] - 360) > _SLACK * steps.min():
            raise DataError(
                f"{path}: its longitudes go round the Earth more than once, from {values[0]:g} to {values[-1]:g}, and"
                f" not back to the column they began at; 360 degrees at most, or a whole number of columns would"
                " be right"
            )
        if kept < len(values):
            again = ", ".join(f"{one:g}" for one in columns[kept : kept + 3]) + ", ..." * (
                len(values) - kept > 3
            )
            assume(
                "columns_dropped",
                "x",
                f"{path}: longitudes {again} are those of its first columns again; left out, so that {kept} remain",
            )
        return cls(values, slice(0, kept))

    def cut(self, ds: xr.Dataset) -> xr.Dataset:
        """The dataset without the columns that repeat others."""
        return ds.isel(x=self.kept) if self.repeats else ds


def _unwrapped(path: Path | Url, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same longitudes without jumps by 360; as they are where they have none."""
    if _in_order(columns) or not np.isfinite(columns).all():
        return columns
    turns = np.concatenate([[0], np.cumsum(np.rint(np.diff(columns) / 360))])
    values = columns - 360 * turns
    if not _in_order(values):
        steps = np.diff(values)
        odd = int(np.argmax(np.sign(steps) != np.sign(np.median(steps))))
        raise DataError(
            f"{path}: its longitudes are in no order: columns {odd} and {odd + 1} are at {columns[odd]:g} and"
            f" {columns[odd + 1]:g}; from west to east or east to west, over the seam at 0 or 180 too, would be right"
        )
    # -10 to 10 rather than 350 to 370: degrees beyond 360 are no longitudes that people write.
    values = values - 360 * np.ceil((values.max() - 360) / 360)
    text = f"{path}: longitudes {columns[0]:g} to {columns[-1]:g}, across a seam, became"
    assume("longitudes_unwrapped", "x", f"{text} {values[0]:g} to {values[-1]:g}")
    return np.asarray(values)


def _in_order(values: NDArray[np.float64]) -> bool:
    steps = np.diff(values)
    return bool(np.all(steps > 0) or np.all(steps < 0))
