"""Glance and Finding: what recognises formats gets to see of a path, and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Container = Literal["hdf5", "mat5", "netcdf3", "grib", "torch", "npy", "zarr", "cases", "unknown"]
Sureness = Literal["certain", "likely", "possible"]


@dataclass(frozen=True)
class Glance:
    """What can be told of an archive without reading a field.

    Attributes:
        path: a file or store of it, the first of several; of a store on a server its name alone.
        paths: what the configuration's `paths` would be: the path, or a pattern.
        container: how its bytes are laid out.
        shapes: of its arrays, by key with slashes.
        types: of their elements, as NumPy writes them (`<f4`).
        attrs: of its root.
    """

    path: Path
    paths: str
    container: Container
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def rank(self, key: str) -> int:
        """Number of axes of an array; -1 where there is none of that key."""
        return len(self.shapes[key]) if key in self.shapes else -1

    def has(self, *keys: str) -> bool:
        """Whether there are arrays of all these keys."""
        return all(key in self.shapes for key in keys)

    def listed(self, *keys: str) -> str:
        """The arrays with their shapes, for the evidence."""
        return ", ".join(f"{key} {self.shapes[key]}" for key in keys if key in self.shapes)


@dataclass(frozen=True)
class Finding:
    """What a format says of a glance.

    Attributes:
        kind: of the source.
        sureness: how sure it is.
        evidence: what made it so.
        options: of the source, beside its kind and paths.
        ask: what remains to be told, by option.
    """

    kind: str
    sureness: Sureness
    evidence: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ask: Mapping[str, str] = field(default_factory=dict)
