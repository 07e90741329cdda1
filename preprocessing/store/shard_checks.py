"""Shard checks: what is compared with the manifest before a shard's first frame is used."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import google_crc32c
import numpy as np

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.durable import Checksum

if TYPE_CHECKING:  # only folders have one
    from pelagos.preprocessing.store.store_lease import StoreLease

Verify = Literal["opening", "frames", "none"]
"""What of a store is compared with its checksums: all but the shards' contents when it is opened, these too before they
are first used, or nothing."""
_BLOCK = 1 << 20  # bytes: the processor's cache holds them between reading and the checksum


@dataclass(frozen=True, eq=False)
class ShardChecks:
    """What the shards of one array must be.

    Attributes:
        files: checksums by path in the array's folder; empty where the store has no manifest, or is not to be checked.
        contents: whether to compare their CRC-32C, and not their sizes alone.
        lease: keeps the store from being replaced while it is read.
    """

    files: Mapping[str, Checksum]
    contents: bool = False
    lease: "StoreLease | None" = None

    def check(self, path: Path, key: str, descriptor: int) -> None:
        """Compare an open shard with the manifest.

        Args:
            path: of the file, for messages.
            key: its path in the array's folder.
            descriptor: of the file.

        Raises:
            DamagedFileError: the shard is not as it was written, or the store has been replaced.
        """
        # A shard is opened now and then: often enough to notice that another store has taken the path.
        if self.lease is not None:
            self.lease.check()
        if not self.files:
            return
        expected = self.files.get(key)
        if expected is None:
            raise DamagedFileError(
                f"{path}: the manifest does not know this shard; `pelagos verify` lists all"
            )
        if (size := os.fstat(descriptor).st_size) != expected.bytes:
            raise DamagedFileError(
                f"{path}: {size} bytes where {expected.bytes} were written; `pelagos repair` mends it"
            )
        if self.contents and (found := _crc32c(descriptor)) != expected.crc32c:
            raise DamagedFileError(
                f"{path}: CRC-32C {found} where {expected.crc32c} was written; `pelagos repair` mends it"
            )

    def check_all(self, folder: Path) -> None:
        """Compare all shards in the array's folder; errors as of `check`, and for one that is missing."""
        for key in self.files:
            try:
                descriptor = os.open(folder / key, os.O_RDONLY)
            except FileNotFoundError as error:
                raise DamagedFileError(
                    f"{folder / key}: the shard is missing; `pelagos repair` mends it"
                ) from error
            try:
                self.check(folder / key, key, descriptor)
            finally:
                os.close(descriptor)


NO_CHECKS = ShardChecks({})
"""For arrays that belong to no store."""


def _crc32c(descriptor: int) -> str:
    crc, position, block = 0, 0, np.empty(_BLOCK, np.uint8)
    # Into the same memory again and again: new memory costs more than the checksum.
    while count := os.preadv(descriptor, [block.data], position):
        crc = google_crc32c.extend(crc, block[:count])
        position += count
    return f"{crc:08x}"
