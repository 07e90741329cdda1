"""ArchiveListing and Finding: what a format is shown of an archive, and what it takes it for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Container = Literal["hdf5", "mat5", "netcdf3", "grib", "torch", "npz", "npy", "zarr", "cases", "unknown"]
Confidence = Literal["certain", "likely", "possible"]


@dataclass(frozen=True)
class ArchiveListing:
    """What can be told of an archive without reading a field.

    Attributes:
        path: of the archive, or the first of its files; for a store on a server only its name.
        paths: what the configuration's `paths` would be: the path, or a pattern.
        container: how its bytes are laid out.
        shapes: shapes of its arrays, by key; those in groups with slashes.
        types: types of their elements, as NumPy writes them (`<f4`).
        attrs: attributes of its root.
        scales: keys of those HDF5 datasets that are dimensions of others, as in every netCDF-4 file.
    """

    path: Path
    paths: str
    container: Container
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    scales: tuple[str, ...] = ()

    def rank(self, key: str) -> int:
        """Number of axes of an array; -1 where there is no array of that key."""
        return len(self.shapes[key]) if key in self.shapes else -1

    def has(self, *keys: str) -> bool:
        """Whether there are arrays of all these keys."""
        return all(key in self.shapes for key in keys)

    def describe(self, *keys: str) -> str:
        """Those of the arrays that there are, with their shapes, in words."""
        return ", ".join(f"{key} {self.shapes[key]}" for key in keys if key in self.shapes)


@dataclass(frozen=True)
class Finding:
    """What a format takes an archive for.

    Attributes:
        kind: the source's `kind`.
        confidence: how sure the format is.
        evidence: what it goes by, in words.
        options: options of the source besides kind and paths.
        ask: a question for each option that the user has to answer.
    """

    kind: str
    confidence: Confidence
    evidence: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ask: Mapping[str, str] = field(default_factory=dict)
