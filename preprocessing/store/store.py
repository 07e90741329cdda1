"""Store: what a build has written, opened for reading.

Shapes: N trajectories, T times, C channels, H rows, W columns, S scalars.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from pelagos.preprocessing.array_types import Flags, Float32s, Floats
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.location import Url, locate, read_all
from pelagos.preprocessing.split import ABSENT, SPLITS
from pelagos.preprocessing.store.format import FORMAT
from pelagos.preprocessing.store.frame_reader import FrameReader, SharedFrame
from pelagos.preprocessing.store.manifest import Damage, verify
from pelagos.preprocessing.store.memory_reader import EmptyReader
from pelagos.preprocessing.store.open_reader import open_reader
from pelagos.preprocessing.store.shard_layout import read_metadata
from pelagos.preprocessing.store.zarr_server import zarr_store
from pelagos.preprocessing.transform import Log1p
from pelagos.preprocessing.variables import Variable

__all__ = ["Damage", "Statistics", "Store", "open_store", "verify"]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of the training frames, for each of C channels and of C static channels; NaN do not count.

    Attributes:
        count: how many values there are.
        mean: 0 where there are none.
        std: 1 where all values are the same or there are none.
        minimum: NaN where there are none.
        maximum: likewise.
        constant: where the standard deviation would be 0.
        tendency_mean: of the difference of consecutive frames.
        tendency_std: likewise, 1 where it would be 0.
        static_count: of static channels, as are the next ones.
        static_mean: likewise.
        static_std: likewise.
        static_minimum: likewise.
        static_maximum: likewise.
        static_constant: likewise.
    """

    count: Floats
    mean: Floats
    std: Floats
    minimum: Floats
    maximum: Floats
    constant: Flags
    tendency_mean: Floats
    tendency_std: Floats
    static_count: Floats
    static_mean: Floats
    static_std: Floats
    static_minimum: Floats
    static_maximum: Floats
    static_constant: Flags


_STATISTICS = tuple(field.name for field in fields(Statistics))


