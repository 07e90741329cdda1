"""PDEArena (Gupta and Brandstetter 2022, arXiv:2209.15616): smoke in 2-D, and shallow water on the sphere.

Navier-Stokes: HDF5 with a group `train`, `valid` or `test` of `u` (the smoke), `vx`, `vy` (N, t, x, y) in
float64, the coordinates `t`, `x`, `y` once for each trajectory, `buo_y` (N) its buoyancy. Older releases
have `Vx`, `Vy`, and everything at the root. Shallow water: netCDF of SpeedyWeather, one trajectory a
file, `u`, `v`, `div`, `vor` (time, 1, lat, lon) and `pres` (time, lat, lon), or a Zarr group with a first
dimension `b`; the first frames are not yet balanced (PDEArena leaves out four, see subset.time).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources import convention, zarr_array
from pelagos.preprocessing.sources.convention import Boundaries, BoundaryOption
from pelagos.preprocessing.sources.files import Files
from pelagos.preprocessing.sources.glance import Finding, Glance
from pelagos.preprocessing.sources.lazy import Hdf5Dataset, Part, member, open_hdf5
from pelagos.preprocessing.sources.pieces import Piece, Stored, join, one_row

_SMOKE = {"tracer": ("u",), "velocity_x": ("vx", "Vx"), "velocity_y": ("vy", "Vy")}
_WATER = {"velocity_x": "u", "velocity_y": "v", "vorticity": "vor", "divergence": "div", "pressure": "pres"}
_SPLITS = ("train", "valid", "test")
_POLES = Boundaries(y=("pole", "pole"), x=("periodic", "periodic"))


class PDEArena(Files):
    """Reads files of PDEArena; several are laid end to end along the trajectories.

    Attributes:
        kind: "pdearena".
        split: the group to read, where a file has several.
        variables: fields to read, all if empty.
        boundary: beyond the edges; by default walls around smoke, the globe for shallow water.
    """

    kind: Literal["pdearena"] = "pdearena"
    split: Literal["train", "valid", "test"] | None = None
    variables: tuple[str, ...] = ()
    boundary: BoundaryOption | None = None

    @classmethod
    def recognise(cls, glance: Glance) -> Finding | None:
        """HDF5 with velocities by a mode's name, or shallow water with a vorticity."""
        for group in ("", *(f"{split}/" for split in _SPLITS)):
            keys = [f"{group}{key}" for name in _SMOKE for key in _SMOKE[name]]
            if sum(glance.rank(key) == 4 for key in keys) == 3 and glance.container == "hdf5":
                held = [
                    split for split in _SPLITS if any(key.startswith(f"{split}/") for key in glance.shapes)
                ]
                ask = {"split": f"one of {', '.join(held)}"} if len(held) > 1 else {}
                evidence = f"HDF5 with {glance.listed(*keys)}"
                return Finding("pdearena", "certain" if group else "likely", evidence, ask=ask)
        if glance.container in ("hdf5", "zarr") and glance.has("vor", "div", "pres", "lat", "lon"):
            return Finding(
                "pdearena", "certain", f"SpeedyWeather's shallow water: {glance.listed(*_WATER.values())}"
            )
        return None

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates and parameters, no field.

        Raises:
            ConfigError: if a file has several splits.
            DataError: for 3-D data, and trajectories that differ in their coordinates.
        """
        files = self.files()
        pieces = [self._of_zarr(path) if path.is_dir() else self._of_hdf5(path) for path in files]
        water = "vorticity" in pieces[0].fields
        boundary = self.boundary or (_POLES if water else convention.everywhere("wall"))
        ds = join(
            pieces,
            self,
            boundary,
            source_format="pdearena",
            latlon=water,
            time_units="h" if water else "1",
            license="MIT",
            references="arXiv:2209.15616",
        )
        return convention.select(ds, self.variables)

    def _of_zarr(self, path: Path) -> Piece:
        group = zarr_array.open_group(path)
        held: dict[str, Part] = {key: zarr_array.array(path, group, key) for key in group.array_keys()}
        units = {key: str(group[key].attrs.get("units", "")) for key in held}
        return _water(path, held, units)

    def _of_hdf5(self, path: Path) -> Piece:
        with open_hdf5(path) as file:
            if "vor" in file:
                held: dict[str, Part] = {
                    key: Hdf5Dataset.of(file[key])
                    for key in (*_WATER.values(), "time", "lat", "lon")
                    if key in file
                }
                units = {key: _text(file[key].attrs.get("units", "")) for key in held}
                return _water(path, held, units)
            return _smoke(path, self._group(path, file))

    def _group(self, path: Path, file: Any) -> Any:
        held = [split for split in _SPLITS if split in file]
        if self.split:
            return member(file, self.split)
        if len(held) > 1:
            raise ConfigError(f"split: {path} holds {', '.join(held)}; name one")
        return file[held[0]] if held else file


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _smoke(path: Path, group: Any) -> Piece:
    if "d_field" in group or "h_field" in group:
        raise DataError(f"{path}: Maxwell's equations in 3-D are not read; only 2-D data are")
    parts = {}
    for name, keys in _SMOKE.items():
        key = next((key for key in keys if key in group), keys[0])
        parts[name] = Hdf5Dataset.of(member(group, key))
    axes = ("trajectory", "time", "x", "y")
    count = parts["tracer"].shape[0]
    coordinates = {
        axis: one_row(path, axis, member(group, key)[()])
        for axis, key in (("time", "t"), ("y", "y"), ("x", "x"))
    }
    fields = {name: Stored("prognostic", axes, part) for name, part in parts.items()}
    scalars = {"buoyancy_y": np.asarray(group["buo_y"][()], np.float64)} if "buo_y" in group else {}
    return Piece(path, count, coordinates, fields, scalars)


def _water(path: Path, held: Mapping[str, Part], units: Mapping[str, str]) -> Piece:
    if absent := [key for key in ("vor", "time", "lat", "lon") if key not in held]:
        raise DataError(f"{path}: no '{absent[0]}'; it holds {', '.join(held)}")
    shape = held["vor"].shape
    many = ("trajectory",) if len(shape) == 5 else ()
    fields = {}
    for name, key in _WATER.items():
        if key in held:
            level = (0,) if len(held[key].shape) == len(many) + 4 else ()
            fields[name] = Stored(
                "prognostic", (*many, "time", *level, "y", "x"), held[key], units.get(key, "")
            )
    coordinates = {
        axis: _values(path, held[key], key) for axis, key in (("time", "time"), ("y", "lat"), ("x", "lon"))
    }
    return Piece(
        path, shape[0] if many else 1, {**coordinates, "time": _hours(path, coordinates, units)}, fields
    )


def _values(path: Path, part: Part, key: str) -> NDArray[np.float64]:
    return one_row(path, key, part.read((slice(None),) * len(part.shape)))


def _hours(
    path: Path, coordinates: Mapping[str, NDArray[np.float64]], units: Mapping[str, str]
) -> NDArray[np.float64]:
    """Times from the first frame; the calendar of an idealised run means nothing."""
    unit = units.get("time", "").split(" ")[0]
    scale = {"hours": 1, "minutes": 60, "seconds": 3600, "days": 1 / 24}.get(unit)
    if not scale:
        raise DataError(
            f"{path}: time has the units '{units.get('time', '')}'; hours since .. would be right"
        )
    return np.asarray((coordinates["time"] - coordinates["time"][0]) / scale)
