"""Values of an HDF5 dataset that were never written, or that lie in files which are not there."""

from collections.abc import Collection
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.assumptions import assume
from pelagos.preprocessing.sources.absence import AbsentPolicy, holes, tell_absent
from pelagos.preprocessing.sources.arrays.array_reader import Index

_UNLIMITED = 2**62


def check_written(
    dataset: h5py.Dataset, dtype: np.dtype[Any] | None = None, marks: Collection[float] = ()
) -> AbsentPolicy:
    """Refuse a dataset of which values are absent, as its source's configuration says; reads no value.

    Args:
        dataset: an open dataset.
        dtype: of the values as they are read; that of the dataset by default.
        marks: stored values that mark missing ones.

    Returns:
        How absent chunks are to be read: "error" where there are none.

    Raises:
        MissingFileError: a file of a virtual or external dataset is not there.
        DamagedFileError: values were never written.
        DataError: absent values were to be missing, which they cannot be.
    """
    name = f"{dataset.file.filename}: {dataset.name}"
    if not dataset.size:
        return "error"
    if dataset.is_virtual:
        _check_virtual(name, dataset)
        return "error"
    if dataset.external:
        _check_external(name, dataset)
        return "error"
    if dataset.chunks is not None:
        return _check_chunks(name, dataset, dataset.dtype if dtype is None else dtype, marks)
    if dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        return "error"  # compact: it lies in the header
    start = dataset.id.get_offset()
    if start is None:
        tell_absent(name, f"none of its {dataset.size} values were ever written")
    elif torn := _holes(Path(dataset.file.filename), [(start, start + dataset.nbytes)]):
        tell_absent(name, f"bytes {torn[0]} to {torn[1]} of the file were never written")
    return "error"


def _holes(path: Path, extents: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The first hole of a file that takes bytes from one of the extents."""
    for begin, end in holes(path):
        if any(begin < stop and start < end for start, stop in extents):
            return begin, end
    return None


def _check_chunks(
    name: str, dataset: h5py.Dataset, dtype: np.dtype[Any], marks: Collection[float]
) -> AbsentPolicy:
    number = prod(-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    written = dataset.id.get_num_chunks()
    if written < number:
        first = next(cell for cell in _cells(dataset) if not _is_written(dataset, cell))
        where = ", ".join(map(str, first))
        text = f"{number - written} of {number} chunks were never written, the first at ({where})"
        fill = dataset.fillvalue
        if fill != fill or fill in marks:
            assume("chunks_absent", name, f"{text}, and read as missing")
            return "error"
        return tell_absent(name, text, dtype)
    # Only files with holes are looked into chunk by chunk.
    path = Path(dataset.file.filename)
    if holes(path):
        chunks = (dataset.id.get_chunk_info(i) for i in range(written))
        if torn := _holes(path, [(one.byte_offset, one.byte_offset + one.size) for one in chunks]):
            tell_absent(name, f"bytes {torn[0]} to {torn[1]} of the file were never written")
    return "error"


def _cells(dataset: h5py.Dataset) -> Any:
    """The first position of each chunk."""
    return product(
        *(range(0, length, chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    )


def _is_written(dataset: h5py.Dataset, cell: tuple[int, ...]) -> bool:
    return dataset.id.get_chunk_info_by_coord(cell).byte_offset is not None


def _check_virtual(name: str, dataset: h5py.Dataset) -> None:
    own = Path(dataset.file.filename)
    mapped = 0
    for source in dataset.virtual_sources():
        mapped += min(source.vspace.get_select_npoints(), _UNLIMITED)
        if "%b" in source.file_name:  # HDF5 counts the files that there are
            continue
        if source.file_name == ".":
            _check_source(name, dataset.file, source, source.file_name)
            continue
        path = _found(own, source.file_name)
        if path is None:
            text = f"its virtual source {source.file_name} is not there"
            tell_absent(name, text, missing_file=True)
            continue
        with h5py.File(path, "r") as file:
            _check_source(name, file, source, str(path))
    if mapped < dataset.size:
        tell_absent(name, f"only {mapped} of its {dataset.size} values are mapped to another dataset")


def _found(own: Path, file_name: str) -> Path | None:
    """Where HDF5 looks for the file of a virtual dataset: as named, and beside the file that names it."""
    candidates = (own.parent / file_name, Path(file_name), own.parent / Path(file_name).name)
    return next((path for path in candidates if path.is_file()), None)


def _check_source(name: str, file: Any, source: Any, where: str) -> None:
    if source.dset_name not in file:
        tell_absent(name, f"its virtual source {where} has no {source.dset_name}", missing_file=True)
        return
    held = file[source.dset_name]
    mapped, space = source.vspace.get_select_npoints(), source.src_space
    if space.get_select_type() == h5py.h5s.SEL_HYPERSLABS:
        ends = zip(space.get_select_bounds()[1], held.shape, strict=False)
        short = any(length <= end < _UNLIMITED for end, length in ends)
    else:
        short = held.size < mapped < _UNLIMITED
    if short:
        tell_absent(
            name,
            f"its virtual source {where}: {source.dset_name} has shape {held.shape}, and {mapped} values are wanted",
        )
    check_written(held)


def _check_external(name: str, dataset: h5py.Dataset) -> None:
    own = Path(dataset.file.filename)
    for file_name, start, size in dataset.external:
        text = file_name.decode() if isinstance(file_name, bytes) else file_name
        path = next((one for one in (own.parent / text, Path(text)) if one.is_file()), None)
        needed = start + min(size, dataset.nbytes)
        if path is None:
            tell_absent(
                name, f"the external file {text} that holds its values is not there", missing_file=True
            )
        elif path.stat().st_size < needed:
            held = path.stat().st_size
            tell_absent(
                name, f"the external file {path} has {held} of the {needed} bytes that hold its values"
            )
        elif torn := _holes(path, [(start, needed)]):
            tell_absent(name, f"bytes {torn[0]} to {torn[1]} of the external file {path} were never written")


def mark_absent(dataset: h5py.Dataset, index: Index, values: NDArray[Any]) -> NDArray[Any]:
    """The values of a block with NaN in the place of those whose chunks were never written."""
    positions = [
        np.atleast_1d(np.arange(length)[one]) for length, one in zip(dataset.shape, index, strict=True)
    ]
    chunks = dataset.chunks
    absent = np.zeros([len(one) for one in positions], bool)
    cells = [np.unique(one // chunk) for one, chunk in zip(positions, chunks, strict=True)]
    for cell in product(*(one.tolist() for one in cells)):
        if not _is_written(
            dataset, tuple(number * chunk for number, chunk in zip(cell, chunks, strict=True))
        ):
            inside = (
                one // chunk == number for one, chunk, number in zip(positions, chunks, cell, strict=True)
            )
            absent[np.ix_(*inside)] = True
    kept = tuple(0 if isinstance(one, int) else slice(None) for one in index)
    return np.where(absent[kept], np.array(np.nan, values.dtype), values)
