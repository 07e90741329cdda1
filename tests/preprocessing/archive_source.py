"""Archives that open in no time, as real ones do: a mapped .npy file, and a large HDF5 file that takes no room."""

import json
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import xarray as xr

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.config import Config


class Archive(Config):
    path: str

    def open(self) -> xr.Dataset:
        values = np.load(self.path, mmap_mode="r")
        num, length, num_variables, height, width = values.shape
        dims = ("trajectory", "time", "y", "x")
        attrs = {"units": "m s-1", "role": "prognostic"}
        variables = {
            name: (dims, da.from_array(values[:, :, number], chunks=(1, length, height, width)), attrs)
            for number, name in enumerate(["velocity_x", "velocity_y", "density"][:num_variables])
        }
        coords = {
            "trajectory": np.arange(num),
            "time": ("time", np.arange(length, dtype=np.float64), {"units": "s"}),
            "y": np.arange(height) / height,
            "x": np.arange(width) / width,
        }
        facts = {
            "dataset": "archive",
            "source_format": "npy",
            "grid": "cartesian",
            "boundary_y": "periodic,periodic",
            "boundary_x": "periodic,periodic",
            "sources": json.dumps([self.path]),
        }
        return xr.Dataset(variables, coords, facts)


def empty_archive(path: Path, trajectories: int) -> Path:
    """A large archive that takes no room: nothing of its fields was ever written."""
    with h5py.File(path, "w") as file:
        for name in ("density", "pressure", "Vx", "Vy"):
            file.create_dataset(name, (trajectories, 8, 128, 128), "f4", fillvalue=1.5)
        axis = (np.arange(128) + 0.5) / 128
        file["x-coordinate"], file["y-coordinate"], file["t-coordinate"] = axis, axis, np.arange(9.0)
    return path


def large(path: Path, **options: Any) -> BuildConfig:
    # Nothing was written, which a build refuses unless it is told what the values are.
    source = {"kind": "pdebench", "paths": str(path), "absent": "fill"}
    values = {"dataset": "large", "source": source, "root": path.parent}
    return BuildConfig.model_validate(values | options)
