"""Durable files: whole or absent, whenever the process or the machine stops, and their checksums."""

import ctypes
import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np

from pelagos.preprocessing.array_types import Bytes
from pelagos.preprocessing.errors import DataError, TemporaryError

PARTIAL = ".partial"
"""The suffix of a file that is still being written."""
_BLOCK = 4 << 20  # bytes read or written at a time
_REMOVERS = 8  # files at a time
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP)  # from file systems without locks
_SYNC_FILE_RANGE_WRITE = 2  # of linux/fs.h, which Python does not export
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checksum:
    """What a file must contain: its length in bytes and two digests in hexadecimal."""

    bytes: int
    crc32c: str
    sha256: str


class LockedError(DataError):
    """Another process holds the lock that was asked for."""

    exit_code = TemporaryError.exit_code


class Digest:
    """Computes the checksum of a file from its content, buffer by buffer.

    Attributes:
        bytes: number of bytes that the CRC-32C covers so far.
    """

    def __init__(self) -> None:
        self.bytes, self._crc, self._sha = 0, 0, hashlib.sha256()

    def update(self, *buffers: Bytes) -> None:
        """Append buffers to both digests."""
        self.sha256(*buffers)
        self.crc32c(*buffers)

    def sha256(self, *buffers: Bytes) -> None:
        """Append buffers to the SHA-256 alone, while another thread may append them to the CRC-32C."""
        for buffer in buffers:
            self._sha.update(buffer.data)

    def crc32c(self, *buffers: Bytes) -> None:
        """Append buffers to the CRC-32C alone."""
        for buffer in buffers:
            self.bytes += len(buffer)
            self._crc = google_crc32c.extend(self._crc, buffer)

    def result(self) -> Checksum:
        """The checksum of everything appended so far."""
        return Checksum(self.bytes, f"{self._crc:08x}", self._sha.hexdigest())


def checksum(path: Path) -> Checksum:
    """The checksum of a file as it is on disk."""
    digest = Digest()
    # hashlib releases Python's lock: SHA-256 runs beside the CRC-32C and the reading of the next block.
    with ThreadPoolExecutor(max_workers=1) as beside:
        hashed = beside.submit(digest.sha256)
        for block in _blocks(path):
            digest.crc32c(block)
            hashed.result()
            hashed = beside.submit(digest.sha256, block)
        hashed.result()
    return digest.result()


def crc32c(path: Path) -> str:
    """The CRC-32C of a file in hexadecimal, six times quicker to compute than its SHA-256."""
    crc = 0
    for block in _blocks(path):
        crc = google_crc32c.extend(crc, block)
    return f"{crc:08x}"


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _blocks(path: Path) -> Iterator[Bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            yield np.frombuffer(block, np.uint8)


def _ignore(block: Bytes) -> None:
    """Do nothing with a block."""


@contextmanager
def replacing(path: Path) -> Iterator[int]:
    """Give a file descriptor whose content becomes `path` when the block ends without an error."""
    # In the same folder: a rename is atomic within one file system only. The random part keeps writers apart.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the user's umask
    try:
        yield descriptor
        # Before the rename: else a crash of the machine may leave the new name on an empty file.
        os.fsync(descriptor)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def write_all(
    descriptor: int, *buffers: Bytes, position: int = 0, on_block: Callable[[Bytes], object] = _ignore
) -> None:
    """Write buffers completely; the disk starts on the first blocks while later ones are handed over.

    Args:
        descriptor: the open file.
        buffers: contiguous bytes, written one after the other.
        position: where in the file the first byte goes.
        on_block: called with each block while the disk works on it.
    """
    for buffer in buffers:
        while len(buffer):
            before = position
            # pwrite(2) may write less than it is given.
            position += os.pwrite(descriptor, buffer[:_BLOCK].data, position)
            if before // _BLOCK < position // _BLOCK:
                _start_writeback(descriptor)
            on_block(buffer[: position - before])
            buffer = buffer[position - before :]


def _start_writeback(descriptor: int) -> None:
    """Ask the system to start writing what it holds of a file, without waiting (sync_file_range(2))."""
    # Otherwise writing starts at fsync, after the disk has idled through all the copying: write and fsync of
    # 44 MB take 17 ms instead of 25. Preallocating gained nothing.
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file durably."""
    with replacing(path) as descriptor:
        write_all(descriptor, np.frombuffer(content, np.uint8))


def write_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """Replace a file durably by pieces that are made one after the other, and never held together."""
    with replacing(path) as descriptor:
        position = 0
        for piece in pieces:
            write_all(descriptor, np.frombuffer(piece, np.uint8), position=position)
            position += len(piece)


def write_json(path: Path, values: Any) -> None:
    """Replace a file durably by indented JSON; creates its folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, (json.dumps(values, indent=1) + "\n").encode())


