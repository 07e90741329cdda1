"""Errors that a user can put right.

Each is also the built-in exception that a caller would expect. Commands print the message without a
traceback, so it says where the fault is, what was found and what would be right.
"""


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


class StoppedError(PelagosError, InterruptedError):
    """A run stopped on a signal after writing its checkpoint; the same command continues it."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again
