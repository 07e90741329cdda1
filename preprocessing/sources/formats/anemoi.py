"""Anemoi datasets (ecmwf/anemoi-datasets, layouts "gridded" and "trajectories"): all variables in one Zarr array.

`data` (time, variable, ensemble, cell) comes with `dates`, `latitudes` and `longitudes` (cell). The root's attributes
name the variables (`2t`, `t_500`: temperature at 500 hPa) and give the shape of the grid. Members of an ensemble become
trajectories. Forecasts, in the layout "trajectories", have `data` (base date, variable, ensemble, step, cell) with
`base_dates` and `steps`: each member of each forecast is a trajectory over hours. Frames at `missing_dates`, stored
as NaN, are absent. The statistics of a store cover only some of its dates (80 per cent by default) and are not read.
Stores are read with zarr-python 3 directly, since anemoi-datasets needs zarr 2.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.arrays import zarr_array
from pelagos.preprocessing.sources.arrays.array_reader import ArrayView, Index, take_block
from pelagos.preprocessing.sources.arrays.lazy_array import lazy_variable
from pelagos.preprocessing.sources.arrays.zarr_array import ZarrArray
from pelagos.preprocessing.sources.convention import FieldRole
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.gridded import beyond_edges
from pelagos.preprocessing.sources.formats.longitude_axis import LongitudeAxis


@dataclass(frozen=True)
class _GriddedVariables(ArrayView):
    """Some variables of `data` as (trajectory, level, time, y, x): cells arranged in rows and columns.

    Attributes:
        reader: (time, variable, ensemble, cell), or for forecasts (base date, variable, ensemble, step, cell).
        positions: the positions of the variables in `data`, one for each level.
        grid: numbers of rows and columns.
    """

    reader: ZarrArray
    positions: tuple[int, ...]
    grid: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        num, times = _sizes(self.reader)
        return num, len(self.positions), times, *self.grid

    def read(self, index: Index) -> NDArray[Any]:
        trajectory, level, time, y, x = index
        rows = np.atleast_1d(np.arange(self.shape[0])[trajectory])
        positions = np.atleast_1d(np.array(self.positions)[level])
        wanted = take_block(np.broadcast_to(False, self.shape[2:]), (time, y, x)).shape
        out = np.empty((len(rows), len(positions), *wanted), self.dtype)
        for number, row in enumerate(rows.tolist()):
            out[number] = self._fields(row, positions, time)[..., y, :][..., x]
        return out[tuple(0 if isinstance(one, int) else slice(None) for one in (trajectory, level))]

    def _fields(self, row: int, positions: NDArray[np.int64], time: Any) -> NDArray[Any]:
        """All levels at once, since every chunk holds all variables."""
        if len(self.reader.shape) == 5:
            date, member = divmod(row, self.reader.shape[2])
            cells = self.reader.read((date, positions, member, time, slice(None)))
        else:
            cells = self.reader.read((time, positions, row, slice(None)))
            cells = cells if isinstance(time, int) else cells.swapaxes(0, 1)
        return cells.reshape(*cells.shape[:-1], *self.grid)


def _sizes(data: ZarrArray) -> tuple[int, int]:
    """Number of trajectories (members, or members times base dates for forecasts) and number of times."""
    if len(data.shape) == 5:
        return data.shape[0] * data.shape[2], data.shape[3]
    return data.shape[2], data.shape[0]


class Anemoi(FileSource):
    """Reads an Anemoi dataset of analyses or of forecasts.

    Attributes:
        kind: "anemoi".
        variables: fields to read, by their new names and without their levels; all if empty.
        rename: new names, by the names that fields would otherwise have.
    """

    kind: Literal["anemoi"] = "anemoi"
    variables: tuple[str, ...] = ()
    rename: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Zarr groups with `data`, `dates` or `base_dates`, and the names of variables."""
        if listing.container != "zarr" or not listing.has("data", "latitudes", "longitudes"):
            return None
        if "variables" not in listing.attrs or not {"dates", "base_dates"} & set(listing.shapes):
            return None
        names = ", ".join(map(str, listing.attrs["variables"][:5]))
        listed = listing.describe("data", "dates", "base_dates", "steps", "latitudes")
        evidence = f"a Zarr group with {listed} and variables {names}"
        return Finding("anemoi", "certain", evidence)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads dates and positions, no field.

        Raises:
            DataError: the cells form no grid of latitudes and longitudes, there are several stores, or the layout
                is another one.
        """
        if len(self.places()) > 1:
            raise DataError(
                f"paths: {len(self.places())} stores were given; an Anemoi dataset is a single one"
            )
        (path,) = self.places()
        group = zarr_array.open_group(path)
        facts = dict(group.attrs)
        data = zarr_array.array(path, group, "data")
        axes = _axes(path, facts)
        if len(data.shape) != len(axes) or data.shape[1] != len(facts.get("variables", ())):
            raise DataError(
                f"{data.name} has shape {data.shape}; ({', '.join(axes)}) with the variables"
                f" {', '.join(facts.get('variables', ()))} would be right"
            )
        grid, columns = _grid(path, group, facts)
        levels, plan = _fields(facts)
        times, labels, present = _times(path, group, facts, data)
        variables = dict(self._variables(plan, data, grid, levels, facts, present))
        ds = convention.assemble(
            variables,
            grid=grid,
            time=times,
            time_units="h",
            present=present,
            level=xr.Variable(("level",), levels, {"units": _level_units(facts)}) if levels else None,
            dataset=self.identifier(),
            source_format="anemoi",
            sources=self.places(),
            num_trajectories=len(present),
            license=self.license or str(facts.get("licence") or facts.get("license") or ""),
            references=self.references,
            attribution=str(facts.get("attribution") or ""),
        )
        ds = ds.assign_coords(trajectory=labels)
        if len(data.shape) == 5:  # the labels of forecasts begin with the dates of their starts
            starts = np.array([str(label).split()[0] for label in labels], "datetime64[ns]")
            ds = ds.assign_coords(start=("trajectory", starts))
        return convention.select(columns.cut(ds), self.variables)

    def _variables(
        self,
        plan: Mapping[str, Sequence[int]],
        data: ZarrArray,
        grid: Grid,
        levels: Sequence[float],
        facts: Mapping[str, Any],
        present: NDArray[np.bool_],
    ) -> Any:
        num, times = _sizes(data)
        sizes = {
            "trajectory": num,
            "time": times,
            "level": len(levels),
            "y": grid.shape[0],
            "x": grid.shape[1],
        }
        for own, positions in plan.items():
            key = facts["variables"][positions[0]]
            role, units = _role(key, facts), str(_metadata(key, facts).get("units") or "1")
            reader = _GriddedVariables(data, tuple(positions), grid.shape)
            name = self.rename.get(own, own)
            attrs = convention.attrs(name, role, units=units)
            if role == "static":
                # Stored at every time; read where there is a frame, since missing dates are NaN.
                row, time = np.argwhere(present)[0].tolist() if present.any() else (0, 0)
                yield name, lazy_variable(("y", "x"), [reader], (row, 0, time, "y", "x"), sizes, attrs)
                continue
            at_levels = own != key
            dims = convention.LEVEL_DIMS if at_levels else convention.TIME_DIMS
            layout = ("trajectory", "level" if at_levels else 0, "time", "y", "x")
            yield name, lazy_variable(dims, [reader], layout, sizes, attrs)


def _axes(path: Path | Url, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The axes of `data` in the store's layout."""
    layout = str(facts.get("layout", "gridded"))
    if layout == "trajectories":
        return "base date", "variable", "ensemble", "step", "cell"
    if layout != "gridded":
        raise DataError(f"{path}: its layout is {layout}; gridded or trajectories would be right")
    return "time", "variable", "ensemble", "cell"


