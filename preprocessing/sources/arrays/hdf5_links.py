"""HDF5 links: the other files that hold part of what an HDF5 file shows."""

from collections.abc import Iterator
from glob import escape
from pathlib import Path
from typing import Any

import h5py


def linked_files(path: Path) -> list[Path]:
    """The files that an HDF5 file takes values from, and those that these take values from; none for other files.

    By external links, virtual datasets and datasets whose values lie in other files. Those that are not there are left
    out.

    Args:
        path: of any file.
    """
    # Told apart by where they are: links may go round in circles.
    found, waiting = {path.resolve(): path}, [path]
    while waiting:
        file = waiting.pop()
        if not file.is_file() or not h5py.is_hdf5(file):
            continue
        for other in _named(file):
            if other.resolve() not in found:
                found[other.resolve()] = other
                waiting.append(other)
    return list(found.values())[1:]


def _named(path: Path) -> list[Path]:
    """The existing files that one file names."""
    names: dict[str, None] = {}

    def visit(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            names[link.filename] = None
        elif isinstance(link, h5py.HardLink):
            names.update(dict.fromkeys(_held_elsewhere(file[name])))

    with h5py.File(path, "r") as file:
        file.visititems_links(visit)
    return [other for name in names for other in _places(path, name)]


def _held_elsewhere(entry: Any) -> Iterator[str]:
    """The names of files that hold values of a dataset; `.` is the file itself."""
    if not isinstance(entry, h5py.Dataset):
        return
    for text, _, _ in entry.external or ():
        yield text.decode() if isinstance(text, bytes) else str(text)
    if entry.is_virtual:
        for source in entry.virtual_sources():
            if source.file_name != ".":
                yield str(source.file_name)


def _places(own: Path, name: str) -> list[Path]:
    """Where HDF5 finds files of this name: as named, and beside the file that names them."""
    for place in (own.parent / name, Path(name), own.parent / Path(name).name):
        if place.is_file():
            return [place]
        if "%" in name:
            # H5Pset_virtual: %b counts the files of a virtual dataset that grows, and %% is a percent sign.
            pattern = escape(place.name).replace("%b", "*").replace("%%", "%")
            if matches := sorted(place.parent.glob(pattern)):
                return matches
    return []
