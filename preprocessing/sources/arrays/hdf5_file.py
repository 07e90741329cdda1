"""HDF5 files: their datasets as array readers, and what HDF5's own messages mean."""

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import ask
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError, PelagosError
from pelagos.preprocessing.sources.absence import AbsentPolicy, absent_values
from pelagos.preprocessing.sources.arrays.array_reader import FileArray, Index
from pelagos.preprocessing.sources.arrays.hdf5_absence import check_written, mark_absent
from pelagos.preprocessing.sources.file_source import missing

_FILTERS = {
    305: "lzo",
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fci-dsp",
    32024: "sz3",
    32026: "blosc2",
    32028: "sperr",
    32023: "granular bitround",
}
"""Filters that HDF5 does not bring itself, by their registered numbers (github.com/HDFGroup/hdf5_plugins)."""
_LARGE = 64 << 30  # bytes, from which a claim is compared with what is stored
_MOST_PACKED = 1_000_000  # times that a filter makes an array smaller: zstd comes to 30 000 on zeros


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The h5py file, read-only.

    Raises:
        MissingFileError: if there is no such file.
        DamagedFileError: if it is truncated or no HDF5 file.
        DataError: what the block opens is a link to something that is not there; MissingFileError if that is a file.
    """
    if not path.is_file():
        raise missing(path)
    try:
        file = h5py.File(path, "r")
    except PermissionError:  # an OSError as well, but the file may be whole
        raise
    except OSError as error:
        raise _damaged(path, error) from error
    with file:
        try:
            yield file
        except MemoryError as error:  # a few bytes can claim any shape
            raise DamagedFileError(
                f"{path}: claims an array that does not fit into memory ({error})"
            ) from error
        except KeyError as error:
            if "Unable to" in str(error):  # HDF5's own words: a key that is listed, but cannot be opened
                keys: list[str] = []
                try:
                    file.visit_links(keys.append)
                except RuntimeError as torn:  # h5py's for metadata that cannot be read
                    raise _damaged(path, torn) from torn
                for key in keys:  # not within the visit: h5py turns what is raised there into SystemError
                    _require_link_targets(file, key)
                raise _damaged(path, error) from error
            raise
        except (RuntimeError, OSError) as error:
            # HDF5 reads its own structure when that is asked for, so that damage may show anywhere in the block.
            if isinstance(error, PelagosError) or not _is_of_hdf5(error):
                raise
            raise _damaged(path, error) from error


def _is_of_hdf5(error: Exception) -> bool:
    """Whether h5py raised an error, whose messages end with HDF5's own in brackets."""
    return re.search(r"^(Unable|Can't|Link visitation|Object visitation|Not a).*\)$", str(error)) is not None


def _damaged(path: Path, error: Exception) -> DamagedFileError:
    return DamagedFileError(f"{path}: not a whole HDF5 file ({reason(error)}); download or create it again")


def member(file: Any, key: str) -> Any:
    """The dataset or group `key` of an open h5py file or group.

    Raises:
        DataError: if there is none; the message lists what there is.
    """
    if key in file:
        try:
            return file[key]
        except (KeyError, OSError, RuntimeError) as error:
            _require_link_targets(file, key)
            raise DamagedFileError(
                f"{file.file.filename}: '{key}' cannot be opened ({reason(error)}); download or create it again"
            ) from error
    _require_link_targets(file, key)
    listed = list(file)
    found = ", ".join(listed[:20]) + (", ..." if len(listed) > 20 else "")
    raise DataError(f"{file.file.filename}: no '{key}' in '{file.name}'; it holds {found or 'nothing'}")


def whole(dataset: Any) -> NDArray[Any]:
    """All values of a small array, such as an axis or a parameter, of an open file.

    Raises:
        DamagedFileError: some of them were never written, and would read as zeros.
        DataError: these were to be missing, which they cannot be.
    """
    absent = check_written(dataset)
    values = np.asarray(dataset[()])
    return mark_absent(dataset, (slice(None),) * dataset.ndim, values) if absent == "missing" else values


def _require_link_targets(file: Any, key: str) -> None:
    """Raise MissingFileError where a key is a link to a file, or to a place in one, that is not there."""
    group = file
    for part in key.strip("/").split("/"):
        if not isinstance(group, h5py.Group) or (link := group.get(part, getlink=True)) is None:
            return
        try:
            group = group[part]
        except (KeyError, OSError, RuntimeError) as error:
            if isinstance(link, h5py.ExternalLink):
                raise MissingFileError(
                    f"{file.file.filename}: '{key}' is a link to {link.path} in {link.filename}, which is not there or"
                    " cannot be read; put it beside the file"
                ) from error
            if isinstance(link, h5py.SoftLink):
                raise DataError(
                    f"{file.file.filename}: '{key}' is a link to {link.path}, which the file does not have"
                ) from error
            return


