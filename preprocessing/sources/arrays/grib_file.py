"""GRIB files through cfgrib, which the extra `grib` installs; a process keeps those open that it reads."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import xarray as xr

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError


def open_undecoded(path: Path) -> xr.Dataset:
    """The file with its values decoded but its times and attributes as stored; no index file is written beside it.

    Raises:
        ConfigError: if cfgrib is not installed.
        DataError: if its fields are on several grids, kinds of level or steps.
        DamagedFileError: if it is truncated.
    """
    return _opened(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _opened(path: Path, modified: int) -> xr.Dataset:
    # cfgrib indexes every message of a file each time it is opened: once per process is enough.
    try:
        import cfgrib  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            f"{path} is a GRIB file, which needs cfgrib: pip install 'pelagos[grib]' ({error})"
        ) from error
    from cfgrib.dataset import DatasetBuildError

    _check_whole(path)
    options: dict[str, Any] = {"indexpath": "", "errors": "raise"}
    try:
        return xr.open_dataset(path, engine="cfgrib", decode_cf=False, cache=False, backend_kwargs=options)
    except DatasetBuildError as error:
        raise DataError(
            f"{path}: its messages are no single set of fields ({error}); split it by kind of level or step,"
            " as with grib_copy"
        ) from error
    except (EOFError, OSError, ValueError, KeyError) as error:
        raise DamagedFileError(
            f"{path}: cannot be read as GRIB ({error}); download or create it again"
        ) from error


def _check_whole(path: Path) -> None:
    """Raise DamagedFileError unless the last message is whole: cfgrib leaves out a torn one without a word."""
    position, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(16)
            if head[:4] != b"GRIB" and position:  # padding between messages is allowed
                return
            length = int.from_bytes(head[8:16]) if head[7:8] == b"\x02" else int.from_bytes(head[4:7])
            if head[7:8] == b"\x01" and length >> 23:  # messages over 8 MiB of edition 1 count in other units
                return
            position += max(length, len(head), 1)
    if position != size:
        raise DamagedFileError(f"{path}: its last message is torn; download or create it again")
