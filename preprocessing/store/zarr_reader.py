"""Zarr reader: frames of any array that zarr-python can open."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.store.frame_reader import FrameReader, Position, scatter
from pelagos.preprocessing.store.shard_checks import NO_CHECKS, ShardChecks
from pelagos.preprocessing.store.shard_layout import TypeName
from pelagos.preprocessing.store.zarr_server import zarr_store


class ZarrReader(FrameReader):
    """Reads frames through zarr-python: any codec and any chunks, ten times as slowly as our own readers."""

    def __init__(
        self, path: Path | Url, checks: ShardChecks = NO_CHECKS, dtype: TypeName = "float32"
    ) -> None:
        """Open an array, to be read as values of this type; files of a folder that are to be checked all are now.

        Raises:
            DamagedFileError: a file is missing, or not as it was written.
        """
        # Which files a frame needs is zarr-python's affair.
        if isinstance(path, Path) and checks.contents:
            checks.check_all(path)
        self._path, self._checks, self._dtype = path, checks, dtype
        self._array = zarr.open_array(zarr_store(path), mode="r")

    def read_frame(self, position: Position, buffers: Sequence[NDArray[Any]]) -> None:
        """See FrameReader."""
        scatter(self._values(position), buffers)

    def read_frames(self, position: Position, out: NDArray[Any]) -> None:
        """See FrameReader."""
        # All at once, since frames of one chunk would each decode it anew.
        last = slice(position[-1], position[-1] + len(out))
        out[:] = self._values((*position[:-1], last)).reshape(out.shape)

    def _values(self, position: tuple[int | slice, ...]) -> NDArray[Any]:
        try:
            return np.asarray(self._array[position], self._dtype).reshape(-1)
        except (OSError, RuntimeError, ValueError) as error:
            raise DamagedFileError(f"{self._path}{position}: cannot be read: {error}") from error
