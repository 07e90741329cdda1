"""PDEGym: the data of Poseidon (Herde et al. 2024, arXiv:2405.19101).

A netCDF-4 file holds one array of all trajectories, (sample, time, channel, y, x), and beside it static fields
(sample, y, x). It has no coordinates, units, parameters or boundary kinds: these come from the table in
`pdegym_sets`, or from the configuration for sets that the table lacks.
"""

import difflib
from dataclasses import replace
from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field, PositiveFloat

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays.join_files import periodic_axis
from pelagos.preprocessing.sources.convention import BoundaryOption
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.pdegym_files import read_airfoil, read_helmholtz, read_plain
from pelagos.preprocessing.sources.formats.pdegym_sets import SETS, PDEGymAxes, PDEGymSet

_BESIDE = ("c", "source", "sample", "time", "channel", "x", "y")
"""Static fields, and the variables that netCDF adds for dimensions."""


class PDEGym(FileSource):
    """Reads a PDEGym set, whole or as the several files in which the hub delivers it.

    Attributes:
        kind: "pdegym".
        dataset: name of a set of `SETS`, or any identifier if the options below describe the file.
        variables: of a known set, the fields to read (all if empty); of any other, the names of all channels in order.
        key: name of the solution's array, (sample, time, channel, y, x), without the axis of channels if there is
            one channel, and without that of time for a steady problem; replaces a known set's.
        static: variables of further arrays (sample, y, x), by array name.
        dt: time between frames; replaces a known set's.
        boundary: beyond the edges; replaces a known set's.
        axes: order of the last two axes, for releases that differ from the table.
        length: side of the square domain. Row i of n lies at i * length / n.
    """

    kind: Literal["pdegym"] = "pdegym"
    variables: tuple[str, ...] = ()
    key: str = ""
    static: dict[str, str] = Field(default_factory=dict)
    dt: PositiveFloat | None = None
    boundary: BoundaryOption | None = None
    axes: PDEGymAxes | None = None
    length: PositiveFloat = 1.0

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """HDF5 with one of the arrays of the table, and no coordinates."""
        if listing.container != "hdf5":
            return None
        if listing.has("Sample_0/u", "Sample_0/a"):
            return Finding("pdegym", "certain", "HDF5 with groups Sample_0, ...", {"dataset": "Helmholtz"})
        keys = [key for key in ("velocity", "data", "solution") if listing.rank(key) in (3, 4, 5)]
        if len(keys) != 1 or set(listing.shapes) - {*keys, *_BESIDE}:
            return None
        evidence = f"HDF5 with {listing.describe(*keys, 'c', 'source')} and no coordinates"
        named = [name for name in SETS if name in (listing.path.stem, *listing.path.resolve().parts)]
        named += [name for name in SETS if listing.path.stem.startswith(f"{name}_")]
        if named:
            return Finding("pdegym", "certain", f"{evidence}, named {named[0]}", {"dataset": named[0]})
        # Several sets share the array's name and shape but differ in channels and time step: nothing is guessed.
        ask = {"dataset": f"its set, one of {', '.join(SETS)}; or key, variables, boundary and dt"}
        return Finding("pdegym", "possible", evidence, ask=ask)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads no field.

        Raises:
            ConfigError: if the set is unknown and not described.
            DataError: if a file contradicts the description.
        """
        form, files = self._form(), self.files()
        if self.dataset == "Helmholtz":
            variables, sizes = read_helmholtz(files)
        elif self.dataset == "SE-AF":
            variables, sizes = read_airfoil(files, form.key)
        else:
            variables, sizes = read_plain(files, form)
        y, x = (periodic_axis(sizes[axis], self.length) for axis in ("y", "x"))
        boundary = self.boundary or convention.on_all_sides(form.boundary)
        grid = Grid("cartesian", y, x, boundary.y, boundary.x)
        if self.dataset == "FNS-KF":
            variables["source"] = _kolmogorov_forcing(grid)
        published = self.dataset in SETS
        ds = convention.assemble(
            variables,
            grid=grid,
            time=np.arange(sizes["time"], dtype=np.float64) * form.dt,
            dataset=self.identifier(),
            source_format="pdegym",
            sources=files,
            num_trajectories=sizes["trajectory"],
            license=self.license or ("CC BY-NC 4.0" if published else ""),
            references=self.references or ("arXiv:2405.19101" if published else ""),
        )
        # Of a set that the table lacks, `variables` name the channels; all of them are read.
        return convention.select(ds, self.variables if published else ())

    def _form(self) -> PDEGymSet:
        known = SETS.get(self.dataset)
        if known:
            return replace(
                known,
                key=self.key or known.key,
                static=self.static or known.static,
                dt=self.dt or known.dt,
                axes=self.axes or known.axes,
            )
        absent = [name for name in ("key", "variables", "boundary") if not getattr(self, name)]
        if absent:
            close = difflib.get_close_matches(self.dataset, SETS, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ConfigError(
                f"dataset: '{self.dataset}' is not a set of PDEGym{hint}; name one of {', '.join(SETS)},"
                f" or describe the file: {', '.join(absent)} missing"
            )
        return PDEGymSet(self.key, self.variables, 0, self.static, self.dt or 0.0, axes=self.axes or "yx")


def _kolmogorov_forcing(grid: Grid) -> xr.Variable:
    """The forcing 0.1 sin(2π(x + y)), which FNS-KF does not store and Poseidon's loader recomputes."""
    values = 0.1 * np.sin(2 * np.pi * (grid.x[None, :] + grid.y[:, None]))
    return xr.Variable(("y", "x"), values.astype(np.float32), convention.attrs("source", "static"))
