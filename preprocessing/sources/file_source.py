"""FileSource: what all sources of files share, among it what their paths, patterns and lists stand for."""

import difflib
import functools
import glob
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import xarray as xr
from pydantic import BeforeValidator, Field

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError, MissingFileError
from pelagos.preprocessing.files.location import Url, locate
from pelagos.preprocessing.sources.absence import AbsentPolicy, absent_values
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding


def _listed(value: object) -> object:
    many = (value,) if isinstance(value, str | Path) else value
    if not isinstance(many, list | tuple):
        return value
    for one in many:
        locate(str(one))  # raises ValueError for what can be neither a path nor a URL
    return tuple(str(one) for one in many)


def _with_policy(opening: Callable[[Any], xr.Dataset]) -> Callable[[Any], xr.Dataset]:
    @functools.wraps(opening)
    def opened(self: "FileSource") -> xr.Dataset:
        with absent_values(self.absent):
            return opening(self)

    return opened


class FileSource(Config):
    """The configuration that all sources of files share; each format adds its options, `recognise` and `open`.

    Attributes:
        paths: a path, a pattern (`data/velocity_*.nc`) or a list of both, whose order counts; for Zarr stores also
            URLs.
        dataset: the identifier; by default the name that the archive gives itself, else that of its single file, or
            of the folder of several.
        license: recorded with the data, where the archive does not state one.
        references: recorded with the data, where the archive does not state any.
        absent: what becomes of values that are not there: of chunks that were never written, holes of a download, files
            that a virtual array refers to. They are refused, become missing, or are the archive's fill value.
    """

    paths: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
    dataset: str = ""
    license: str = ""
    references: str = ""
    absent: AbsentPolicy = "error"

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        # Arrays are opened deep within each format; what to do where values are absent reaches them by the context.
        if "open" in cls.__dict__:
            setattr(cls, "open", _with_policy(cls.__dict__["open"]))  # noqa: B010  # a method cannot be assigned

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """What this format takes an archive for; None if it is none of its own."""
        return None

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads no field."""
        raise NotImplementedError

    def files(self) -> tuple[Path, ...]:
        """The places, for formats that can only read files on this machine.

        Raises:
            MissingFileError: as for `places`.
            DataError: as for `places`, or if one is on a server.
        """
        places = self.places()
        if remote := [place for place in places if isinstance(place, Url)]:
            raise DataError(
                f"{remote[0]}: this format is read from files on this machine only; fetch it first. The Zarr stores"
                " of cf, weatherbench, credit, anemoi and pdearena can be read from servers"
            )
        return tuple(place for place in places if isinstance(place, Path))

    def places(self) -> tuple[Path | Url, ...]:
        """The existing files and the URLs, in the order of the list.

        What matches a pattern is sorted by name with numbers in order (`v_2` before `v_10`).

        Raises:
            MissingFileError: if a path, or a match of a pattern, does not exist.
            DataError: if two entries stand for the same file.
        """
        found = [file for entry in self.paths for file in _expand(entry)]
        twice = sorted({str(file) for file in found if found.count(file) > 1})
        if twice:
            raise DataError(f"paths: {', '.join(twice)} named more than once")
        return tuple(found)

    def identifier(self, own: str = "") -> str:
        """The dataset's identifier: as configured, else `own` (the archive's name for itself), else by the paths."""
        files = self.places()
        return self.dataset or own or (files[0].stem if len(files) == 1 else _absolute(files[0]).parent.name)


def _absolute(place: Path | Url) -> Path | Url:
    return place.resolve() if isinstance(place, Path) else place


def _natural(path: Path | Url) -> list[str | int]:
    return [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", str(path))]


def _expand(entry: str) -> list[Path | Url]:
    path = locate(entry)
    if isinstance(path, Url):
        if glob.has_magic(entry):
            raise DataError(f"{entry}: patterns work for files on this machine only; list the URLs")
        return [path]
    if path.exists():  # a name with brackets is a file before it is a pattern
        return [path]
    if glob.has_magic(entry):
        matches: list[Path | Url] = [Path(match) for match in glob.glob(str(path), recursive=True)]
        if matches:
            return sorted(matches, key=_natural)
        raise MissingFileError(f"{entry}: no file matches this pattern{_neighbours(path)}")
    raise missing(path)


def missing(path: Path) -> MissingFileError:
    """The error for a path that does not exist; it names similar entries of the folder."""
    return MissingFileError(f"{path}: no such file{_neighbours(path)}")


def _neighbours(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {folder} either"
    names = sorted(entry.name for entry in folder.iterdir())
    similar = difflib.get_close_matches(path.name, names, n=3, cutoff=0.6)
    if similar:
        return f"; did you mean {' or '.join(similar)}?"
    return f"; {folder} holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""
