"""A source whose values follow from a formula: what builds and stores are tested with."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.select_fields import select_fields

ROLES = {
    "velocity_x": "prognostic",
    "velocity_y": "prognostic",
    "density": "diagnostic",
    "heating": "forcing",
}


class Analytic(Config):
    """Fields a(i) + b t + c y + d x of trajectory i, in the one convention.

    A file named `path` stands for the archive: it is recorded as a source, and where it is shorter than
    `trajectories` bytes the trajectories beyond its end cannot be read. The variable ANALYTIC_PAUSE of the
    environment makes reading slow, by so many seconds a trajectory and field.
    """

    trajectories: int = 6
    times: int = 5
    size: int = 8
    names: tuple[str, ...] = ("velocity_x", "velocity_y")
    levels: tuple[float, ...] = ()
    level_units: str = ""
    static: Literal["none", "common", "varying"] = "none"
    scalars: bool = False
    dates: bool = False
    latlon: bool = False
    dtype: str = "float32"
    missing: tuple[int, int] | None = None
    infinite: tuple[int, int] | None = None
    sea: int = 0
    repeats: int = 0
    path: str = ""

    def values(self, name: str) -> np.ndarray[Any, Any]:
        """(trajectory, time, [level,] y, x) all values of a field."""
        number = [*ROLES, "depth"].index(name)
        axes = np.meshgrid(
            np.arange(self.trajectories),
            np.arange(self.times),
            np.arange(max(1, len(self.levels))),
            np.arange(self.size),
            np.arange(self.size),
            indexing="ij",
        )
        i, t, level, y, x = (axis.astype(np.float64) for axis in axes)
        field = np.sin(i + 1 + number) + 0.1 * (number + 1) * t + 0.01 * y - 0.02 * x + 10 * level
        if self.missing is not None:
            field[self.missing[0], self.missing[1], :, 0, 1] = np.nan
        field[..., : self.sea] = np.nan
        if self.repeats:
            field[self.repeats :, 0] = field[: -self.repeats, 0]
        if self.infinite is not None:
            field[self.infinite[0], self.infinite[1], :, 0, 1] = np.inf
        return field.astype(self.dtype) if self.levels else field[:, :, 0].astype(self.dtype)

    def open(self) -> xr.Dataset:
        """The dataset; reading a field goes through Dask, block by block."""
        dims = ("trajectory", "time", "level", "y", "x") if self.levels else ("trajectory", "time", "y", "x")
        variables: dict[str, Any] = {}
        for name in self.names:
            values = self.values(name)
            lazy = da.from_array(values, chunks=(1, -1, *values.shape[2:]), name=False)
            lazy = lazy.map_blocks(self._read, dtype=values.dtype, meta=values[:0])
            attrs = {"units": "m s-1", "role": ROLES[name], "long_name": name}
            variables[name] = (dims, lazy, attrs)
        if self.static != "none":
            depth = self.model_copy(update={"levels": ()}).values("depth")[:, 0]
            attrs = {"units": "m", "role": "static"}
            varying = ("trajectory", "y", "x")
            variables["depth"] = (
                (varying, depth, attrs) if self.static == "varying" else (("y", "x"), depth[0], attrs)
            )
        if self.scalars:
            values = np.arange(self.trajectories) // 2 + 0.5
            variables["viscosity"] = ("trajectory", values, {"units": "1", "role": "scalar"})
        return xr.Dataset(variables, self._coords(), self._attrs())

    def _coords(self) -> dict[str, Any]:
        days = np.datetime64("2001-12-28T00", "ns") + 6 * np.arange(self.times) * np.timedelta64(1, "h")
        seconds = 0.5 + 0.25 * np.arange(self.times)
        coords: dict[str, Any] = {
            "trajectory": np.arange(self.trajectories) + 100,
            "time": ("time", days) if self.dates else ("time", seconds, {"units": "s"}),
            "y": np.linspace(-70, 70, self.size) if self.latlon else np.arange(self.size) / self.size,
            "x": np.arange(self.size) * (360 / self.size)
            if self.latlon
            else np.arange(self.size) / self.size,
        }
        told = {"units": self.level_units} if self.level_units else {}
        return coords | ({"level": ("level", list(self.levels), told)} if self.levels else {})

    def _attrs(self) -> dict[str, str]:
        return {
            "dataset": "analytic",
            "source_format": "a formula",
            "grid": "latlon" if self.latlon else "cartesian",
            "boundary_y": "pole,pole" if self.latlon else "wall,wall",
            "boundary_x": "periodic,periodic",
            "sources": json.dumps([self.path] if self.path else []),
            "license": "CC0-1.0",
        }

    def _read(self, block: np.ndarray[Any, Any], block_info: Any = None) -> np.ndarray[Any, Any]:
        time.sleep(float(os.environ.get("ANALYTIC_PAUSE", "0")))
        if self.path and block_info:
            start, stop = block_info[0]["array-location"][0]
            if Path(self.path).stat().st_size < stop:
                raise OSError(f"unexpected end of file at trajectory {start}")
        return block


def configuration(root: Path, source: dict[str, Any] | None = None, **options: Any) -> BuildConfig:
    """A build of the analytic source with these arguments; the rest are options of the build."""
    values = {
        "dataset": "analytic",
        "source": {"kind": "external", "path": "analytic_source:Analytic", "args": source or {}},
        "root": root,
        "splits": {"kind": "trajectories", "valid": 1, "test": 1},
        "shard_bytes": 2560,
    }
    return BuildConfig.model_validate(values | options)


EVERYTHING = (slice(0, 6), slice(0, 5))
"""All trajectories and times of the source by default."""


def analytic_fields(root: Path, source: dict[str, Any] | None = None, **options: Any) -> FieldReader:
    """The fields of the analytic source with these arguments that options of the build take."""
    return select_fields(Analytic(**(source or {})).open(), configuration(root, **options))


def contents(path: Path) -> dict[str, str]:
    """The SHA-256 of each file of a store, by its path in the store."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
