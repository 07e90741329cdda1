"""PDEArena (Gupta and Brandstetter 2022, arXiv:2209.15616): smoke, shallow water on the sphere, Maxwell's equations.

- Navier-Stokes: HDF5 with a group `train`, `valid` or `test`; `u` (the smoke), `vx`, `vy` (N, t, x, y) in float64,
  coordinates `t`, `x`, `y` repeated for each trajectory, buoyancy `buo_y` (N). Older releases have `Vx`, `Vy`, and
  everything at the root.
- Shallow water: netCDF of SpeedyWeather with one trajectory in each file, `u`, `v`, `div`, `vor` (time, 1, lat, lon)
  and `pres` (time, lat, lon), or a Zarr group with a first dimension `b`. The first frames are not yet balanced:
  PDEArena leaves out four, which `subset.time` can do.
- Maxwell's equations in 3-D: `d_field` and `h_field` (N, t, x, y, z, 3) without coordinates, cut out of a larger
  periodic domain, so that sides are open. What the generator calls `d_field` is the electric field.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import PositiveFloat

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays import zarr_array
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader
from pelagos.preprocessing.sources.arrays.hdf5_file import Hdf5Dataset, member, open_hdf5, whole
from pelagos.preprocessing.sources.arrays.hdf5_left_out import say_unread
from pelagos.preprocessing.sources.arrays.join_files import (
    FileContents,
    FileField,
    join_files,
    periodic_axis,
    shared_coordinate,
)
from pelagos.preprocessing.sources.convention import Boundaries, BoundaryOption
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding

_SMOKE = {"tracer": ("u",), "velocity_x": ("vx", "Vx"), "velocity_y": ("vy", "Vy")}
_WATER = {"velocity_x": "u", "velocity_y": "v", "vorticity": "vor", "divergence": "div", "pressure": "pres"}
_SMOKE_KEYS = tuple(key for keys in _SMOKE.values() for key in keys)
_MAXWELL = ("d_field", "h_field")
_ASKED = {
    "dt": "time between frames; 1 counts in frames",
    "length": "extent of the domain along each axis, 1.6e-5 in the generator's own settings; 1 counts in domains",
}
_SPLITS = ("train", "valid", "test")
_POLES = Boundaries(y=("pole", "pole"), x=("periodic", "periodic"))


class PDEArena(FileSource):
    """Reads files of PDEArena; several are concatenated along the trajectories.

    Attributes:
        kind: "pdearena".
        split: the group to read, where a file has several.
        variables: fields to read, all if empty.
        boundary: beyond the edges; by default walls around smoke, poles and a circle for shallow water, open sides
            for Maxwell's equations.
        dt: time between frames, for Maxwell's equations only.
        length: extent of the domain along each axis, for Maxwell's equations only.
    """

    kind: Literal["pdearena"] = "pdearena"
    split: Literal["train", "valid", "test"] | None = None
    variables: tuple[str, ...] = ()
    boundary: BoundaryOption | None = None
    dt: PositiveFloat | None = None
    length: PositiveFloat | None = None

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """The arrays of one of the three equations, at the root or in the group of a split."""
        for group in ("", *(f"{split}/" for split in _SPLITS)) if listing.container == "hdf5" else ():
            keys, maxwell = ([f"{group}{key}" for key in some] for some in (_SMOKE_KEYS, _MAXWELL))
            ask = {}
            if all(listing.rank(key) == 6 for key in maxwell):
                keys, ask = maxwell, dict(_ASKED)
            elif sum(listing.rank(key) == 4 for key in keys) != 3:
                continue
            held = [split for split in _SPLITS if any(key.startswith(f"{split}/") for key in listing.shapes)]
            if len(held) > 1:
                ask["split"] = f"one of {', '.join(held)}"
            evidence = f"HDF5 with {listing.describe(*keys)}"
            return Finding("pdearena", "certain" if group else "likely", evidence, ask=ask)
        if listing.container in ("hdf5", "zarr") and listing.has("vor", "div", "pres", "lat", "lon"):
            return Finding(
                "pdearena", "certain", f"SpeedyWeather's shallow water: {listing.describe(*_WATER.values())}"
            )
        return None

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates and parameters, no field.

        Raises:
            ConfigError: if a file has several splits, or neither the file nor the options say the coordinates.
            DataError: for trajectories that differ in their coordinates.
        """
        places = self.places()
        contents = [
            self._of_zarr(path) if isinstance(path, Url) or path.is_dir() else self._of_hdf5(path)
            for path in places
        ]
        water = "vorticity" in contents[0].fields
        maxwell = "level" in contents[0].coordinates
        if (self.dt or self.length) and not maxwell:
            raise ConfigError(
                f"{'dt' if self.dt else 'length'}: {places[0]} holds its coordinates; leave it out"
            )
        edges = convention.on_all_sides("open" if maxwell else "wall")
        boundary = self.boundary or (_POLES if water else edges)
        ds = join_files(
            contents,
            self,
            boundary,
            source_format="pdearena",
            latlon=water,
            time_units="h" if water else "1",
            license="MIT",
            references="arXiv:2209.15616",
        )
        return convention.select(ds, self.variables)

    def _of_zarr(self, path: Path | Url) -> FileContents:
        group = zarr_array.open_group(path)
        held: dict[str, ArrayReader] = {key: zarr_array.array(path, group, key) for key in group.array_keys()}
        units = {key: str(group[key].attrs.get("units", "")) for key in held}
        return _water(path, held, units)

    def _of_hdf5(self, path: Path) -> FileContents:
        with open_hdf5(path) as file:
            if "vor" in file:
                held: dict[str, ArrayReader] = {
                    key: Hdf5Dataset.of(file[key])
                    for key in (*_WATER.values(), "time", "lat", "lon")
                    if key in file
                }
                units = {key: _text(file[key].attrs.get("units", "")) for key in held}
                say_unread(file, held)
                return _water(path, held, units)
            group = self._group(path, file)
            contents = self._maxwell(path, group) if set(_MAXWELL) & set(group) else _smoke(path, group)
            read = [
                field.reader.key
                for field in contents.fields.values()
                if isinstance(field.reader, Hdf5Dataset)
            ]
            say_unread(group, read, ("t", "x", "y", "dt", "dx", "dy"))
            return contents

    def _maxwell(self, path: Path, group: Any) -> FileContents:
        if self.dt is None or self.length is None:
            raise ConfigError(
                f"{'length' if self.dt else 'dt'}: {path} has no coordinates; set dt, the time between frames,"
                " and length, the extent of the domain along each axis (1 counts in frames, or domains)"
            )
        readers = {key: Hdf5Dataset.of(member(group, key)) for key in _MAXWELL}
        shape = readers["d_field"].shape
        if len(shape) != 6 or shape[-1] != 3:
            raise DataError(f"{path}: d_field has shape {shape}; (sample, time, x, y, z, 3) would be right")
        axes = ("trajectory", "time", "x", "y", "level")
        coordinates = {
            axis: periodic_axis(n, self.length) for axis, n in zip(axes[2:], shape[2:5], strict=True)
        }
        coordinates["time"] = np.arange(shape[1], dtype=np.float64) * self.dt
        fields = {
            f"{key}_{component}": FileField("prognostic", (*axes, i), reader)
            for key, reader in readers.items()
            for i, component in enumerate("xyz")
        }
        return FileContents(path, shape[0], coordinates, fields)

    def _group(self, path: Path, file: Any) -> Any:
        held = [split for split in _SPLITS if split in file]
        if self.split:
            return member(file, self.split)
        if len(held) > 1:
            raise ConfigError(f"split: {path} holds {', '.join(held)}; name one")
        return file[held[0]] if held else file


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _smoke(path: Path, group: Any) -> FileContents:
    readers = {}
    for name, keys in _SMOKE.items():
        key = next((key for key in keys if key in group), keys[0])
        readers[name] = Hdf5Dataset.of(member(group, key))
    axes = ("trajectory", "time", "x", "y")
    count = readers["tracer"].shape[0]
    coordinates = {
        axis: shared_coordinate(path, axis, whole(member(group, key)))
        for axis, key in (("time", "t"), ("y", "y"), ("x", "x"))
    }
    coordinates["time"] = convention.even_times(coordinates["time"], group["t"].dtype)
    fields = {name: FileField("prognostic", axes, reader) for name, reader in readers.items()}
    scalars = {"buoyancy_y": np.asarray(whole(group["buo_y"]), np.float64)} if "buo_y" in group else {}
    return FileContents(path, count, coordinates, fields, scalars)


