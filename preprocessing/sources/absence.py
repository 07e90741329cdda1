"""Absence: bytes that an archive should have and has not, which no format may take for zeros without a word.

Files that a virtual array refers to, chunks that were never written, the holes of a download that has not ended: HDF5,
Zarr and the file system all answer with a fill value or with zeros.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError, PelagosError


class AbsentBytesError(DamagedFileError):
    """An archive is readable, but some of its values were never written; the option `absent` says what they are."""


AbsentPolicy = Literal["error", "missing", "fill"]
"""What becomes of absent values: they are refused, are missing (NaN), or are the archive's fill value."""

_policy: ContextVar[AbsentPolicy] = ContextVar("absent", default="error")
_LEAST = 4096
"""Length of the shortest hole [bytes]: file systems keep whole blocks."""


@contextmanager
def absent_values(policy: AbsentPolicy) -> Iterator[None]:
    """Let what is opened within the block treat absent values in this way."""
    token = _policy.set(policy)
    try:
        yield
    finally:
        _policy.reset(token)


def absent_policy() -> AbsentPolicy:
    """The policy of the source that is being opened."""
    return _policy.get()


def tell_absent(
    name: str,
    text: str,
    dtype: np.dtype[Any] | None = None,
    *,
    missing_file: bool = False,
    advice: str = "complete the archive",
) -> AbsentPolicy:
    """Refuse absent values, or say what becomes of them; returns the policy.

    Args:
        name: file and key.
        text: what is absent.
        dtype: of the values, where they can be marked as missing one by one; None where only zeros can be read.
        missing_file: whether it is a whole file.
        advice: what else would be right.

    Raises:
        AbsentBytesError: the configuration does not allow it, or a MissingFileError where a file is not there.
        DataError: it wants them to be missing, which these cannot be.
    """
    policy = absent_policy()
    if policy == "error":
        kind: type[PelagosError] = MissingFileError if missing_file else AbsentBytesError
        raise kind(
            f"{name}: {text}; {advice}, or say what these values are: absent: missing, or absent: fill"
            " for the archive's fill value"
        )
    if policy == "missing" and (dtype is None or dtype.kind not in "fc"):
        what = f"values of {dtype}" if dtype is not None else "these"
        raise DataError(
            f"{name}: {text}; {what} cannot be marked as missing: complete the archive, or absent: fill"
        )
    assume("chunks_absent", name, f"{text}, read as {'missing' if policy == 'missing' else 'the fill value'}")
    return policy


def holes(path: Path) -> list[tuple[int, int]]:
    """First byte and end of each part of a file that was never written; it reads as zeros."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        # A file that fills its blocks has none, which spares most files the search.
        if not hasattr(os, "SEEK_HOLE") or status.st_blocks * 512 >= status.st_size:
            return []
        found, position = [], 0
        while position < status.st_size:
            start = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            if start >= status.st_size:
                break
            try:
                position = os.lseek(file.fileno(), start, os.SEEK_DATA)
            except OSError:  # no data follow
                position = status.st_size
            if position - start >= _LEAST:
                found.append((start, position))
        return found


def refuse_holes(path: Path, what: str = "") -> None:
    """Refuse a file that has holes, unless its absent values are allowed; raises the errors of `tell_absent`."""
    if found := holes(path):
        start, stop = found[0]
        size = sum(end - begin for begin, end in found)
        text = (
            f"{size} of {path.stat().st_size} bytes were never written (the first of {len(found)} holes: bytes"
            f" {start} to {stop}), as in a download that has not ended"
        )
        tell_absent(f"{path}{what}", text)
