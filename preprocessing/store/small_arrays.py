"""Small arrays: coordinates, splits, scalars and statistics of a store, read whole when it is opened."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.location import Url, read_all


def read_small_arrays(
    path: Path | Url, names: list[str], held: Mapping[str, bytes] | None = None
) -> dict[str, NDArray[Any]]:
    """Arrays of a group by name, each of one chunk.

    Args:
        path: of the group.
        names: of the arrays.
        held: contents of files that have been read, by path in the group.

    Raises:
        DamagedFileError: a file of one is missing or damaged.
    """
    # All files of a kind are asked for at once, since on a server each request takes a round trip.
    held = held or {}
    metadata = _read(path, [f"{name}/zarr.json" for name in names], held)
    keys = [_chunk_key(path, name, text) for name, text in zip(names, metadata, strict=True)]
    values = {}
    for name, text, key, content in zip(names, metadata, keys, _read(path, keys, held), strict=True):
        # From memory, since zarr-python would take a missing chunk for zeros.
        array: dict[str, Buffer] = {
            "zarr.json": cpu.Buffer.from_bytes(text),
            key.removeprefix(f"{name}/"): cpu.Buffer.from_bytes(content),
        }
        try:
            values[name] = np.asarray(zarr.open_array(MemoryStore(array), mode="r")[...])
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(
                f"{path / name}: cannot be read: {error}; `pelagos repair` mends the store"
            ) from error
    return values


def _chunk_key(path: Path | Url, name: str, metadata: bytes) -> str:
    try:
        dims = len(json.loads(metadata)["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{path / name}/zarr.json: damaged: {error}; `pelagos repair` mends the store"
        ) from error
    return "/".join((name, "c", *["0"] * dims))


def _read(path: Path | Url, names: list[str], held: Mapping[str, bytes]) -> list[bytes]:
    found, missing = dict(held), [name for name in names if name not in held]
    for name, content in zip(missing, read_all([path / name for name in missing]), strict=True):
        if content is None:
            raise DamagedFileError(f"{path / name}: missing; `pelagos repair` mends the store")
        found[name] = content
    return [found[name] for name in names]