def _water(path: Path | Url, held: Mapping[str, ArrayReader], units: Mapping[str, str]) -> FileContents:
    if absent := [key for key in ("vor", "time", "lat", "lon") if key not in held]:
        raise DataError(f"{path}: no '{absent[0]}'; it holds {', '.join(held)}")
    shape = held["vor"].shape
    # The Zarr form has a dimension of trajectories, files have one trajectory each.
    many = ("trajectory",) if len(shape) == 5 else ()
    fields = {}
    for name, key in _WATER.items():
        if key in held:
            level = (0,) if len(held[key].shape) == len(many) + 4 else ()
            fields[name] = FileField(
                "prognostic", (*many, "time", *level, "y", "x"), held[key], units.get(key, "")
            )
    coordinates = {
        axis: _values(path, held[key], key) for axis, key in (("time", "time"), ("y", "lat"), ("x", "lon"))
    }
    times = _hours(path, convention.even_times(coordinates["time"], held["time"].dtype), units)
    return FileContents(path, shape[0] if many else 1, {**coordinates, "time": times}, fields)


def _values(path: Path | Url, reader: ArrayReader, key: str) -> NDArray[np.float64]:
    return shared_coordinate(path, key, reader.read((slice(None),) * len(reader.shape)))


def _hours(path: Path | Url, times: NDArray[np.float64], units: Mapping[str, str]) -> NDArray[np.float64]:
    """Hours since the first frame: the calendar date of an idealised run means nothing."""
    unit = units.get("time", "").split(" ")[0]
    scale = {"hours": 1, "minutes": 60, "seconds": 3600, "days": 1 / 24}.get(unit)
    if not scale:
        raise DataError(
            f"{path}: time has the units '{units.get('time', '')}';"
            " hours, minutes, seconds or days since a date would be right"
        )
    return np.asarray((times - times[0]) / scale)
