"""Errors that a user can put right.

Each is also the built-in exception that a caller would expect. Commands print the message without a
traceback, so it says where the fault is, what was found and what would be right.
"""

import errno
import re
from collections.abc import Iterator

_PASSING = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.ESTALE,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ENOLCK,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ETIMEDOUT,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    }
)
"""Errors of the system that pass without any change of the command: full disks, lost servers, want of memory."""


class PelagosError(Exception):
    """The base of all errors that a user can put right.

    Attributes:
        exit_code: what a command that ends with this error returns.
    """

    exit_code = 1


class DataError(PelagosError, ValueError):
    """A file contains something other than what is needed or was promised."""


class MissingFileError(PelagosError, FileNotFoundError):
    """A file or folder that the user named does not exist."""


class DamagedFileError(PelagosError, OSError):
    """A file is truncated, torn or fails its checksum."""


class ConfigError(PelagosError, ValueError):
    """A configuration has an unknown key, a wrong type or values that contradict each other."""

    exit_code = 2


class UntrustedCodeError(PelagosError, RuntimeError):
    """A file asks for code to be imported that the user has not named."""


class StoppedError(PelagosError, InterruptedError):
    """A run stopped on a signal after writing its checkpoint; the same command continues it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again


class TemporaryError(PelagosError, OSError):
    """A disk, a server or another process is in the way; the same command may succeed later."""

    exit_code = 74  # EX_IOERR of sysexits.h


class UnreachableError(TemporaryError, DamagedFileError):
    """A server does not answer, or does not send what it has."""


def is_temporary(error: BaseException) -> bool:
    """Whether the same command may succeed later, because of what an error was raised from."""
    return any(isinstance(one, TemporaryError) or system_error(one) in _PASSING for one in _chain(error))


def system_error(error: BaseException) -> int:
    """The number (errno) of the system's error that an error was raised from; 0 if there is none."""
    return next((number for number in map(_number, _chain(error)) if number), 0)


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__


def _number(error: BaseException) -> int:
    if isinstance(error, OSError) and error.errno:
        return int(error.errno)
    # Libraries in Rust, such as safetensors, give it in words alone.
    said = re.search(r"\(os error (\d+)\)", str(error))
    return int(said[1]) if said else 0
