"""Zarr reader: frames of any array that zarr-python can open."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.store.frame_reader import FrameReader, Position, scatter
from pelagos.preprocessing.store.shard_checks import NO_CHECKS, ShardChecks
from pelagos.preprocessing.store.zarr_server import zarr_store


class ZarrReader(FrameReader):
    """Reads frames through zarr-python: any codec and any chunks, ten times as slowly as our own readers."""

    def __init__(self, path: Path | Url, checks: ShardChecks = NO_CHECKS) -> None:
        """Open an array; files of a folder that are to be checked are all checked now.

        Raises:
            DamagedFileError: a file is missing, or not as it was written.
        """
        # Which files a frame needs is zarr-python's affair.
        if isinstance(path, Path) and checks.contents:
            checks.check_all(path)
        self._path, self._checks = path, checks
        self._array = zarr.open_array(zarr_store(path), mode="r")

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        scatter(self._values(position), buffers)

    def read_frames(self, position: Position, out: Float32s) -> None:
        """See FrameReader."""
        # All at once, since frames of one chunk would each decode it anew.
        last = slice(position[-1], position[-1] + len(out))
        out[:] = self._values((*position[:-1], last)).reshape(out.shape)

    def _values(self, position: tuple[int | slice, ...]) -> Float32s:
        try:
            return np.asarray(self._array[position], np.float32).reshape(-1)
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedFileError(f"{self._path}{position}: cannot be read: {error}") from error