def _times(
    path: Path | Url, group: Any, facts: Mapping[str, Any], data: ZarrArray
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """(T,) dates, or hours for forecasts; (N,) names of trajectories; (N, T) which frames are present."""
    (num, length), forecasts = _sizes(data), len(data.shape) == 5
    key = "base_dates" if forecasts else "dates"
    dates = np.asarray(zarr_array.array(path, group, key).read((slice(None),)))
    there = ~np.isin(dates, np.array(facts.get("missing_dates") or (), "datetime64[s]"))
    if not forecasts:
        return dates, np.arange(num), np.broadcast_to(there, (num, length))
    steps = np.asarray(zarr_array.array(path, group, "steps").read((slice(None),)))
    if steps.dtype.kind != "m":
        raise DataError(f"{path}: its steps are {steps.dtype}; timedelta64 would be right")
    members = data.shape[2]
    starts, present = np.datetime_as_string(dates, unit="m"), np.repeat(there, members)[:, None]
    labels = [f"{start} {member}" for start in starts for member in range(members)] if members > 1 else starts
    return steps / np.timedelta64(1, "h"), np.array(labels), np.broadcast_to(present, (num, length))


def _metadata(key: str, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    found = facts.get("variables_metadata", {}).get(key, {})
    return found if isinstance(found, dict) else {}


def _role(key: str, facts: Mapping[str, Any]) -> FieldRole:
    metadata = _metadata(key, facts)
    if key in facts.get("constant_fields", ()) or metadata.get("constant_in_time"):
        return "static"
    return "forcing" if metadata.get("computed_forcing") else "prognostic"


def _fields(facts: Mapping[str, Any]) -> tuple[list[float], dict[str, list[int]]]:
    """The levels, and the positions of each field in `data`.

    Fields at exactly the levels of the field with most levels get an axis of levels; variables at other levels
    stay apart under the store's names (`q_850`).
    """
    names = facts["variables"]
    columns: dict[str, dict[float, int]] = {}
    for position, key in enumerate(names):
        # A number at the end of a name is no proof of a level: the metadata of MARS decide, where there are any.
        match = re.fullmatch(r"(.+)_(\d+)", key)
        mars = _metadata(key, facts).get("mars", {})
        if match and mars.get("levtype", "pl") in ("pl", "ml") and _role(key, facts) != "static":
            columns.setdefault(match[1], {})[float(match[2])] = position
    levels: list[float] = []
    for column in columns.values():
        levels = sorted(column) if len(column) > len(levels) else levels
    whole = {
        name: [column[level] for level in levels]
        for name, column in columns.items()
        if sorted(column) == levels
    }
    taken = {position for positions in whole.values() for position in positions}
    return levels, whole | {key: [i] for i, key in enumerate(names) if i not in taken}


def _level_units(facts: Mapping[str, Any]) -> str:
    """Levels are pressures unless the store says that they are model levels."""
    kinds = {_metadata(key, facts).get("mars", {}).get("levtype") for key in facts["variables"]}
    return "1" if "ml" in kinds else "hPa"


def _grid(path: Path | Url, group: Any, facts: Mapping[str, Any]) -> tuple[Grid, LongitudeAxis]:
    shape = tuple(facts.get("field_shape") or ())
    y, x = (
        np.asarray(zarr_array.array(path, group, key).read((slice(None),)))
        for key in ("latitudes", "longitudes")
    )
    if len(shape) != 2 or shape[0] * shape[1] != len(y):
        raise DataError(
            f"{path}: its {len(y)} cells do not form rows and columns (field_shape {list(shape)})"
        )
    # Cells run along the rows of the grid, west to east, if they are on one at all.
    rows, columns = y.reshape(shape), x.reshape(shape)
    if (rows != rows[:, :1]).any() or (columns != columns[:1]).any():
        raise DataError(
            f"{path}: its cells lie on a projected or rotated grid; one of latitudes and longitudes would be right"
        )
    y, x = rows[:, 0].astype(np.float64), columns[0].astype(np.float64)
    axis = LongitudeAxis.of(path, x)
    sides = beyond_edges(y, axis.values[axis.kept])
    if axis.repeats:
        sides = sides[0], ("periodic", "periodic")
    return Grid("latlon", y, axis.values, *sides, "degrees"), axis