@dataclass(frozen=True, eq=False)
class Store:
    """One dataset in one version, immutable; safe to share between threads.

    Attributes:
        path: of the Zarr group, in a folder or on a server.
        dataset: identifier.
        version: of the store.
        variables: channels of the state: prognostic, then forcing, then diagnostic.
        static_variables: channels that do not depend on time.
        params: names of scalars.
        grid: of all fields.
        times: (T,) from the first frame on, in `time_units`.
        time_units: seconds for dated data.
        splits: (N, T) which frames belong to each split.
        stats: of the training split.
        mask: (C, H, W) where a value ever exists in the training split.
        num_missing: how many values of the state and the static fields are NaN.
        frames: reads the state at (trajectory, time).
        static_frames: reads the static fields at (trajectory,).
        scalar_values: (N, S), NaN where missing.
        level: attributes of the levels' coordinate: `units`, `long_name`, for 3-D fields `boundary`, ...
        present: (N, T) which frames there are; None where all trajectories last as long.
    """

    path: Path | Url
    dataset: str
    version: str
    variables: tuple[Variable, ...]
    static_variables: tuple[Variable, ...]
    params: tuple[str, ...]
    grid: Grid
    times: Floats
    time_units: str
    splits: dict[str, Flags]
    stats: Statistics
    mask: Flags
    num_missing: int
    frames: FrameReader
    static_frames: FrameReader
    scalar_values: Floats
    level: Mapping[str, str]
    present: Flags | None

    @property
    def num_trajectories(self) -> int:
        """N."""
        return len(self.scalar_values)

    @property
    def num_times(self) -> int:
        """T."""
        return len(self.times)

    @property
    def dt(self) -> float:
        """Distance of two frames in `time_units`; 1 where there is one frame."""
        return float(self.times[-1]) / (self.num_times - 1) if self.num_times > 1 else 1.0

    def read(self, trajectory: int, start: int, stop: int) -> Float32s:
        """(stop - start, C, H, W) frames of one trajectory as stored, transforms not undone.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        if not 0 <= start <= stop <= self.num_times:
            raise IndexError(f"frames {start} to {stop}: {self.path.name} has {self.num_times} frames")
        out = np.empty((stop - start, len(self.variables), *self.grid.shape), np.float32)
        self.frames.read_frames((trajectory, start), out)
        return out

    def take(self, trajectory: int, frames: Sequence[int]) -> Float32s:
        """(T, C, H, W) some frames of one trajectory as stored, in rising order; a server is asked at once.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        first, last = frames[0], frames[-1] + 1
        if last - first == len(frames):
            return self.read(trajectory, first, last)
        reader = self.frames.prepare([(trajectory, frame) for frame in frames])
        out = np.empty((len(frames), len(self.variables), *self.grid.shape), np.float32)
        for frame, values in zip(frames, out, strict=True):
            reader.read_frame((trajectory, frame), [values])
        return out

    def static(self, trajectory: int) -> Float32s:
        """(C, H, W) static fields of one trajectory as stored.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        out = np.empty((len(self.static_variables), *self.grid.shape), np.float32)
        self.static_frames.read_frame((trajectory,), [out])
        return out

    def scalars(self, trajectory: int) -> Floats:
        """(S,) parameters of one trajectory, NaN where missing."""
        return np.asarray(self.scalar_values[trajectory])

    def to_xarray(self) -> xr.Dataset:
        """All fields, their physical values, and scalars in the one convention again; no field is read."""
        raw = xr.open_zarr(zarr_store(self.path), chunks=None, decode_timedelta=False)
        arrays = _unstacked(raw, "state", "channel", self.variables)
        if self.static_variables:
            arrays |= _unstacked(raw, "static", "static_channel", self.static_variables)
        for number, name in enumerate(self.params):
            scalar = raw["params"].isel(param=number).drop_vars("param")
            arrays[name] = scalar.assign_attrs(role="scalar", units="1")
        ds = xr.Dataset(arrays).assign_coords({name: raw[name] for name in ("trajectory", "time", "y", "x")})
        if "level" in ds.coords:
            ds["level"].attrs |= dict(self.level)
        if self.present is not None:
            ds = ds.assign_coords(present=(("trajectory", "time"), self.present))
        facts = {
            "dataset": self.dataset,
            "source_format": "pelagos",
            **self.grid.to_attrs(),
            "sources": json.dumps([str(self.path)]),
        }
        kept = {name: raw.attrs[name] for name in ("title", "license", "references") if name in raw.attrs}
        return ds.assign_attrs(facts | kept)


def _unstacked(
    raw: xr.Dataset, array: str, dim: str, variables: tuple[Variable, ...]
) -> dict[str, xr.DataArray]:
    """One array a name; the channels `name@level` of one name along `level`."""
    unstacked = {}
    stacked = raw[array].drop_vars(dim, errors="ignore")
    stacked.attrs = {}
    if "common" in stacked.dims:
        stacked = stacked.isel(common=0)
    for name in dict.fromkeys(variable.name for variable in variables):
        numbers = [number for number, variable in enumerate(variables) if variable.name == name]
        variable = variables[numbers[0]]
        if variable.level is None:
            values = stacked.isel({dim: numbers[0]})
        else:
            levels = np.array([variables[number].level for number in numbers])
            values = stacked.isel({dim: numbers}).rename({dim: "level"}).assign_coords(level=levels)
        if variable.transform is not None:
            lazy = indexing.LazilyIndexedArray(_Inverse(values.variable, variable.transform))
            values = values.copy(data=lazy)
        texts = {"role": variable.role, "units": variable.units, "group": variable.group}
        unstacked[name] = values.assign_attrs(
            {key: text for key, text in (texts | {"long_name": variable.long_name}).items() if text}
        )
    return unstacked


class _Inverse(BackendArray):
    """An array with a transform undone on what is read of it."""

    def __init__(self, stored: xr.Variable, transform: Log1p) -> None:
        self.stored, self.transform = stored, transform
        self.shape, self.dtype = stored.shape, stored.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: Any) -> NDArray[Any]:
        return self.transform.inverse(self.stored[key].values).astype(self.dtype)


def open_store(path: Path | Url | str) -> Store:
    """Open a complete store; reads metadata, coordinates, splits and statistics.

    Args:
        path: of a folder, or a URL.

    Raises:
        MissingFileError: there is no store, or its build is not complete.
        DamagedFileError: a file of it is missing or damaged, or its server is gone.
        DataError: the folder holds something else, or a format that this version does not know.
    """
    path = located(path)
    if not path.is_dir():
        raise MissingFileError(f"{path}: no such store{_hint(path)}")
    about = read_metadata(path).get("attributes", {}).get("pelagos")
    if about is None:
        raise DataError(f"{path}: a Zarr group, but not one that `pelagos build` has written")
    if about["format"] != FORMAT:
        raise DataError(f"{path}: of format {about['format']}; this version of Pelagos reads format {FORMAT}")
    static = tuple(Variable(**fields) for fields in about["static_variables"])
    stats = [name for name in _STATISTICS if static or not name.startswith("static_")]
    own = ["split", "time", "mask", *(["params"] if about["params"] else [])]
    values = _values(path, [*own, *(f"stats/{name}" for name in stats)])
    axis, present = values["time"], values["split"] != ABSENT
    return Store(
        path=path,
        dataset=about["dataset"],
        version=about["version"],
        variables=tuple(Variable(**fields) for fields in about["variables"]),
        static_variables=static,
        params=tuple(about["params"]),
        grid=Grid.from_json(about["grid"]),
        times=(axis - axis[0]).astype(np.float64),
        time_units=about["time_units"],
        splits={name: values["split"] == code for code, name in enumerate(SPLITS)},
        stats=Statistics(**{name: values.get(f"stats/{name}", np.empty(0)) for name in _STATISTICS}),
        mask=values["mask"],
        num_missing=about["num_missing"],
        frames=open_reader(path / "state"),
        static_frames=_static_reader(path, about),
        scalar_values=values.get("params", np.empty((len(values["split"]), 0))),
        level=about.get("level", {}),
        present=None if np.all(present) else present,
    )


def _static_reader(path: Path | Url, about: dict[str, Any]) -> FrameReader:
    if not about["static_variables"]:
        return EmptyReader()
    reader = open_reader(path / "static")
    return reader if about["static_varies"] else SharedFrame(reader)


def located(path: Path | Url | str) -> Path | Url:
    """Where a store lies; raises ConfigError for a URL that nobody can read."""
    try:
        return locate(path)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _hint(path: Path | Url) -> str:
    if path.with_name(f"{path.name}.building").is_dir():
        return "; its build is not complete: run `pelagos build` again to go on"
    others = sorted(other.name for other in path.parent.glob("*.zarr")) if isinstance(path, Path) else ()
    return f"; there are {', '.join(others)}" if others else ""


def _values(path: Path | Url, names: list[str]) -> dict[str, NDArray[Any]]:
    """Small arrays of one file; zarr-python would take a missing one for zeros."""
    metadata = _read(path, [f"{name}/zarr.json" for name in names])
    chunks = [_chunk(path, name, text) for name, text in zip(names, metadata, strict=True)]
    values = {}
    for name, text, key, content in zip(names, metadata, chunks, _read(path, chunks), strict=True):
        held: dict[str, Buffer] = {
            "zarr.json": cpu.Buffer.from_bytes(text),
            key.removeprefix(f"{name}/"): cpu.Buffer.from_bytes(content),
        }
        try:
            values[name] = np.asarray(zarr.open_array(MemoryStore(held), mode="r")[...])
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(
                f"{path / name}: cannot be read: {error}; `pelagos repair` mends the store"
            ) from error
    return values


def _chunk(path: Path | Url, name: str, metadata: bytes) -> str:
    try:
        dims = len(json.loads(metadata)["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{path / name}/zarr.json: damaged: {error}; `pelagos repair` mends the store"
        ) from error
    return "/".join((name, "c", *["0"] * dims))


def _read(path: Path | Url, names: list[str]) -> list[bytes]:
    found = []
    for name, content in zip(names, read_all([path / name for name in names]), strict=True):
        if content is None:
            raise DamagedFileError(f"{path / name}: missing; `pelagos repair` mends the store")
        found.append(content)
    return found
