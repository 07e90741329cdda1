"""Zarr server: groups and arrays on a server as zarr-python and xarray open them, read-only."""

import asyncio
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, WrapperStore

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.location import (
    ByteRange,
    Url,
    fetch_existing,
    filesystem_options,
    needing_package,
)

_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")


class ServerStore(WrapperStore[FsspecStore]):
    """The Zarr store under a URL; a request that fails is tried again, as by our own readers.

    Attributes:
        blosc_arrays: names of arrays whose chunks are checked against the length that Blosc noted in them.
        whole_arrays: names of arrays of which no chunk may be absent.
    """

    def __init__(self, store: FsspecStore, url: Url) -> None:
        super().__init__(store)
        self.url = url
        self.blosc_arrays: set[str] = set()
        self.whole_arrays: set[str] = set()

    @classmethod
    def at(cls, url: Url) -> "ServerStore":
        """The store of a group or array.

        Raises:
            ConfigError: a package is missing that speaks the protocol.
        """
        with needing_package(url):
            return cls(
                FsspecStore.from_url(str(url), storage_options=filesystem_options(url), read_only=True), url
            )

    def _with_store(self, store: FsspecStore) -> "ServerStore":
        return ServerStore(store, self.url)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """All or some bytes of a file; None where there is none."""
        span = _span(self.url / key if key else self.url, byte_range)
        # In a thread: waiting here would hold up the loop in which zarr-python has all its requests.
        [content] = await asyncio.to_thread(fetch_existing, [span])
        if content is None:
            # To zarr-python an absent chunk is one of fill values.
            self._refuse_absent(key)
            return None
        self._check(key, content)
        return prototype.buffer.from_bytes(content)

    def _refuse_absent(self, key: str) -> None:
        is_metadata = key.rpartition("/")[2] in _METADATA
        if not is_metadata and any(key.startswith(f"{name}/") for name in self.whole_arrays):
            raise DamagedFileError(
                f"{self.url / key}: this chunk is not on the server; complete the archive, or say what its values"
                " are: absent: missing, or absent: fill for the archive's fill value"
            )

    def _check(self, key: str, content: bytes) -> None:
        name, _, rest = key.rpartition("/c/") if "/c/" in key else key.rpartition("/")
        if name not in self.blosc_arrays or rest.startswith(".") or rest == "zarr.json":
            return
        # numcodecs decodes a chunk that was cut in half without complaint, half of it to arbitrary values.
        if (noted := int.from_bytes(content[12:16], "little")) != len(content):
            raise DamagedFileError(f"{self.url / key}: has {len(content)} of {noted} bytes")


def _span(url: Url, wanted: ByteRequest | None) -> ByteRange:
    if wanted is None:
        return ByteRange(url)
    if isinstance(wanted, RangeByteRequest):
        return ByteRange(url, wanted.start, wanted.end)
    if isinstance(wanted, OffsetByteRequest):
        return ByteRange(url, wanted.offset)
    # Counted from the end, as zarr-python asks for the indices of shards.
    return ByteRange(url, -wanted.suffix)


def zarr_store(place: Any) -> Any:
    """What zarr-python and xarray open: the path itself, or a store of the URL."""
    return ServerStore.at(place) if isinstance(place, Url) else place
