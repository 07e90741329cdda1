"""List an archive: its arrays with their shapes and types, without reading a field."""

import glob
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.files.location import Url, locate
from pelagos.preprocessing.sources.absence import AbsentBytesError
from pelagos.preprocessing.sources.arrays import (
    grib_file,
    grib_messages,
    keyed_file,
    mat_file,
    npy_file,
    npz_file,
    torch_file,
    zarr_array,
)
from pelagos.preprocessing.sources.arrays.hdf5_file import member, open_hdf5
from pelagos.preprocessing.sources.file_source import FileSource, missing
from pelagos.preprocessing.sources.finding import ArchiveListing, Container

_MAGIC: tuple[tuple[bytes, Container], ...] = (
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"MATLAB 7.3", "hdf5"),
    (b"MATLAB 5.0", "mat5"),
    (b"CDF", "netcdf3"),
    (b"GRIB", "grib"),
    (b"PK\x03\x04", "torch"),  # torch.save writes zip files
    (torch_file.BEFORE_1_6, "torch"),
    (b"\x93NUMPY", "npy"),
)
_MOST_MEMBERS = 40
"""How many members of a group are listed: files with a group for each sample have thousands."""


def list_archive(path: str | Path) -> ArchiveListing:
    """What can be told of an archive without reading a field.

    Args:
        path: a file, a store or its URL, a folder of files of one kind, or a pattern.

    Raises:
        MissingFileError: there is nothing.
        DamagedFileError: what is there cannot be read.
        DataError: a folder holds files of several kinds, or none.
    """
    paths = str(path)
    if isinstance(place := locate(paths), Url):
        return _list_group(Path(place.name), paths, zarr_array.open_group(place))
    if glob.has_magic(paths) and not Path(paths).exists():
        return _list_file(FileSource(paths=(paths,)).files()[0], paths)
    found = Path(paths).expanduser()
    if not found.exists():
        raise missing(found)
    if found.is_dir() and not _is_zarr(found) and not _has_cases(found):
        pattern = _pattern(found)
        return _list_file(FileSource(paths=(pattern,)).files()[0], pattern)
    return _list_file(found, paths)


def _list_file(path: Path, paths: str) -> ArchiveListing:
    container = _container(path)
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, str] = {}
    attrs: Mapping[str, Any] = {}
    scales: tuple[str, ...] = ()
    if container == "hdf5":
        with open_hdf5(path) as file:
            attrs = {key: _as_text(value) for key, value in file.attrs.items()}
            for key, item in _datasets(file):
                shapes[key], types[key] = item.shape, item.dtype.str
                if _as_text(item.attrs.get("CLASS")) == "DIMENSION_SCALE":
                    scales += (key,)
    elif container == "zarr":
        return _list_group(path, paths, zarr_array.open_group(path))
    elif container == "grib":
        # What can be opened once something is selected, installed or allowed is settled later; damage is not.
        with suppress(AbsentBytesError, ConfigError, DataError):
            grib_file.open_cubes(path)
    elif container == "netcdf3":
        shapes, types = _netcdf3(path)
    elif container == "npy":
        array = npy_file.NpyArray.of(path)
        shapes[""], types[""] = array.shape, array.dtype.str
    elif container in ("mat5", "torch", "npz"):
        held = mat_file.arrays(path) if container == "mat5" else keyed_file.tensors(path)
        shapes, types = (
            {key: reader.shape for key, reader in held.items()},
            {key: reader.dtype.str for key, reader in held.items()},
        )
    return ArchiveListing(path, paths, container, shapes, types, attrs, scales)


def _list_group(path: Path, paths: str, group: Any) -> ArchiveListing:
    # Sorted, since a folder lists its arrays in another order in each copy.
    arrays = dict(sorted(group.arrays()))
    shapes = {key: array.shape for key, array in arrays.items()}
    types = {key: np.dtype(array.dtype).str for key, array in arrays.items()}
    return ArchiveListing(path, paths, "zarr", shapes, types, dict(group.attrs))


def _container(path: Path) -> Container:
    if path.is_dir():
        return "zarr" if _is_zarr(path) else "cases"
    with path.open("rb") as file:
        head = file.read(16)
    container: Container = next((word for magic, word in _MAGIC if head.startswith(magic)), "unknown")
    if (
        container == "unknown" and grib_messages.leading_bytes(path) is not None
    ):  # a bulletin's heading goes before
        return "grib"
    if container == "torch" and npz_file.is_npz(path):
        return "npz"
    return "unknown" if container == "torch" and _is_other_zip(path) else container


def _is_other_zip(path: Path) -> bool:
    """Whether a zip file is not one of torch.save; a truncated one, whose table is gone, may still be."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return not any(name.endswith("data.pkl") for name in file.namelist())


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray", ".zmetadata"))


def _has_cases(path: Path) -> bool:
    return any(next(path.glob(f"{above}case.json"), None) for above in ("", "*/", "*/*/"))


def _pattern(folder: Path) -> str:
    """The pattern of those files of a folder that are of a known kind; they must share one suffix."""
    # Hidden files belong to the system, or to a download that has not ended.
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".")]
    known = [file for file in files if (_is_zarr(file) if file.is_dir() else _container(file) != "unknown")]
    suffixes = Counter(file.suffix for file in known)
    patterns = [f"{glob.escape(str(folder))}/*{suffix}" for suffix in sorted(suffixes)]
    if not known:
        listed = ", ".join(file.name for file in files[:5]) + ", ..." * (len(files) > 5)
        what = f"no file of a known kind, but {listed}" if files else "nothing"
        raise DataError(f"{folder} holds {what}; name a file, a folder of files, or a store{_below(folder)}")
    if len(patterns) > 1:
        listed = ", ".join(f"{suffixes[suffix]} {suffix or 'without suffix'}" for suffix in sorted(suffixes))
        raise DataError(
            f"{folder} holds files of several kinds ({listed}); name a file, or a pattern in quotes: '{patterns[0]}'"
        )
    return patterns[0]


def _below(folder: Path) -> str:
    """For the message: a pattern of the files one folder further down, as in `train` and `valid`."""
    files = (file for file in sorted(folder.glob("*/*"))[:_MOST_MEMBERS] if file.is_file())
    found = next((file for file in files if _container(file) != "unknown"), None)
    return f", or a pattern in quotes: '{glob.escape(str(folder))}/*/*{found.suffix}'" if found else ""


def _datasets(group: Any, above: str = "", depth: int = 3) -> Iterator[tuple[str, Any]]:
    """The arrays of an open HDF5 file by key, down to groups of the third level."""
    for key in list(group)[:_MOST_MEMBERS]:
        item = member(group, key)
        if isinstance(item, h5py.Dataset):
            yield above + key, item
        elif depth and isinstance(item, h5py.Group):
            yield from _datasets(item, f"{above}{key}/", depth - 1)


def _netcdf3(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    try:
        with xr.open_dataset(path, engine="scipy", decode_cf=False, cache=False) as ds:
            shapes = {str(key): held.shape for key, held in ds.variables.items()}
            return shapes, {str(key): held.dtype.str for key, held in ds.variables.items()}
    except (OSError, TypeError, ValueError, KeyError, IndexError, AssertionError) as error:
        raise DamagedFileError(
            f"{path}: cannot be read as netCDF-3 (its bytes are torn or of another format); download or create it again"
        ) from error


def _as_text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
