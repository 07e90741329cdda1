"""Store: what a build has written, opened for reading.

Shapes: N trajectories, T times, C channels, H rows, W columns, S scalars.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pelagos.preprocessing.array_types import Flags, Float32s, Floats
from pelagos.preprocessing.assumptions import ASSUMPTIONS, Assumption, recorded
from pelagos.preprocessing.errors import ConfigError, DataError, MissingFileError
from pelagos.preprocessing.files.location import Url, locate
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.store.format import ABSENT, CODED_FORMAT, FORMAT, SPLITS
from pelagos.preprocessing.store.frame_reader import EmptyReader, FrameReader, MemoryReader, SharedFrame
from pelagos.preprocessing.store.manifest import Manifest
from pelagos.preprocessing.store.sample_store import Statistics
from pelagos.preprocessing.store.shard_checks import NO_CHECKS, ShardChecks, Verify
from pelagos.preprocessing.store.shard_layout import (
    ShardLayout,
    TypeName,
    UnsupportedLayoutError,
    read_metadata,
)
from pelagos.preprocessing.store.shard_reader import ShardReader
from pelagos.preprocessing.store.small_files import (
    manifest_of,
    read_small_arrays,
    read_small_files,
    shard_files,
)
from pelagos.preprocessing.variables import Variable

if TYPE_CHECKING:
    from pelagos.preprocessing.physics.symmetry import DeclaredSymmetries
    from pelagos.preprocessing.quantities.date_axis import DateAxis
    from pelagos.preprocessing.store.coding import Coding
    from pelagos.preprocessing.store.store_lease import StoreLease

_STATISTICS = tuple(field.name for field in fields(Statistics))
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Store:
    """One dataset in one version, immutable; safe to share between threads.

    Attributes:
        path: the path of the Zarr group, in a folder or on a server.
        dataset: its identifier.
        version: the dataset's version.
        variables: channels of the state: prognostic, then forcing, then diagnostic.
        static_variables: channels that do not depend on time.
        params: names of the scalars.
        grid: of all fields.
        times: (T,) since the first frame, in `time_units`.
        time_units: units of time; seconds for data with dates.
        splits: (N, T) which frames belong to each split.
        stats: statistics of the training split, or of those of its trajectories that were chosen.
        mask: (C, H, W) where a value ever exists in the training split.
        num_missing: how many values of the state and the static fields are NaN.
        frames: reads the state at (trajectory, time).
        static_frames: reads the static fields at (trajectory,).
        scalar_values: (N, S), NaN where missing.
        level: attributes of the vertical coordinate: `units`, `long_name`, for 3-D fields `boundary`, ...
        present: (N, T) which frames exist; None where all trajectories have the same length.
        assumptions: what the build assumed; None in older stores, which do not record it.
        dates: of the frames; None for times without dates.
        archive: the format of what it was built from.
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
    assumptions: tuple[Assumption, ...] | None = None
    dates: "DateAxis | None" = None
    archive: str = ""

    @property
    def label(self) -> str:
        """Where it lies, for messages."""
        return str(self.path)

    @property
    def symmetries(self) -> "DeclaredSymmetries | None":
        """None: archives do not tell which equation they obey."""
        return None

    @property
    def num_trajectories(self) -> int:
        """N, the number of trajectories."""
        return len(self.scalar_values)

    @property
    def num_times(self) -> int:
        """T, the number of frames of the longest trajectory."""
        return len(self.times)

    @property
    def dt(self) -> float:
        """The time from one frame to the next, in `time_units`; 1 where there is one frame only."""
        return float(self.times[-1]) / (self.num_times - 1) if self.num_times > 1 else 1.0

    def read(self, trajectory: int, start: int, stop: int) -> Float32s:
        """(stop - start, C, H, W) consecutive frames of one trajectory as stored: transforms are not undone.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        if not 0 <= start <= stop <= self.num_times:
            raise IndexError(f"frames {start} to {stop}: {self.path.name} has {self.num_times} frames")
        out = np.empty((stop - start, len(self.variables), *self.grid.shape), np.float32)
        self.frames.read_frames((trajectory, start), out)
        return out

    def take(self, trajectory: int, frames: Sequence[int]) -> Float32s:
        """(T, C, H, W) the given frames of one trajectory as stored; a server is asked for all of them at once.

        Args:
            trajectory: its number.
            frames: their numbers, in rising order.

        Raises:
            DamagedFileError: a shard is missing or damaged.
        """
        # Consecutive frames of a shard are one system call, or one request.
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
        """(S,) scalars of one trajectory, NaN where missing."""
        return np.asarray(self.scalar_values[trajectory])


def open_store(path: Path | Url | str, verify: Verify = "opening") -> Store:
    """Open a complete store; reads metadata, coordinates, splits and statistics.

    While it is open, no build replaces it.

    Args:
        path: a folder's path, or a URL.
        verify: what is compared with the manifest: by default all but the contents of shards, see `Verify`.

    Raises:
        MissingFileError: there is no store, or its build is not complete.
        DamagedFileError: a file of it is missing or damaged, or its server is gone.
        ConfigError: the contents of shards on a server are to be compared.
        DataError: the folder holds something else, or a format that this version does not know.
    """
    path = store_location(path)
    if not path.is_dir():
        raise MissingFileError(f"{path}: no such store{_hint(path)}")
    # Before anything is read, so that all that follows is of one store.
    lease = _lease(path)
    metadata = read_metadata(path)
    attributes = metadata.get("attributes", {})
    about = attributes.get("pelagos")
    if about is None:
        raise DataError(f"{path}: a Zarr group, but not one that `pelagos build` has written")
    if about["format"] not in (FORMAT, CODED_FORMAT):
        raise DataError(
            f"{path}: of format {about['format']}; this version of Pelagos reads formats {FORMAT} and {CODED_FORMAT}"
        )
    manifest = None if verify == "none" else manifest_of(path)
    held = {} if manifest is None else read_small_files(path, manifest)
    static = tuple(Variable(**fields) for fields in about["static_variables"])
    # Builds leave out what a store has nothing of: no static channels, no scalars.
    stats = [name for name in _STATISTICS if static or not name.startswith("static_")]
    calendar, dated = _calendar(metadata)
    own = [
        "split",
        "time",
        "mask",
        *([dated] if dated == "date" else []),
        *(["params"] if about["params"] else []),
        *(_coding_arrays(static) if about["format"] == CODED_FORMAT else []),
    ]
    values = read_small_arrays(path, [*own, *(f"stats/{name}" for name in stats)], held)
    axis, present = values["time"], values["split"] != ABSENT
    return Store(
        path=path,
        dataset=about["dataset"],
        version=about["version"],
        variables=tuple(Variable(**fields) for fields in about["variables"]),
        static_variables=static,
        params=tuple(about["params"]),
        grid=Grid.from_json(about["grid"]),
        # Durations, in which networks and scores think; dates stay in the store's own axis.
        times=(axis - axis[0]).astype(np.float64),
        time_units=about["time_units"],
        splits={name: values["split"] == code for code, name in enumerate(SPLITS)},
        stats=Statistics(**{name: values.get(f"stats/{name}", np.empty(0)) for name in _STATISTICS}),
        mask=values["mask"],
        num_missing=about["num_missing"],
        frames=open_reader(
            path / "state",
            _checks(path, "state", manifest, verify, lease),
            held.get("state/zarr.json"),
            _coding(values, ""),
        ),
        static_frames=_static_reader(
            path,
            about,
            _checks(path, "static", manifest, verify, lease),
            held.get("static/zarr.json"),
            _coding(values, "static_"),
        ),
        scalar_values=values.get("params", np.empty((len(values["split"]), 0))),
        level=about.get("level", {}),
        present=None if np.all(present) else present,
        assumptions=recorded(attributes.get(ASSUMPTIONS)),
        dates=_date_axis(values[dated], axis, calendar, about["time_units"]) if dated else None,
        archive=str(attributes.get("source", "")),
    )


def _calendar(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """The calendar of a store's dates, and the array that holds them; both empty where it has none."""
    arrays = metadata.get("consolidated_metadata", {}).get("metadata", {})
    for name in ("time", "date"):
        attributes = arrays.get(name, {}).get("attributes", {})
        if "calendar" in attributes:
            return str(attributes["calendar"]), name
    return "", ""


