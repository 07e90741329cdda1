"""Undecoded variables of CF files: opened as they are stored, unpacked block by block."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.sources.absence import AbsentPolicy, refuse_holes
from pelagos.preprocessing.sources.arrays import hdf5_absence, zarr_absence, zarr_array
from pelagos.preprocessing.sources.arrays.array_reader import FileArray, Index
from pelagos.preprocessing.sources.arrays.grib_messages import leading_bytes
from pelagos.preprocessing.sources.arrays.hdf5_file import open_hdf5, reason, require_filters
from pelagos.preprocessing.sources.file_source import missing
from pelagos.preprocessing.sources.formats.cf_missing import NeverSet, ValidRange, marks


@dataclass(frozen=True)
class PackedVariable(FileArray):
    """One variable of one file: opened by path at each access, unpacked, NaN where it is missing.

    Attributes:
        fill: the packed values that mark missing ones.
        scale: multiplies packed values.
        offset: is added to them then.
        absent: how chunks that are not there are read.
        valid: the range outside which values are missing.
        never_set: the packed value that netCDF gives to what was never written.
    """

    fill: tuple[float, ...]
    scale: float
    offset: float
    absent: AbsentPolicy = "fill"
    valid: ValidRange | None = None
    never_set: NeverSet | None = None

    @classmethod
    def of(cls, path: Path | Url, key: str, stored: xr.Variable) -> "PackedVariable":
        """The reader of an undecoded variable.

        Raises:
            DataError: if it is packed in unsigned integers, or by what is no number.
        """
        attrs = stored.attrs
        if str(attrs.get("_Unsigned", "false")).lower() == "true":
            raise DataError(f"{path}: {key} is packed in unsigned integers (_Unsigned), which are not read")
        scale, offset = (
            _number(path, key, attrs, name, default)
            for name, default in (("scale_factor", 1), ("add_offset", 0))
        )
        if scale == 0:
            raise DataError(
                f"{path}: {key} has scale_factor 0, which makes all values one; correct the attribute"
            )
        kind, size = stored.dtype.kind, stored.dtype.itemsize
        # float32 holds 16-bit integers exactly, but neither wider ones nor what scale and offset make of them.
        wide = (scale, offset) != (1, 0) or (kind in "iu" and size > 2)
        own = stored.dtype.newbyteorder("=")
        if kind == "c":  # whoever takes complex numbers makes two fields of them
            return cls(path, key, stored.shape, own, (), scale, offset)
        dtype = np.dtype(np.float64 if wide else own if kind == "f" else np.float32)
        return cls(path, key, stored.shape, dtype, marks(path, key, stored), scale, offset)

    def of_field(self, stored: xr.Variable) -> "PackedVariable":
        """The same variable as a field, whose values may be missing; coordinates lack none."""
        if self.dtype.kind == "c":
            return self
        netcdf = not is_group(self.path)
        return replace(
            self,
            valid=ValidRange.of(self.path, self.key, stored, self.scale, self.offset),
            never_set=NeverSet.of(self.path, self.key, stored, netcdf=netcdf),
        )

    def checked(self) -> "PackedVariable":
        """The same variable, of which it is known that no value is absent, or how absent ones are read.

        Raises:
            MissingFileError: a file that holds some of its values is not there.
            DamagedFileError: some of its values were never written.
            DataError: absent values were to be missing, which they cannot be.
        """
        if is_group(self.path):
            array = zarr_array.open_group(self.path)[self.key]
            absent = zarr_absence.check_written(self.path, self.key, array, self.dtype, self.fill)
            return replace(self, absent=absent)
        assert isinstance(self.path, Path)
        if engine_of(self.path) != "h5netcdf":
            refuse_holes(self.path)
            return self
        with self._dataset() as dataset:
            if dataset is not None:
                require_filters(dataset)
            absent = (
                hdf5_absence.check_written(dataset, self.dtype, self.fill) if dataset is not None else "fill"
            )
        return replace(self, absent=absent)

    @contextmanager
    def _dataset(self) -> Iterator[Any]:
        """The dataset of a netCDF-4 file, None where netCDF keeps it elsewhere."""
        assert isinstance(self.path, Path)
        with _dataset_of(self.path, self.key) as dataset:
            yield dataset

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; raises DamagedFileError if its bytes cannot be read."""
        # zarr-python reads a group's array at once; xarray would first open every array of the group.
        if is_group(self.path):
            found = zarr_array.ZarrArray(self.path, self.key, self.shape, self.dtype, self.absent)
            return found.read(index, self.unpack)
        with open_undecoded(self.path) as ds:
            try:
                values = self.unpack(ds.variables[self.key][index].values)
            except OSError as error:
                raise DamagedFileError(f"{self.name} cannot be read ({reason(error)})") from error
        if self.absent != "missing":
            return values
        with self._dataset() as dataset:
            return hdf5_absence.mark_absent(dataset, index, values)

    def unpack(self, raw: NDArray[Any]) -> NDArray[Any]:
        """The values of packed ones; NaN where these are marked as missing."""
        values = raw.astype(self.dtype)
        if (self.scale, self.offset) != (1, 0):
            values = values * self.scale + self.offset
        # Marks and most limits are of packed values: they are compared before unpacking, in the stored type.
        marked = np.isin(raw, np.array(self.fill, raw.dtype)) if self.fill else np.zeros(raw.shape, bool)
        if self.never_set is not None and (never := self.never_set.among(raw) & ~marked).any():
            self.never_set.tell()
            marked |= never
        if self.valid is not None and (outside := self.valid.outside(raw, values) & ~marked).any():
            self.valid.tell()
            marked |= outside
        if marked.any():
            values[marked] = np.nan
        return values


_BARE_DIMENSION = b"This is a netCDF dimension but not a netCDF variable"


