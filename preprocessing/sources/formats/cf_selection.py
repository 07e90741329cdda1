"""Selection: which values along dimensions that are no axes a configuration takes, such as one member or version."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.sources.arrays.array_reader import ArrayReader
from pelagos.preprocessing.sources.arrays.first_present import FirstPresent
from pelagos.preprocessing.sources.arrays.grib_file import Choice, matches

Selection = Mapping[str, Choice | tuple[Choice, ...]]


@dataclass(frozen=True)
class Versions:
    """Positions along a dimension of versions, the first of which that has a value counts."""

    positions: tuple[int, ...]

    def of(self, reader: ArrayReader, axis: int) -> ArrayReader:
        """The merged versions of an array."""
        return FirstPresent(reader, axis, self.positions)


Selected = int | Versions


def select(
    path: Path | Url, ds: xr.Dataset, selection: Selection, axes: Mapping[str, Any]
) -> dict[str, Selected]:
    """The position that is selected along each dimension; several of `expver`, which are merged.

    Raises:
        ConfigError: a dimension or a value is not in the file, or a dimension is an axis.
    """
    found: dict[str, Selected] = {}
    for dim, choice in selection.items():
        if dim not in ds.sizes and dim in ds.variables and ds.variables[dim].ndim == 0:
            _position(path, ds, dim, choice if not isinstance(choice, tuple) else choice[0])
            continue
        if dim not in ds.sizes:
            others = ", ".join(str(one) for one in ds.sizes if one not in axes) or "none"
            raise ConfigError(
                f"select.{dim}: {path} has no dimension {dim}; those that are no axes: {others}"
            )
        if dim in axes:
            raise ConfigError(
                f"select.{dim}: in {path} this is the axis {axes[dim]}; levels and subset take parts of axes"
            )
        if not isinstance(choice, tuple):
            found[dim] = _position(path, ds, dim, choice)
        elif dim == "expver":
            found[dim] = Versions(tuple(_position(path, ds, dim, one) for one in choice))
        else:
            raise ConfigError(f"select.{dim}: give one value; only versions (expver) are merged")
    return found


def _position(path: Path | Url, ds: xr.Dataset, dim: str, choice: Choice) -> int:
    count = ds.sizes.get(dim, 1)
    values = np.atleast_1d(ds.variables[dim].values) if dim in ds.variables else np.arange(count)
    for position, value in enumerate(values.tolist()):
        if matches(value, choice):
            return position
    listed = ", ".join(map(str, values[:10].tolist())) + (", ..." if len(values) > 10 else "")
    raise ConfigError(f"select.{dim}: {path} has no {choice}; it has {listed}")
