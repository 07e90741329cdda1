"""What Pelagos raises when a user's input is at fault.

Each error also is the builtin that a caller would expect. The commands print its message
without a traceback, so a message says what was found, where, and what would be right.
"""


class PelagosError(Exception):
    """The base of all errors that a user can mend; the exit code is that of a command which it ends."""

    exit_code = 1


class DataError(PelagosError, ValueError):
    """A file's content contradicts what was asked of it."""


class MissingFileError(PelagosError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class DamagedFileError(PelagosError, OSError):
    """A file is truncated, torn or fails its checksum."""


class ConfigError(PelagosError, ValueError):
    """A configuration has an unknown key, a wrong type or values that contradict each other."""

    exit_code = 2


class StoppedError(PelagosError, InterruptedError):
    """A run stopped because a signal asked for it; its checkpoint is written, the same command continues."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again
