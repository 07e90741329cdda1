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
