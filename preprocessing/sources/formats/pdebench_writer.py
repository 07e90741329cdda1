"""Writing PDEBench's files of compressible flow and diffusion-reaction in 2-D, as `pdebench` reads them."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
import yaml

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.convention import Boundaries
from pelagos.preprocessing.sources.formats.pdebench_files import (
    FLOW,
    FLOW_PARAMETERS,
    PROBLEMS,
    named_boundary,
)
from pelagos.preprocessing.sources.writer import BlockWriter, single_value, write_all


class FlowWriter(BlockWriter):
    """Writes compressible 2-D flow: `density`, `pressure`, `Vx`, `Vy` (N, t, x, y) in float32.

    The file's name holds the kind of boundary: it must contain `_periodic_` or `_trans_` (open), or neither where
    the kind is unknown. A file has one value of each viscosity and of the Mach number. Other scalars, units,
    trajectory names and licences are lost; other fields and kinds of boundaries are refused.
    """

    def _open(self, path: Path) -> Any:
        return h5py.File(path, "w")

    def _create(self) -> None:
        ds = self.template
        _check_names(self.path, ds, set(FLOW))
        named = named_boundary(self.path)
        if _boundary(ds) != convention.on_all_sides(named):
            raise DataError(
                f"{self.path}: PDEBench keeps the kind of boundary in the file's name; this one says {named} on all"
                f" sides, the data are {ds.attrs['boundary_y']} along y and {ds.attrs['boundary_x']} along x"
            )
        time = ds.time.values
        # The generator's own files hold one time more than frames.
        step = time[-1] - time[-2] if len(time) > 1 else 1.0
        self._file["t-coordinate"] = np.append(time, time[-1] + step).astype(np.float32)
        for axis in ("x", "y"):
            self._file[f"{axis}-coordinate"] = ds[axis].values.astype(np.float32)
        for key, name in FLOW_PARAMETERS.items():
            if name in ds:
                self._file.attrs[key] = single_value(ds, name, self.path)
        shape = (self.num_trajectories, len(time), len(ds.x), len(ds.y))
        for key in FLOW.values():
            self._file.create_dataset(key, shape, "f4")

    def _put(self, start: int, block: xr.Dataset) -> None:
        for key, name in FLOW_PARAMETERS.items():
            if name in block and single_value(block, name, self.path) != self._file.attrs[key]:
                raise DataError(
                    f"{self.path}: {name} differs between trajectories; write one file for each value"
                )
        for name, key in FLOW.items():
            values = block[name].transpose("trajectory", "time", "x", "y").values
            self._file[key][start : start + len(values)] = values.astype(np.float32)


class DiffusionReactionWriter(BlockWriter):
    """Writes 2-D diffusion-reaction: for each trajectory a group with `data` (t, y, x, v), `grid` and settings.

    Each trajectory has its own parameters (diffusivities of activator and inhibitor, reaction rate). All sides are
    walls. Other scalars, units, trajectory names and licences are lost; other fields and kinds of boundaries are
    refused.
    """

    def _open(self, path: Path) -> Any:
        return h5py.File(path, "w")

    def _create(self) -> None:
        family = PROBLEMS["diff-react"]
        _check_names(self.path, self.template, {*family.channels, *family.parameters.values()})
        if _boundary(self.template) != convention.on_all_sides("wall"):
            raise DataError(f"{self.path}: PDEBench's diffusion-reaction has walls on all sides")

    def _put(self, start: int, block: xr.Dataset) -> None:
        family = PROBLEMS["diff-react"]
        for i in range(block.sizes["trajectory"]):
            one = block.isel(trajectory=i)
            group = self._file.create_group(f"{start + i:04d}")
            fields = [one[name].transpose("time", "y", "x").values for name in family.channels]
            group.create_dataset("data", data=np.stack(fields, axis=-1).astype(np.float32), compression="lzf")
            for axis in ("time", "y", "x"):
                group[f"grid/{axis[0]}"] = one[axis].values.astype(np.float32)
            settings = {key: float(one[name]) for key, name in family.parameters.items()}
            sim = settings | _domain(one) | {"n": 1, "seed": start + i}
            group.attrs["config"] = yaml.safe_dump({"name": "2d_diff-react", "sim": sim})


def _domain(one: xr.Dataset) -> dict[str, float | int]:
    """The generator's settings of the domain: outer edges of the cells, their numbers, the last time."""
    edges: dict[str, float | int] = {"t": float(one.time[-1]), "tdim": len(one.time)}
    for axis, low, high in (("x", "x_left", "x_right"), ("y", "y_bottom", "y_top")):
        values = one[axis].values
        half = (values[-1] - values[0]) / (2 * (len(values) - 1)) if len(values) > 1 else 0.5
        # Six digits undo what single precision did to the coordinates.
        outer = [float(f"{edge:.6g}") for edge in (values[0] - half, values[-1] + half)]
        edges |= {low: outer[0], high: outer[1], f"{axis}dim": len(values)}
    return edges


def _check_names(path: Path, ds: xr.Dataset, expected: set[str]) -> None:
    """Raise DataError unless `ds` has all of the variables and no other field."""
    fields = {str(name) for name in ds.data_vars if ds[name].attrs["role"] != "scalar"}
    if not expected <= set(ds.data_vars) or not fields <= expected or ds.time.dtype.kind == "M":
        raise DataError(
            f"{path}: this layout of PDEBench holds {', '.join(sorted(expected))} at times in numbers;"
            f" the data have {', '.join(map(str, ds.data_vars))} at {ds.time.dtype}"
        )


def _boundary(ds: xr.Dataset) -> Boundaries:
    grid = convention.grid_of(ds)
    return Boundaries(y=grid.boundary_y, x=grid.boundary_x)


def write(ds: xr.Dataset, path: str | Path) -> None:
    """Write a dataset in the convention as PDEBench's compressible flow or diffusion-reaction.

    Raises:
        DataError: if neither layout holds the dataset; see the writers for what they hold.
    """
    write_all(DiffusionReactionWriter if "activator" in ds else FlowWriter, ds, path)
