"""Arrays of Zarr groups, formats 2 and 3, on disk or on a server; those on disk are opened at each access."""

import hashlib
import json
from collections.abc import Callable, Iterable
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

_METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zattrs")


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
        array = open_group(self.path, check_members=False)[self.key]
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
            raise DamagedFileError(f"{self.name}: cannot be read ({_why(error)})") from error


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
        held = file.stat().st_size
        if held != noted or held < 16:
            # The length stands in bytes 12 to 16; without them nothing says how many there should be.
            what = f"has {held} of {noted} bytes" if held >= 16 else f"has {held} bytes, and is a torn chunk"
            raise DamagedFileError(f"{file}: {what}; download or create it again")


def _why(error: Exception) -> str:
    """What an error of zarr-python, or of the libraries that decompress for it, means for the file."""
    if isinstance(error, MemoryError | OverflowError):
        return "it claims an array that does not fit into memory"
    if isinstance(error, json.JSONDecodeError):
        return "its metadata are no whole JSON"
    if isinstance(error, OSError) and error.errno:
        return str(error.strerror)
    return "a chunk of it is damaged; download or create it again"


def open_group(path: Path | Url, *, check_members: bool = True) -> Any:
    """The group, read-only. On a server its consolidated metadata are used, if it has them.

    Args:
        path: of the group.
        check_members: whether metadata of arrays of a group on this machine are checked as well.

    Raises:
        MissingFileError: there is nothing at `path`, or no Zarr group on the server.
        DataError: it is an array of a group, or a store of Pelagos.
        DamagedFileError: there is something else, or its metadata cannot be read.
    """
    group = _open_remote(path) if isinstance(path, Url) else _open_local(path)
    if check_members and isinstance(path, Path):
        _require_whole(path, path.glob("*/*"))
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
            above = path.parent
            beside = [*above.glob("*/.zarray"), *above.glob("*/zarr.json")]
            if len(beside) > 1 and not any((above / name).exists() for name in _METADATA):
                raise DamagedFileError(
                    f"{path}: an array, but the folder {above} is no Zarr group: its .zgroup (format 2) or zarr.json"
                    " (format 3) is missing; download it again"
                ) from error
            raise DataError(f"{path}: an array; name the Zarr group that it belongs to, {above}") from error
        _require_whole(path, path.iterdir() if path.is_dir() else ())
        raise DamagedFileError(
            f"{path}: cannot be read as zarr (it has no whole .zgroup or zarr.json); download or create it again"
        ) from error


def _require_whole(path: Path, files: Iterable[Path]) -> None:
    """Raise DamagedFileError where the metadata of a group, or of its arrays, are torn."""
    for file in files:
        if file.name not in (*_METADATA, ".zarray"):
            continue
        try:
            whole = isinstance(json.loads(file.read_bytes()), dict)
        except ValueError:
            whole = False
        if not whole:
            raise DamagedFileError(
                f"{file}: {file.stat().st_size} bytes of metadata that are no whole JSON, so that {path} cannot be read"
                " as zarr; download or create it again"
            )


# Reads what it encoded by unpickling, which runs code. Newer numcodecs refuse by themselves; here it is unknown.
numcodecs.registry.codec_registry.pop("pickle", None)

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
        raise DamagedFileError(f"{url}: cannot be read as zarr (its metadata are damaged)") from error


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
