"""Arrays of Zarr groups, formats 2 and 3, on disk or on a server; those on disk are opened at each access."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import ContainsArrayError

from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError, PelagosError
from pelagos.preprocessing.files.location import ByteRange, Url, fetch_existing
from pelagos.preprocessing.sources.absence import AbsentPolicy
from pelagos.preprocessing.sources.arrays.array_reader import FileArray, Index
from pelagos.preprocessing.sources.arrays.zarr_absence import check_written, mark_absent
from pelagos.preprocessing.sources.file_source import missing
from pelagos.preprocessing.store.zarr_server import ServerStore


@dataclass(frozen=True)
class ZarrArray(FileArray):
    """One array of a group.

    Attributes:
        absent: how chunks that are not there are read, where there are any that do not stand for missing values.
    """

    absent: AbsentPolicy = "fill"

    def read(
        self, index: Index, unpack: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    ) -> NDArray[Any]:
        """The block at `index`, unpacked; raises DamagedFileError if its bytes are torn or cannot be read."""
        array = open_group(self.path)[self.key]
        _check_chunks(self.path / self.key, array, index)
        if isinstance(self.path, Url):  # on a server only the answer to a request says what is there
            whole: set[str] = array.store.whole_arrays
            (whole.add if self.absent == "error" else whole.discard)(self.key)
        try:
            values = np.asarray(array.get_orthogonal_selection(index))
            values = values if unpack is None else unpack(values)
            return (
                mark_absent(self.path / self.key, array, index, values)
                if self.absent == "missing"
                else values
            )
        except PelagosError:  # may be an OSError as well, and says more
            raise
        except (OSError, RuntimeError, ValueError, MemoryError, OverflowError) as error:
            # The last two where the metadata claim any shape or chunk.
            raise DamagedFileError(f"{self.name}: cannot be read ({error})") from error


def _check_chunks(folder: Path | Url, array: Any, index: Index) -> None:
    """Raise DamagedFileError where a chunk is shorter than its Blosc header says: Blosc would decode it to anything."""
    # numcodecs decodes a chunk that was cut in half without complaint, and half of its values are wrong.
    names = [type(one).__name__ for one in array.compressors]
    if names[-1:] not in (["Blosc"], ["BloscCodec"]) or array.shards is not None:
        return
    if isinstance(folder, Url):  # the store checks the chunks of these arrays as they arrive
        array.store.blosc_arrays.add(folder.name)
        return
    cells = [
        np.unique(np.atleast_1d(np.arange(length)[one]) // chunk)
        for length, chunk, one in zip(array.shape, array.chunks, index, strict=True)
    ]
    for cell in product(*cells):
        file = folder / array.metadata.encode_chunk_key(cell)
        if not file.is_file():  # `check_written` has dealt with these
            continue
        with file.open("rb") as opened:
            noted = int.from_bytes(opened.read(16)[12:], "little")
        if noted != file.stat().st_size:
            raise DamagedFileError(
                f"{file}: has {file.stat().st_size} of {noted} bytes; download or create it again"
            )


def open_group(path: Path | Url) -> Any:
    """The group, read-only. On a server its consolidated metadata are used, if it has them.

    Raises:
        MissingFileError: there is nothing at `path`, or no Zarr group on the server.
        DataError: it is an array of a group, or a store of Pelagos.
        DamagedFileError: there is something else, or its metadata cannot be read.
    """
    group = _open_remote(path) if isinstance(path, Url) else _open_local(path)
    if "pelagos" in group.attrs:
        raise DataError(
            f"{path}: a store of Pelagos: train on it as data.0.path={path}, or build another one from the"
            f" sources that `pelagos inspect {path}` names"
        )
    return group


def _open_local(path: Path) -> Any:
    if not path.exists():
        raise missing(path)
    try:
        # Consolidated metadata may be older than the arrays, and on disk they save nothing.
        return zarr.open_group(path, mode="r", use_consolidated=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ContainsArrayError) or (path / ".zarray").exists():
            raise DataError(
                f"{path}: an array; name the Zarr group that it belongs to, {path.parent}"
            ) from error
        raise DamagedFileError(
            f"{path}: cannot be read as zarr ({error}); download or create it again"
        ) from error


# Reads what it encoded by unpickling, which runs code. Newer numcodecs refuse by themselves; here it is unknown.
numcodecs.registry.codec_registry.pop("pickle", None)

_METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zattrs")
_read: set[str] = set()


def fingerprint(url: str) -> str:
    """SHA-256 of the metadata of a group that this process has opened on a server; empty for anything else."""
    if url not in _read:
        return ""
    contents = fetch_existing([ByteRange(Url(url) / name) for name in _METADATA])
    return hashlib.sha256(b"\0".join(content or b"" for content in contents)).hexdigest()


@lru_cache(maxsize=64)
def _open_remote(url: Url) -> Any:
    _read.add(str(url))
    try:
        return zarr.open_group(ServerStore.at(url), mode="r")
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{url}: no Zarr group is there; other files have to be fetched first"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{url}: cannot be read as zarr ({error})") from error


def array(path: Path | Url, group: Any, key: str) -> ZarrArray:
    """The reader of one array of an open group.

    Raises:
        DataError: if there is none; the message lists what there is.
    """
    found = group.get(key)
    if not isinstance(found, zarr.Array):
        raise DataError(f"{path}: no array '{key}'; it holds {', '.join(sorted(group)) or 'nothing'}")
    dtype = np.dtype(found.dtype)
    return ZarrArray(path, key, found.shape, dtype, check_written(path, key, found, dtype))