def give_usual_mode(path: Path) -> None:
    """Give a file the permissions that the user's umask leaves to new ones; some libraries make files for one user."""
    # Asking for the umask would set it for all threads; a new file shows it.
    probe = path.with_name(f".{path.name}.mode{PARTIAL}")
    probe.touch()
    try:
        path.chmod(probe.stat().st_mode & 0o777)
    finally:
        probe.unlink()


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a crash of the machine; syncing a file does not sync its name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it that are missing.

    Returns:
        The folders that hold a new name. Syncing them is left to the caller: after the file within is on disk, it costs
        next to nothing, since the file system has written their names with it.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    path.mkdir(parents=True, exist_ok=True)  # others make folders beside it
    return [folder.parent for folder in missing]


def sync_tree(root: Path, *, but: Collection[Path] = ()) -> None:
    """Make all files and names below a directory survive a crash of the machine.

    Args:
        root: the directory.
        but: directories below it whose content does already.
    """
    for directory, folders, names in os.walk(root):
        folders[:] = [name for name in folders if Path(directory, name) not in but]
        for name in names:
            with open(Path(directory, name), "rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(directory))


def remove_partials(folder: Path) -> None:
    """Remove the partial files that killed writers left below a folder, ours and zarr-python's: both end alike."""
    for directory, _, names in os.walk(folder):
        for name in names:
            if name.endswith(PARTIAL):
                Path(directory, name).unlink(missing_ok=True)


def remove_tree(root: Path) -> None:
    """Remove a folder with all below it, as far as it can be removed; never what lies behind a link.

    Several files at a time: where each went to the disk by itself, the disk takes 2 to 4 ms to give it up.
    """
    with ThreadPoolExecutor(_REMOVERS) as removers:
        for directory, _, names in () if root.is_symlink() else os.walk(root):
            removers.map(partial(_unlink, directory), [names[n::_REMOVERS] for n in range(_REMOVERS)])
    # What is left: folders, and what somebody else removed or put there meanwhile.
    shutil.rmtree(root, ignore_errors=True)


def _unlink(directory: str, names: Iterable[str]) -> None:
    for name in names:
        with suppress(OSError):
            os.unlink(os.path.join(directory, name))


@contextmanager
def lock(path: Path, *, shared: bool = False, patience: float = 0.0) -> Iterator[None]:
    """Hold an advisory lock, which the system releases when the process ends, however it ends.

    Args:
        path: the lock's file, which stays.
        shared: whether others may hold it in the same way.
        patience: how long to wait for whoever holds it [s].

    Raises:
        LockedError: another process holds it.
    """
    deadline = time.monotonic() + patience
    with path.open("a+") as file:
        while not _locked(file, shared=shared):
            if time.monotonic() >= deadline:
                file.seek(0)
                holder = file.read(200).strip()
                raise LockedError(
                    f"{path}: another process holds this lock{f' ({holder})' if holder else ''};"
                    " wait until it is done, or end it"
                )
            time.sleep(0.05)
        # What stands there is of a holder that was killed.
        file.truncate(0)
        if not shared:
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        try:
            yield
        finally:
            if not shared:
                file.truncate(0)


def _locked(file: IO[str], *, shared: bool) -> bool:
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _log.warning(
            "%s: this file system has no locks: see that no second process writes to the same place",
            file.name,
        )
    return True


@contextmanager
def sole_writer(path: Path, *, shared: bool = False, patience: float = 0.0) -> Iterator[None]:
    """Keep all others that ask for this from writing to a file or folder, by a lock beside it.

    Args:
        path: the file or folder.
        shared: whether others may write to it that share it in the same way.
        patience: how long to wait for whoever writes there [s].

    Raises:
        LockedError: another process writes there.
    """
    # Of the resolved path: by whatever links it is reached, it has one lock.
    whole = path.resolve()
    whole.parent.mkdir(parents=True, exist_ok=True)
    with lock(whole.with_name(f".{whole.name}.lock"), shared=shared, patience=patience):
        yield


def json_checksum(value: Any, *, finite: bool = True) -> str:
    """The SHA-256 of a JSON value, written with sorted keys and without spaces.

    Raises:
        ValueError: a number is NaN or infinite although `finite` is set.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=not finite)
    return hashlib.sha256(text.encode()).hexdigest()