@dataclass(frozen=True)
class Hdf5Dataset(FileArray):
    """One dataset of an HDF5 file, opened by path at each access.

    Attributes:
        path: of the file that holds it.
        absent: how chunks that were never written are read, where there are any.
        checked: whether it is known which are absent; else that is found out at each access.
    """

    path: Path
    absent: AbsentPolicy = "error"
    checked: bool = False

    @classmethod
    def of(cls, dataset: Any) -> "Hdf5Dataset":
        """The reader of an open h5py dataset.

        Raises:
            DataError: if it is a group, or compressed by a filter that is not installed.
            MissingFileError: a file that holds some of its values is not there.
            DamagedFileError: some of its values were never written.
        """
        path = Path(dataset.file.filename)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"{path}: '{dataset.name}' is a group where an array was expected")
        require_filters(dataset)
        _check_claim(path, dataset)
        _ask_about_attributes(path, dataset)
        return cls(path, dataset.name, dataset.shape, dataset.dtype, check_written(dataset), checked=True)

    def read(self, index: Index) -> NDArray[Any]:
        """The block at `index`; raises DamagedFileError if its bytes cannot be read."""
        with open_hdf5(self.path) as file:
            try:
                dataset = member(file, self.key)
                absent = self.absent
                if not self.checked:
                    with absent_values(self.absent):
                        absent = check_written(dataset)
                values = np.asarray(dataset[index])
                return mark_absent(dataset, index, values) if absent == "missing" else values
            except PelagosError:  # may be an OSError as well, and says more
                raise
            except OSError as error:
                raise DamagedFileError(
                    f"{self.name}: cannot be read ({reason(error)}); download or create {self.path} again"
                ) from error


def _ask_about_attributes(path: Path, dataset: Any) -> None:
    """Ask about attributes of netCDF that would change values: formats other than CF do not know them."""
    stated = {
        name: np.ravel(dataset.attrs[name]).tolist()
        for name in (
            "scale_factor",
            "add_offset",
            "_FillValue",
            "missing_value",
            "valid_min",
            "valid_max",
            "valid_range",
        )
        if name in dataset.attrs
    }
    idle = {"scale_factor": 1, "add_offset": 0}
    told = {name: one for name, one in stated.items() if any(v == v and v != idle.get(name) for v in one)}
    if told:
        listed = ", ".join(f"{name} {one}" for name, one in told.items())
        text = f"{path}: {dataset.name} has {listed}, which this format does not apply: values are read as stored"
        ask(
            "missing_values",
            dataset.name.strip("/"),
            text,
            "marks and convert do it; then accept: [missing_values]",
        )


def require_filters(dataset: Any) -> None:
    """Raise DataError where an open dataset is compressed by a filter that neither HDF5 nor hdf5plugin brings."""
    if absent := _absent_filters(dataset):
        try:
            importlib.import_module(
                "hdf5plugin"
            )  # registers its filters; installed by whoever has such files
        except ImportError:
            pass
        else:
            absent = _absent_filters(dataset)
    if absent:
        raise DataError(
            f"{dataset.file.filename}: {dataset.name} is compressed by the HDF5 filter {' and '.join(absent)}, which"
            f" is not installed; pip install hdf5plugin, or write the file anew with gzip: h5repack -f GZIP=4"
            f" {dataset.file.filename} NEW, where the filter is"
        )


def _absent_filters(dataset: Any) -> list[str]:
    created = dataset.id.get_create_plist()
    found = [created.get_filter(i) for i in range(created.get_nfilters())]
    return [
        f"{_FILTERS.get(code) or name.decode(errors='replace') or 'without a name'} ({code})"
        for code, _, _, name in found
        if not h5py.h5z.filter_avail(code)
    ]


def reason(error: Exception) -> str:
    """What an error of HDF5 says about the file, in words for those who did not write HDF5."""
    text = str(error)
    if match := re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", text):
        return f"it has {match[1]} of {match[2]} bytes"
    for sign, meaning in (
        ("file signature not found", "it does not begin as HDF5 files do"),
        ("required filter", "a filter that compressed it is not installed"),
        ("filter returned failure", "its compressed bytes are damaged"),
        ("checksum", "a checksum does not match its bytes"),
        ("unable to lock file", "another program is writing it"),
        ("can't open file", "a file that it refers to cannot be opened"),
    ):
        if sign in text:
            return meaning
    return "its structure is damaged"


def _check_claim(path: Path, dataset: Any) -> None:
    """Raise DamagedFileError where an array is far larger than what is stored of it could ever unpack to."""
    stored = dataset.id.get_storage_size()
    elsewhere = dataset.is_virtual or dataset.external
    if dataset.nbytes > _LARGE and dataset.nbytes > _MOST_PACKED * stored and not elsewhere:
        raise DamagedFileError(
            f"{path}: '{dataset.name}' claims the shape {dataset.shape}, {dataset.nbytes / 1e9:.3g} GB, of which "
            f"{stored} bytes are there; download or create it again"
        )
