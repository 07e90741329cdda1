"""Writing PDEGym's form of netCDF-4, as `pdegym` reads it."""

from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.convention import Boundaries
from pelagos.preprocessing.sources.formats.pdegym import PDEGym
from pelagos.preprocessing.sources.formats.pdegym_sets import FLOW_FIELDS, SETS, SPECIAL_SETS, PDEGymSet
from pelagos.preprocessing.sources.writer import BlockWriter, write_all


class PDEGymWriter(BlockWriter):
    """Writes PDEGym's form: one array of all channels, static fields as further arrays.

    The array is called `velocity` for u, v and a tracer, otherwise `solution`, or what `SETS` says if the dataset's
    identifier is in it. A single field has no axis of channels, the solution of a steady problem none of time. Static
    fields without trajectories are repeated for each. `source()` gives the configuration that reads the file, with
    the frame spacing, the boundary kinds and the length of the domain, which the file cannot hold. Lost altogether
    are scalar parameters, the position of the first row (read as 0) and of the first frame (0), roles, trajectory
    names and licences. Uneven grids or times and domains that are not square are refused.
    """

    def _open(self, path: Path) -> Any:
        return h5netcdf.File(path, "w")

    def _create(self) -> None:
        ds = self.template
        self.fields = tuple(convention.in_role(ds, "prognostic", "forcing", "diagnostic"))
        self.form = self._choose(convention.in_role(ds, "static"))
        self._dt, self._length = self._spacing()
        sizes = {"sample": self.num_trajectories, "y": len(ds.y), "x": len(ds.x)}
        axes = ["sample", *self.form.axes]
        if len(self.fields) > 1:
            axes.insert(1, "channel")
            sizes["channel"] = len(self.fields)
        if len(ds.time) > 1 or ds[self.fields[0]].attrs["role"] != "diagnostic":
            axes.insert(1, "time")
            sizes["time"] = len(ds.time)
        self._file.dimensions = sizes
        self._file.create_variable(self.form.key, axes, "f4")
        for key in self.form.static:
            self._file.create_variable(key, ("sample", *self.form.axes), "f4")

    def _choose(self, static: list[str]) -> PDEGymSet:
        name = self.template.attrs["dataset"]
        known = SETS.get(name)
        if known is None:
            flow = self.fields[:2] == FLOW_FIELDS[:2] and set(self.fields[2:]) <= {"tracer"}
            keys = {"c" if one == "wave_speed" else one: one for one in static}
            return PDEGymSet("velocity" if flow else "solution", self.fields, static=keys)
        least = len(known.channels) - known.optional
        fits = self.fields == known.channels[: max(least, len(self.fields))]
        if fits and set(static) == set(known.static.values()) and name not in SPECIAL_SETS:
            return known
        raise DataError(
            f"{self.path}: {', '.join([*self.fields, *static])} cannot be written as PDEGym's set {name};"
            " give the dataset another identifier"
        )

    def _spacing(self) -> tuple[float, float]:
        """Time between frames and side of the domain."""
        steps = {}
        for name in ("time", "y", "x"):
            gaps = np.diff(self.template[name].values)
            if gaps.dtype.kind != "f" or not np.allclose(gaps, gaps[:1], rtol=1e-5):
                raise DataError(
                    f"{self.path}: PDEGym files hold no {name}, which must be evenly spaced numbers"
                )
            steps[name] = float(gaps.mean()) if len(gaps) else 0.0
        # Periodic axes leave out their right end, hence the number of points, not of gaps.
        height, width = steps["y"] * len(self.template.y), steps["x"] * len(self.template.x)
        if not np.isclose(height, width, rtol=1e-5):
            raise DataError(f"{self.path}: PDEGym domains are square, not {height:g} by {width:g}")
        return steps["time"], width

    def _put(self, start: int, block: xr.Dataset) -> None:
        rows = slice(start, start + block.sizes["trajectory"])
        y_x = tuple(self.form.axes)
        stored = self._file[self.form.key]
        channels = [block[name].transpose("trajectory", "time", *y_x).values for name in self.fields]
        values = np.stack(channels, axis=2) if len(channels) > 1 else channels[0]
        stored[rows] = values.reshape(-1, *stored.shape[1:]).astype(np.float32)
        for key, name in self.form.static.items():
            field = block[name].broadcast_like(block["trajectory"]).transpose("trajectory", *y_x)
            self._file[key][rows] = field.values.astype(np.float32)

    def source(self) -> PDEGym:
        """The configuration that reads the file again."""
        name = self.template.attrs["dataset"]
        grid = convention.grid_of(self.template)
        return PDEGym(
            paths=(str(self.path),),
            dataset=name,
            variables=() if name in SETS else self.fields,
            key=self.form.key,
            static=dict(self.form.static),
            dt=self._dt or None,
            boundary=Boundaries(y=grid.boundary_y, x=grid.boundary_x),
            length=self._length,
        )


def write(ds: xr.Dataset, path: str | Path) -> None:
    """Write a dataset in the convention as one PDEGym file; see `PDEGymWriter` for what that can hold."""
    write_all(PDEGymWriter, ds, path)
