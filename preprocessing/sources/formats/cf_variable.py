"""Undecoded variables of CF files: opened as they are stored, unpacked block by block."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.preprocessing.errors import DamagedFileError, DataError
from pelagos.preprocessing.location import Url
from pelagos.preprocessing.sources.arrays import grib_file, zarr_array
from pelagos.preprocessing.sources.arrays.array_reader import FileArray, Index
from pelagos.preprocessing.sources.file_source import missing


@dataclass(frozen=True)
class PackedVariable(FileArray):
    """One variable of one file: opened by path at each access, unpacked, NaN where it is missing.

    Attributes:
        fill: the packed values that mark missing ones.
        scale: multiplies packed values.
        offset: is added to them then.
    """

    fill: tuple[float, ...]
    scale: float
    offset: float

    @classmethod
    def of(cls, path: Path | Url, key: str, stored: xr.Variable) -> "PackedVariable":
        """The reader of an undecoded variable.

        Raises:
            DataError: if it is packed in unsigned integers.
        """
        attrs = stored.attrs
        if str(attrs.get("_Unsigned", "false")).lower() == "true":
            raise DataError(f"{path}: {key} is packed in unsigned integers (_Unsigned), which are not read")
        scale, offset = (
            float(attrs.get(name, one)) for name, one in (("scale_factor", 1), ("add_offset", 0))
        )
        kind, size = stored.dtype.kind, stored.dtype.itemsize
        # float32 holds 16-bit integers exactly, but neither wider ones nor what scale and offset make of them.
        wide = (scale, offset) != (1, 0) or (kind in "iu" and size > 2)
        dtype = np.dtype(
            np.float64 if wide else stored.dtype.newbyteorder("=") if kind == "f" else np.float32
        )
        marks = (np.ravel(attrs.get(name, ())) for name in ("_FillValue", "missing_value"))
        # NaN (which differs from itself) needs no mark.
        fill = tuple(float(one) for some in marks if some.dtype.kind in "iuf" for one in some if one == one)
        return cls(path, key, stored.shape, dtype, fill, scale, offset)

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; raises DamagedFileError if its bytes cannot be read."""
        # zarr-python reads a group's array at once; xarray would first open every array of the group.
        if is_group(self.path):
            return self.unpack(zarr_array.ZarrArray(self.path, self.key, self.shape, self.dtype).read(index))
        with open_undecoded(self.path) as ds:
            try:
                return self.unpack(ds.variables[self.key][index].values)
            except OSError as error:
                raise DamagedFileError(f"{self.name} cannot be read ({error})") from error

    def unpack(self, raw: NDArray[Any]) -> NDArray[Any]:
        """The values of packed ones; NaN where these are marked as missing."""
        values = raw.astype(self.dtype)
        if (self.scale, self.offset) != (1, 0):
            values = values * self.scale + self.offset
        if self.fill:
            # CF's marks are packed values: they are compared before unpacking, in the stored type.
            values[np.isin(raw, np.array(self.fill).astype(raw.dtype))] = np.nan
        return values


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
    engine = _engine(path)
    if engine == "cfgrib":
        yield grib_file.open_undecoded(path)
        return
    more: dict[str, Any] = {}
    if engine == "zarr":
        zarr_array.open_group(path)  # whose errors say more than xarray's
        more = {"consolidated": False}
    try:
        ds = xr.open_dataset(path, engine=engine, decode_cf=False, cache=False, **more)
    except PermissionError:  # an OSError as well, but the file may be whole
        raise
    except (OSError, EOFError, TypeError, KeyError, IndexError, ValueError, AssertionError) as error:
        # SciPy reads damaged netCDF-3 until an index, a type or an assertion fails.
        raise DamagedFileError(
            f"{path}: cannot be read as {engine} ({error}); download or create it again"
        ) from error
    with ds:
        yield ds


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
    return xr.open_dataset(
        group.store, engine="zarr", decode_cf=False, cache=False, consolidated=consolidated
    )


def _engine(path: Path) -> str:
    """Xarray's engine, by the file's first bytes: suffixes are no guide (`.nc` is netCDF-3 or 4)."""
    if path.is_dir():
        return "zarr"
    with path.open("rb") as file:
        magic = file.read(8)
    if magic[:3] == b"CDF":
        return "scipy"
    if magic == b"\x89HDF\r\n\x1a\n":
        return "h5netcdf"
    if magic[:4] == b"GRIB":
        return "cfgrib"
    raise DamagedFileError(f"{path}: neither netCDF nor GRIB nor a Zarr store; download or create it again")
