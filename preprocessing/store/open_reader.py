"""Opening an array of frames: which reader reads it."""

import json
import logging
from pathlib import Path

import numpy as np

from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.store.frame_reader import FrameReader
from pelagos.preprocessing.store.memory_reader import MemoryReader
from pelagos.preprocessing.store.remote_reader import RemoteReader
from pelagos.preprocessing.store.shard_checks import NO_CHECKS, ShardChecks
from pelagos.preprocessing.store.shard_layout import ShardLayout, UnsupportedLayoutError, read_metadata
from pelagos.preprocessing.store.shard_reader import ShardReader
from pelagos.preprocessing.store.zarr_reader import ZarrReader

_log = logging.getLogger(__name__)


def open_reader(
    path: Path | Url, checks: ShardChecks = NO_CHECKS, metadata: bytes | None = None
) -> FrameReader:
    """A reader of the array in a folder or on a server: our own where it can, else zarr-python's.

    Args:
        path: of the array.
        checks: what to compare before a shard's first frame is used; on a server nothing is.
        metadata: the content of its `zarr.json`, if it has been read.

    Raises:
        DamagedFileError: the folder holds no array.
    """
    try:
        layout = ShardLayout.from_metadata(read_metadata(path) if metadata is None else json.loads(metadata))
    except UnsupportedLayoutError as reason:
        # Stores that others have rewritten. tensorstore would read them eleven times faster, for 66 MB installed.
        _log.warning("%s is read through zarr-python, which is slower: %s", path, reason)
        return ZarrReader(path, checks)
    if isinstance(path, Path):
        return ShardReader(path, layout, checks)
    remote = RemoteReader(path, layout)
    if layout.shape[:-3] != (1,):
        return remote
    # The one frame that all trajectories share is fetched once, rather than with every batch.
    values = np.empty(layout.shape, np.float32)
    remote.read_frame((0,), [values])
    return MemoryReader(values)
