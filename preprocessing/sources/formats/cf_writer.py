"""Writing netCDF-4 by the CF conventions, as `cf` reads it."""

from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.writer import BlockWriter, write_all

TRAJECTORY = "realization"
"""CF's standard name of what tells one run of a model from another."""
_NAMES = {"y": "latitude", "x": "longitude"}


class CFWriter(BlockWriter):
    """Writes fields on latitudes and longitudes, each trajectory as a realization.

    Times are durations in the dataset's unit. The format holds no roles, groups or parameters: parameters of
    trajectories are refused, as are Cartesian grids and dates. Fields without time are static.
    """

    def _open(self, path: Path) -> Any:
        return h5netcdf.File(path, "w")

    def _create(self) -> None:
        ds = self.template
        if ds.attrs["grid"] != "latlon" or ds.time.dtype.kind == "M":
            raise DataError(
                f"{self.path}: only latitudes and longitudes with times in numbers can be written"
            )
        if scalars := convention.in_role(ds, "scalar"):
            raise DataError(f"{self.path}: this format holds no parameters, such as {scalars[0]}: drop them")
        self._file.attrs.update(Conventions="CF-1.11", title=ds.attrs["dataset"])
        sizes = {TRAJECTORY: self.num_trajectories, "time": ds.sizes["time"]}
        self._file.dimensions = sizes | {name: ds.sizes[axis] for axis, name in _NAMES.items()}
        self._coordinate(
            TRAJECTORY, np.arange(self.num_trajectories), {"standard_name": TRAJECTORY, "units": "1"}
        )
        units = ds.time.attrs["units"]
        self._coordinate("time", ds.time.values, {"units": units, "axis": "T"})
        for axis, name in _NAMES.items():
            attrs = {"standard_name": name, "units": ds[axis].attrs["units"]}
            self._coordinate(name, ds[axis].values, attrs)
        for name in self._fields():
            dims = [
                _NAMES.get(str(dim), TRAJECTORY if dim == "trajectory" else str(dim)) for dim in ds[name].dims
            ]
            stored = self._file.create_variable(name, dims, "f4")
            stored.attrs.update(
                {key: ds[name].attrs[key] for key in ("units", "long_name") if key in ds[name].attrs}
            )
            if "trajectory" not in ds[name].dims:
                stored[...] = ds[name].values.astype(np.float32)

    def _fields(self) -> list[str]:
        return [str(name) for name in self.template.data_vars]

    def _coordinate(self, name: str, values: Any, attrs: dict[str, str]) -> None:
        stored = self._file.create_variable(name, (name,), values.dtype, data=values)
        stored.attrs.update(attrs)

    def _put(self, start: int, block: xr.Dataset) -> None:
        rows = slice(start, start + block.sizes["trajectory"])
        for name in self._fields():
            if "trajectory" in block[name].dims:
                dims = self.template[name].dims
                self._file.variables[name][rows] = block[name].transpose(*dims).values.astype(np.float32)


def write(ds: xr.Dataset, path: str | Path) -> None:
    """Write a dataset in the convention as one netCDF-4 file; see `CFWriter` for what that can hold."""
    write_all(CFWriter, ds, path)
