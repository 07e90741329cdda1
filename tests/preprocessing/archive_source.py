"""A source that maps a .npy file of (trajectory, time, variable, y, x): opened in no time, as real archives are."""

import json

import dask.array as da
import numpy as np
import xarray as xr

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
