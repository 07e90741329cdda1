"""Frames of an array on disk, by the direct reader where it can and through zarr-python where it cannot."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import zarr
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.location import Url
from pelagos.preprocessing.store.remote_reader import RemoteFrames
from pelagos.preprocessing.store.scatter import spread
from pelagos.preprocessing.store.shard_layout import ShardLayout, UnsupportedLayoutError, read_metadata
from pelagos.preprocessing.store.shard_reader import ShardReader
from pelagos.preprocessing.store.zarr_server import zarr_store

_log = logging.getLogger(__name__)


class FrameReader(Protocol):
    """Reads frames, the values at one position of an array's leading axes; safe to share between threads."""

    def read_frame(self, position: tuple[int, ...], buffers: Sequence[NDArray[Any]]) -> None:
        """Fill buffers one after the other from the start of one frame."""

    def read_frames(self, position: tuple[int, ...], out: NDArray[np.float32]) -> None:
        """Fill (T, C, H, W) with consecutive frames along the last of the leading axes."""


@runtime_checkable
class Gathering(FrameReader, Protocol):
    """A reader for which many frames at once are cheaper than one after the other."""

    def gather(self, positions: Iterable[tuple[int, ...]]) -> FrameReader:
        """A reader of these frames alone, which are fetched."""


class NoFrames:
    """Frames without channels."""

    def read_frame(self, position: tuple[int, ...], buffers: Sequence[NDArray[Any]]) -> None:
        """Nothing to read."""

    def read_frames(self, position: tuple[int, ...], out: NDArray[np.float32]) -> None:
        """Nothing to read."""


class HeldFrames:
    """Frames of an array in memory."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self._values = values

    def read_frame(self, position: tuple[int, ...], buffers: Sequence[NDArray[Any]]) -> None:
        """Fill buffers one after the other from the start of one frame."""
        spread(self._values[position], buffers)

    def read_frames(self, position: tuple[int, ...], out: NDArray[np.float32]) -> None:
        """Fill (T, C, H, W) with consecutive frames along the last of the leading axes."""
        out[:] = self._values[position[:-1]][position[-1] : position[-1] + len(out)]


class ZarrFrames:
    """Reads any array that zarr-python can open: other codecs, other chunks; slower by an order."""

    def __init__(self, path: Path | Url) -> None:
        self._path = path
        self._array = zarr.open_array(zarr_store(path), mode="r")

    def read_frame(self, position: tuple[int, ...], buffers: Sequence[NDArray[Any]]) -> None:
        """Fill buffers one after the other from the start of one frame."""
        spread(self._values(position), buffers)

    def read_frames(self, position: tuple[int, ...], out: NDArray[np.float32]) -> None:
        """Fill (T, C, H, W) with consecutive frames along the last of the leading axes."""
        last = slice(position[-1], position[-1] + len(out))
        out[:] = self._values((*position[:-1], last)).reshape(out.shape)

    def _values(self, position: tuple[int | slice, ...]) -> NDArray[np.float32]:
        try:
            return np.asarray(self._array[position], np.float32).reshape(-1)
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedFileError(f"{self._path}{position}: cannot be read: {error}") from error


def open_frames(path: Path | Url) -> FrameReader:
    """A reader of the array in a folder or on a server.

    Raises:
        DamagedFileError: the folder holds no array.
    """
    try:
        layout = ShardLayout.from_metadata(read_metadata(path))
    except UnsupportedLayoutError as reason:
        _log.warning("%s is read through zarr-python, which is slower: %s", path, reason)
        return ZarrFrames(path)
    if isinstance(path, Path):
        return ShardReader(path, layout)
    frames = RemoteFrames(path, layout)
    if layout.shape[:-3] != (1,):
        return frames
    # The one frame of an array that all trajectories share is fetched once.
    values = np.empty(layout.shape, np.float32)
    frames.read_frame((0,), [values])
    return HeldFrames(values)