@contextmanager
def _dataset_of(path: Path, key: str) -> Iterator[Any]:
    with open_hdf5(path) as file:
        # The name of a variable that shares it with a dimension, but is no coordinate of it.
        yield file.get(key, file.get(f"_nc4_non_coord_{key}"))


def require_written(path: Path | Url, key: str) -> None:
    """Refuse a coordinate of netCDF-4 of which values were never written: they would read as zeros.

    Zarr leaves out chunks that hold nothing but its fill value, which entries of an axis may well be.

    Raises:
        DamagedFileError: some of its values were never written.
        DataError: absent values were to be missing, which those of an axis cannot be.
    """
    if isinstance(path, Path) and path.is_file() and engine_of(path) == "h5netcdf":
        with _dataset_of(path, key) as dataset:
            # A dimension without a coordinate is a dataset too, into which netCDF writes no values.
            if dataset is not None and not bytes(dataset.attrs.get("NAME", b"")).startswith(_BARE_DIMENSION):
                hdf5_absence.check_written(dataset)


def _number(path: Path | Url, key: str, attrs: Mapping[Any, Any], name: str, default: int) -> float:
    """An attribute that has to be a finite number."""
    stated = attrs.get(name, default)
    try:
        number = float(stated)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{path}: {key} has {name} {stated!r}, which is no finite number; correct the attribute"
        )
    return number


_KINDS = {"h5netcdf": "netCDF-4", "scipy": "netCDF-3", "zarr": "zarr"}


def _why(engine: str, error: Exception) -> str:
    """What xarray's errors and those of the libraries below it mean for the file."""
    return reason(error) if engine == "h5netcdf" else "its bytes are torn or of another format"


@contextmanager
def open_undecoded(path: Path | Url) -> Iterator[xr.Dataset]:
    """The file or store as it is stored: nothing unpacked, no dates.

    Raises:
        MissingFileError: if there is none.
        DamagedFileError: if it is truncated or of another format.
        DataError: if it is a store of Pelagos.
    """
    if isinstance(path, Url):
        yield _open_remote(path)
        return
    if not path.exists():
        raise missing(path)
    engine = engine_of(path)
    more: dict[str, Any] = {}
    group = zarr_array.open_group(path) if engine == "zarr" else None  # whose errors say more than xarray's
    if group is not None:
        more = {"consolidated": False}
    try:
        ds = xr.open_dataset(path, engine=engine, decode_cf=False, cache=False, **more)
    except PermissionError:  # an OSError as well, but the file may be whole
        raise
    except (OSError, EOFError, TypeError, KeyError, IndexError, ValueError, AssertionError) as error:
        # SciPy reads damaged netCDF-3 until an index, a type or an assertion fails.
        if group is not None:
            _require_named_dimensions(path, group)
        raise DamagedFileError(
            f"{path}: cannot be read as {_KINDS[engine]} ({_why(engine, error)}); download or create it again"
        ) from error
    with ds:
        yield ds if group is None else _marked(ds, group)


def _require_named_dimensions(path: Path, group: Any) -> None:
    """Raise DataError where an array of a Zarr group does not name its dimensions."""
    for key, array in sorted(group.arrays()):
        named = array.metadata.dimension_names if group.metadata.zarr_format == 3 else None
        if not (named or "_ARRAY_DIMENSIONS" in array.attrs):
            where = (
                "_ARRAY_DIMENSIONS in its .zattrs" if named is None else "dimension_names in its zarr.json"
            )
            raise DataError(
                f"{path}: the array {key} does not name its dimensions; {where} would be right, as xarray writes it"
            )


def is_group(path: Path | Url) -> bool:
    """Whether a path is a Zarr group, as folders and URLs are."""
    return isinstance(path, Url) or path.is_dir()


def _open_remote(url: Url) -> xr.Dataset:
    group = zarr_array.open_group(url)
    if not list(group.array_keys()):
        raise DataError(
            f"{url}: a group without arrays; a server that cannot list them needs consolidated metadata"
        )
    consolidated = group.metadata.consolidated_metadata is not None
    ds = xr.open_dataset(group.store, engine="zarr", decode_cf=False, cache=False, consolidated=consolidated)
    return _marked(ds, group)


def _marked(ds: xr.Dataset, group: Any) -> xr.Dataset:
    """The dataset with `_FillValue` where it marks missing values.

    xarray takes the fill value of any array of Zarr format 2 for it, since it writes the one as the other. But of
    itself zarr-python fills with 0, which marks nothing, and coordinates have no missing values.
    """
    if group.metadata.zarr_format != 2:
        return ds
    for name, stored in ds.variables.items():
        fill, own = stored.attrs.get("_FillValue"), group[name].attrs.get("_FillValue")
        # Coordinates of one axis, or none: a mask over latitudes would lose the equator.
        meant = stored.ndim > 1 and isinstance(fill, int | float | np.number) and fill != 0
        if own is not None:
            stored.attrs["_FillValue"] = own
        elif not meant:
            stored.attrs.pop("_FillValue", None)
    return ds


def engine_of(path: Path) -> str:
    """Xarray's engine, by the file's first bytes: suffixes are no guide (`.nc` is netCDF-3 or 4)."""
    if path.is_dir():
        return "zarr"
    with path.open("rb") as file:
        magic = file.read(8)
    if magic[:3] == b"CDF":
        return "scipy"
    if magic == b"\x89HDF\r\n\x1a\n":
        return "h5netcdf"
    if magic[:4] == b"GRIB" or leading_bytes(path) is not None:
        return "cfgrib"
    if not magic:
        raise DamagedFileError(f"{path}: the file is empty; download or create it again")
    raise DamagedFileError(f"{path}: neither netCDF nor GRIB nor a Zarr store; download or create it again")
