"""Files: what the paths, patterns and lists of a source's configuration stand for."""

import difflib
import glob
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import DataError, MissingFileError
from pelagos.preprocessing.location import Url, locate
from pelagos.preprocessing.sources.finding import Finding, Glance


def _listed(value: object) -> object:
    many = (value,) if isinstance(value, str | Path) else value
    if not isinstance(many, list | tuple):
        return value
    for one in many:
        locate(str(one))  # raises where it could be no place
    return tuple(str(one) for one in many)


class Files(Config):
    """The part of its configuration that all sources share.

    Attributes:
        paths: a path, a pattern (`data/velocity_*.nc`) or a list of both; of Zarr stores also URLs.
        dataset: the identifier; where empty the archive's own name, else the file's, or that of the
            folder of several files.
        license: recorded with the data where the archive does not state it.
        references: likewise.
    """

    paths: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
    dataset: str = ""
    license: str = ""
    references: str = ""

    @classmethod
    def recognise(cls, glance: Glance) -> Finding | None:
        """What this format takes an archive for; None if it cannot be one of its own."""
        return None

    def files(self) -> tuple[Path, ...]:
        """The same for formats that need the files on this machine's disks.

        Raises:
            MissingFileError, DataError: as for `places`; a place is on a server.
        """
        places = self.places()
        if remote := [place for place in places if isinstance(place, Url)]:
            raise DataError(
                f"{remote[0]}: of this format files on this machine alone are read, fetch it first; from "
                "servers go the Zarr stores of cf, weatherbench, credit, anemoi and pdearena"
            )
        return tuple(place for place in places if isinstance(place, Path))

    def places(self) -> tuple[Path | Url, ...]:
        """The existing files and all that is on servers, by name, with numbers in order (`v_2` before `v_10`).

        Raises:
            MissingFileError: if a path, or a match of a pattern, does not exist.
            DataError: if two entries stand for the same file.
        """
        found = [file for entry in self.paths for file in _expand(entry)]
        twice = sorted({str(file) for file in found if found.count(file) > 1})
        if twice:
            raise DataError(f"paths: {', '.join(twice)} named more than once")
        return tuple(sorted(found, key=_natural))

    def identifier(self, own: str = "") -> str:
        """The dataset's identifier: as configured, else `own`, the archive's, else from the paths."""
        files = self.places()
        return self.dataset or own or (files[0].stem if len(files) == 1 else _absolute(files[0]).parent.name)


def _absolute(place: Path | Url) -> Path | Url:
    return place.resolve() if isinstance(place, Path) else place


def _natural(path: Path | Url) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def _expand(entry: str) -> list[Path | Url]:
    path = locate(entry)
    if isinstance(path, Url):
        if glob.has_magic(entry):
            raise DataError(f"{entry}: patterns are of this machine's files; list the URLs")
        return [path]
    if path.exists():
        return [path]
    if glob.has_magic(entry):
        matches: list[Path | Url] = [Path(match) for match in glob.glob(str(path), recursive=True)]
        if matches:
            return matches
        raise MissingFileError(f"{entry}: no file matches this pattern{_neighbours(path)}")
    raise missing(path)


def missing(path: Path) -> MissingFileError:
    """The error for a path that does not exist, naming the folder's similar entries."""
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
