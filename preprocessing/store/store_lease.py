"""Store lease: keeps a store that is open for reading from being replaced under its readers.

Readers share a lock of the system on the store's manifest, which a build that replaces the store asks for alone.
"""

import fcntl
import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.durable import LockedError
from pelagos.preprocessing.store.manifest import MANIFEST

_log = logging.getLogger(__name__)


class StoreLease:
    """The share of one reader; it ends with the last reference to the object, or with the process."""

    def __init__(self, path: Path) -> None:
        """Take a share of a store's lock; waits for the moment in which a build gives it to another store.

        Raises:
            FileNotFoundError: the store has no manifest.
        """
        self._path, self._descriptor = path, -1
        while not self._holds():
            self.close()
            self._descriptor = os.open(path / MANIFEST, os.O_RDONLY)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            except OSError as error:
                _say_unlocked(str(error))

    def _holds(self) -> bool:
        """Whether the store under the path is still the one whose lock this is."""
        if self._descriptor < 0:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._path / MANIFEST))
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Look whether the store is still the one that was opened.

        Raises:
            DamagedFileError: there is another one, or none, under its name.
        """
        # Locks are advice: who does not ask, as `rm` and `cp`, is not kept out.
        if not self._holds():
            raise DamagedFileError(
                f"{self._path}: the store was replaced or moved while it was read; open it again (a run continues with"
                " the same command, if the store is the one that it began with)"
            )

    def close(self) -> None:
        """Give the share back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


@contextmanager
def replacing_store(path: Path) -> Iterator[None]:
    """Keep readers out while a store is replaced.

    Raises:
        LockedError: the store is open for reading, here or in another process.
    """
    try:
        descriptor = os.open(path / MANIFEST, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        # No store that could be opened for reading: a torn copy, or another folder.
        yield
        return
    try:
        if not _alone(descriptor):
            # Readers that nothing refers to any more, but cycles of references.
            gc.collect()
            if not _alone(descriptor):
                raise LockedError(
                    f"{path}: is open for reading, here or in another process such as a training run, whose data would"
                    " change under it: wait until that has ended, or build another version="
                )
        yield
    finally:
        os.close(descriptor)


def _alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        _say_unlocked(str(error))
    return True


@cache
def _say_unlocked(reason: str) -> None:
    _log.warning(
        "this file system has no locks (%s): nothing keeps a build with overwrite=true from replacing a store that is"
        " being read",
        reason,
    )
