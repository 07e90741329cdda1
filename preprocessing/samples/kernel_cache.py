"""KernelCache: compiled loops are kept for the next process, where only the user writes and only as they were written.

numba's own cache is machine code and pickles beside the source or in the user's cache: whoever writes there runs code,
a flipped bit runs too, and an index that names types which have moved since cannot be read at all.
"""

import hashlib
import inspect
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile

import pelagos
from pelagos.preprocessing.errors import DataError

_Function = TypeVar("_Function", bound=Callable[..., Any])
_SEAL = hashlib.sha256().digest_size

_log = logging.getLogger(__name__)


def compiled(function: _Function, types: Sequence[type] = (), *, reorder_sums: bool = False) -> _Function:
    """A function compiled at its first call for this processor, and kept on disk for the next process.

    Args:
        function: the function, which numba compiles to run without Python's lock.
        types: types of its arguments from other modules, whose source counts as its own.
        reorder_sums: whether sums may be taken in another order, as vector instructions do. NaN and infinity keep
            their meaning.
    """
    freedoms = {"reassoc", "contract"} if reorder_sums else False
    dispatcher = numba.njit(nogil=True, fastmath=freedoms)(function)
    if (folder := _folder(version_key([function, *types]))) is not None:
        dispatcher._cache = KernelCache(function, folder)
    return cast(_Function, dispatcher)


def version_key(sources: Sequence[Any]) -> str:
    """A name that changes with Pelagos, numba, Python and the source of some functions and types."""
    digest = hashlib.sha256()
    for one in sources:
        # The module's name as well, since the index names types by it.
        digest.update(f"{one.__module__}.{one.__qualname__}\0".encode())
        digest.update(Path(inspect.getfile(one)).read_bytes())
    python = sys.implementation.cache_tag
    return f"kernels-{pelagos.__version__}-numba-{numba.__version__}-{python}-{digest.hexdigest()[:16]}"


@cache
def _folder(name: str) -> Path | None:
    try:
        chosen = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return private_folder(Path(chosen).expanduser() / "pelagos", name)
    except UnsafeFolderError as error:
        _log.warning("compiled loops are not kept, and compiled anew by every process: %s", error)
    except (OSError, RuntimeError):  # no folder to write to, or no home: compiling takes 1.5 s each time
        return None
    return None


class _SealedFiles(IndexDataCacheFile):  # type: ignore[misc]  # numba ships no types
    """numba's index and data files, each followed by its SHA-256, which is compared before anything is unpickled."""

    def _load_index(self) -> Any:
        if not Path(self._index_path).exists():
            return {}
        _check_seal(Path(self._index_path))
        return super()._load_index()

    def _load_data(self, name: str) -> Any:
        _check_seal(Path(self._data_path(name)))
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[Any]:
        with super()._open_for_write(filepath) as file:
            yield file
            file.flush()
            # Unpickling stops where the pickle ends, so what follows does not disturb numba.
            file.write(hashlib.sha256(Path(file.name).read_bytes()).digest())


def _check_seal(file: Path) -> None:
    # Not as an OSError, which numba takes for a file that another process has removed, and passes over.
    if (owner := file.stat().st_uid) != os.getuid():
        raise DataError(f"{file.name} belongs to user {owner}, not to user {os.getuid()}")
    content = file.read_bytes()
    if hashlib.sha256(content[:-_SEAL]).digest() != content[-_SEAL:]:
        raise DataError(f"{file.name} fails its checksum")


class _Overloads(CompileResultCacheImpl):  # type: ignore[misc]
    """How numba makes bytes of compiled functions, without its search for a folder."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._filename_base, self._locator, self._folder = function.__qualname__, self, folder

    def ensure_cache_path(self) -> None:
        """The folder, which may have been deleted since; numba calls this before it writes."""
        self._folder.mkdir(mode=0o700, exist_ok=True)


class KernelCache(FunctionCache):  # type: ignore[misc]
    """The compiled versions of one function; what cannot be read is said, and compiled anew."""

    def __init__(self, function: Callable[..., Any], folder: Path) -> None:
        self._name, self._py_func = function.__qualname__, function
        self._impl, self._cache_path = _Overloads(function, folder), str(folder)
        # The folder's name stands for the source: files of another version are never looked at.
        self._cache_file = _SealedFiles(self._cache_path, function.__qualname__, source_stamp=folder.name)
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The version for these types; None where there is none that can be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # damage may stumble over anything on its way
            _log.warning(
                "%s: compiled anew, since what is kept in %s cannot be read: %s",
                self._name,
                self._cache_path,
                error,
            )
            self._attempt(self.flush)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the version for these types; where the disk is full it is only said."""
        self._attempt(lambda: FunctionCache.save_overload(self, sig, data))

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, DataError) as error:
            _log.warning("%s: cannot be kept in %s: %s", self._name, self._cache_path, error)


class UnsafeFolderError(DataError):
    """Others may write, or have written, to a folder that has to be the user's alone."""


def private_folder(base: Path, name: str) -> Path:
    """The folder `base/name` with mode 0700; it is made if there is none.

    Raises:
        UnsafeFolderError: there is one that is not the user's alone, or others may put another in its place.
        OSError: it cannot be made.
    """
    folder = base.absolute() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()  # a link may lead to anybody's folder
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UnsafeFolderError(
            f"{folder}: has mode {stat.filemode(found.st_mode)} and belongs to user {found.st_uid}; a folder of user "
            f"{os.getuid()} with drwx------ would be right: delete it, and it is made again"
        )
    for parent in folder.parents:
        above = parent.stat().st_mode
        # In a folder like /tmp the sticky bit keeps others from renaming what is not theirs.
        if above & stat.S_IWOTH and not above & stat.S_ISVTX:
            raise UnsafeFolderError(
                f"{folder}: everybody may write to {parent}; take that right away (chmod o-w)"
            )
    return folder
