"""Recognition: what formats take an unknown archive for, from its keys, shapes and attributes alone."""

import glob
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import xarray as xr

from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.location import Url, locate
from pelagos.preprocessing.sources.arrays import mat_file, npy_file, torch_file, zarr_array
from pelagos.preprocessing.sources.arrays.hdf5_file import open_hdf5
from pelagos.preprocessing.sources.file_source import FileSource, missing
from pelagos.preprocessing.sources.finding import ArchiveListing, Confidence, Container, Finding
from pelagos.preprocessing.sources.formats.source import FORMATS

_MAGIC: tuple[tuple[bytes, Container], ...] = (
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"MATLAB 7.3", "hdf5"),
    (b"MATLAB 5.0", "mat5"),
    (b"CDF", "netcdf3"),
    (b"GRIB", "grib"),
    (b"PK\x03\x04", "torch"),
    (b"\x93NUMPY", "npy"),
)
_GROUPS = 40
"""So many members of a group are looked into: files with a group a sample have thousands."""


def recognise(path: str | Path) -> tuple[ArchiveListing, list[Finding]]:
    """A glance at an archive and what the formats take it for, the surest first.

    Args:
        path: a file, a store or its URL, a folder of files of one kind, or a pattern.

    Raises:
        MissingFileError: there is nothing.
        DamagedFileError: what is there cannot be read.
        DataError: a folder holds files of several kinds, or none.
    """
    seen = look(path)
    found = [finding for kind in FORMATS if (finding := kind.recognise(seen))]
    order = get_args(Confidence)
    found.sort(key=lambda finding: order.index(finding.confidence))
    sure = bool(found) and found[0].confidence == "certain"
    return seen, [finding for finding in found if not sure or finding.confidence != "possible"]


def look(path: str | Path) -> ArchiveListing:
    """What can be told of an archive without reading a field; errors as of `recognise`."""
    paths = str(path)
    if isinstance(place := locate(paths), Url):
        return _glance_at_group(Path(place.name), paths, zarr_array.open_group(place))
    if glob.has_magic(paths) and not Path(paths).exists():
        return _glance(FileSource(paths=(paths,)).files()[0], paths)
    found = Path(paths).expanduser()
    if not found.exists():
        raise missing(found)
    if found.is_dir() and not _is_zarr(found) and not _has_cases(found):
        pattern = _pattern(found)
        return _glance(FileSource(paths=(pattern,)).files()[0], pattern)
    return _glance(found, paths)


def _glance(path: Path, paths: str) -> ArchiveListing:
    container = _container(path)
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, str] = {}
    attrs: Mapping[str, Any] = {}
    if container == "hdf5":
        with open_hdf5(path) as file:
            attrs = {key: _plain(value) for key, value in file.attrs.items()}
            for key, item in _members(file):
                shapes[key], types[key] = item.shape, item.dtype.str
    elif container == "zarr":
        return _glance_at_group(path, paths, zarr_array.open_group(path))
    elif container == "netcdf3":
        shapes, types = _netcdf3(path)
    elif container == "npy":
        array = npy_file.NpyArray.of(path)
        shapes[""], types[""] = array.shape, array.dtype.str
    elif container in ("mat5", "torch"):
        held = mat_file.arrays(path) if container == "mat5" else torch_file.tensors(path)
        shapes, types = (
            {key: reader.shape for key, reader in held.items()},
            {key: reader.dtype.str for key, reader in held.items()},
        )
    return ArchiveListing(path, paths, container, shapes, types, attrs)


def _glance_at_group(path: Path, paths: str, group: Any) -> ArchiveListing:
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
    return "unknown" if container == "torch" and _is_other_zip(path) else container


def _is_other_zip(path: Path) -> bool:
    """Whether a whole zip file lacks what torch.save puts into its own."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return not any(name.endswith("data.pkl") for name in file.namelist())


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray", ".zmetadata"))


def _has_cases(path: Path) -> bool:
    return any(next(path.glob(f"{above}case.json"), None) for above in ("", "*/", "*/*/"))


def _pattern(folder: Path) -> str:
    """The pattern of the files in a folder that are of a known kind, which must have one suffix."""
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
    """A pattern of the files in the folders of a folder, such as `train` and `valid`, for the message."""
    files = (file for file in sorted(folder.glob("*/*"))[:_GROUPS] if file.is_file())
    found = next((file for file in files if _container(file) != "unknown"), None)
    return f", or a pattern in quotes: '{glob.escape(str(folder))}/*/*{found.suffix}'" if found else ""


def _members(group: Any, above: str = "", depth: int = 3) -> Iterator[tuple[str, Any]]:
    for key in list(group)[:_GROUPS]:
        item = group[key]
        if isinstance(item, h5py.Dataset):
            yield above + key, item
        elif depth and isinstance(item, h5py.Group):
            yield from _members(item, f"{above}{key}/", depth - 1)


def _netcdf3(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    try:
        with xr.open_dataset(path, engine="scipy", decode_cf=False, cache=False) as ds:
            shapes = {str(key): held.shape for key, held in ds.variables.items()}
            return shapes, {str(key): held.dtype.str for key, held in ds.variables.items()}
    except (OSError, TypeError, ValueError, KeyError, IndexError, AssertionError) as error:
        raise DamagedFileError(
            f"{path}: cannot be read as netCDF-3 ({error}); fetch or make it again"
        ) from error


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