def _date_axis(seconds: Floats, axis: Floats, calendar: str, units: str) -> "DateAxis":
    from pelagos.preprocessing.quantities.date_axis import DateAxis  # calendars are for dated stores

    # Time counts months where frames are months apart.
    months = round(float(axis[1] - axis[0])) if units == "months" and len(axis) > 1 else 0
    return DateAxis(seconds.astype(np.float64), calendar, months)


def _coding_arrays(static: Sequence[Variable]) -> list[str]:
    return ["scale", "offset", *(["static_scale", "static_offset"] if static else [])]


def _coding(values: Mapping[str, Any], prefix: str) -> "Coding | None":
    if f"{prefix}scale" not in values:
        return None
    from pelagos.preprocessing.store.coding import Coding  # of stores in 16 bits alone

    return Coding(values[f"{prefix}scale"], values[f"{prefix}offset"])


def _lease(path: Path | Url) -> "StoreLease | None":
    """What keeps a store from being replaced; None on a server, where none is, and for a copy without a manifest."""
    if not isinstance(path, Path):
        return None
    from pelagos.preprocessing.store.store_lease import StoreLease  # for folders alone

    try:
        return StoreLease(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _checks(
    path: Path | Url, array: str, manifest: Manifest | None, verify: Verify, lease: "StoreLease | None"
) -> ShardChecks:
    if verify == "frames" and isinstance(path, Url):
        raise ConfigError(
            f"{path}: verify: frames is for stores in folders, since it reads shards whole; `pelagos verify {path}`"
            " fetches and compares every file once"
        )
    files = {} if manifest is None else shard_files(manifest, array)
    return ShardChecks(files, contents=verify == "frames", lease=lease)


def _static_reader(
    path: Path | Url,
    about: dict[str, Any],
    checks: ShardChecks,
    metadata: bytes | None,
    coding: "Coding | None",
) -> FrameReader:
    if not about["static_variables"]:
        return EmptyReader()
    reader = open_reader(path / "static", checks, metadata, coding)
    return reader if about["static_varies"] else SharedFrame(reader)


def open_reader(
    path: Path | Url,
    checks: ShardChecks = NO_CHECKS,
    metadata: bytes | None = None,
    coding: "Coding | None" = None,
) -> FrameReader:
    """A reader of the array in a folder or on a server: our own where it can, else zarr-python's.

    Args:
        path: the array's path or URL.
        checks: what to compare before a shard's first frame is used; on a server nothing is.
        metadata: the content of its `zarr.json`, if it has been read.
        coding: of its values, if it keeps them in 16 bits.

    Raises:
        DamagedFileError: the folder holds no array.
    """
    if coding is None:
        return _open_reader(path, checks, metadata, "float32")
    from pelagos.preprocessing.store.coded_reader import CodedReader  # see `_coding`

    return CodedReader(_open_reader(path, checks, metadata, "float16"), coding)


def _open_reader(
    path: Path | Url, checks: ShardChecks, metadata: bytes | None, dtype: TypeName
) -> FrameReader:
    found = read_metadata(path) if metadata is None else json.loads(metadata)
    try:
        layout = ShardLayout.from_metadata(found, dtype)
    except UnsupportedLayoutError as reason:
        # Stores that others have rewritten. tensorstore would read them eleven times faster, for 66 MB installed.
        _log.warning("%s is read through zarr-python, which is slower: %s", path, reason)
        # Readers that few need are loaded when there is something for them to read.
        from pelagos.preprocessing.store.zarr_reader import ZarrReader

        return ZarrReader(path, checks, dtype)
    if isinstance(path, Path):
        return ShardReader(path, layout, checks)
    from pelagos.preprocessing.store.remote_reader import RemoteReader  # see above

    remote = RemoteReader(path, layout)
    if layout.shape[:-3] != (1,):
        return remote
    # The one frame that all trajectories share is fetched once, rather than with every batch.
    values = np.empty(layout.shape, dtype)
    remote.read_frame((0,), [values])
    return MemoryReader(values)


def store_location(path: Path | Url | str) -> Path | Url:
    """Where a store lies.

    Raises:
        ConfigError: a URL of a protocol that is not known, or with credentials.
    """
    try:
        return locate(path)
    except ValueError as error:
        from pelagos.preprocessing.safety.credentials import redacted  # only URLs hold credentials

        raise ConfigError(
            f"{redacted(str(path))}: {error}"
        ) from None  # its context holds the URL as it was given


def _hint(path: Path | Url) -> str:
    if path.with_name(f"{path.name}.building").is_dir():
        return "; its build is not complete: run `pelagos build` again to go on"
    others = sorted(other.name for other in path.parent.glob("*.zarr")) if isinstance(path, Path) else ()
    return f"; there are {', '.join(others)}" if others else ""
