"""What Pelagos raises when a user's input is at fault.

Each error also is the builtin that a caller would expect. The commands print its message
without a traceback, so a message says what was found, where, and what would be right.
"""


class PelagosError(Exception):
    """The base of all errors that a user can mend."""


class DataError(PelagosError, ValueError):
    """A file's content contradicts what was asked of it."""


class MissingFileError(PelagosError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class DamagedFileError(PelagosError, OSError):
    """A file is truncated, torn or fails its checksum."""


class ConfigError(PelagosError, ValueError):
    """A configuration has an unknown key, a wrong type or values that contradict each other."""
