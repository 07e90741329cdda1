import errno
import os

import pytest

from pelagos.preprocessing import errors


@pytest.mark.parametrize(
    ("kind", "builtin", "exit_code"),
    [
        (errors.DataError, ValueError, 1),
        (errors.MissingFileError, FileNotFoundError, 1),
        (errors.DamagedFileError, OSError, 1),
        (errors.ConfigError, ValueError, 2),
        (errors.StoppedError, InterruptedError, 75),
        (errors.TemporaryError, OSError, 74),
        (errors.UnreachableError, errors.DamagedFileError, 74),
    ],
)
def test_each_error_is_the_builtin_a_caller_expects_and_has_its_exit_code(
    kind: type[errors.PelagosError], builtin: type[Exception], exit_code: int
) -> None:
    error = kind("file: what was found")
    assert isinstance(error, errors.PelagosError)
    assert isinstance(error, builtin)
    assert error.exit_code == exit_code
    assert str(error) == "file: what was found"


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raised_from(cause: Exception) -> errors.PelagosError:
    error = errors.DamagedFileError("a checkpoint could not be written")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (FULL, True),
        (raised_from(FULL), True),
        (raised_from(RuntimeError("I/O error: No space left on device (os error 28)")), True),
        (errors.UnreachableError("https://host/a: the server does not send it"), True),
        (errors.DamagedFileError("a shard is torn"), False),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (RuntimeError("28"), False),
    ],
)
def test_faults_of_disks_and_servers_pass_and_no_others(error: Exception, temporary: bool) -> None:
    assert errors.is_temporary(error) == temporary
