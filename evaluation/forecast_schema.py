"""The data model of a forecast, and what it implies: sample dimensions, grid, score groups.

A forecast is an `xr.Dataset` of fields (*samples, lead_time, y, x) in physical units. Any other
dimension than lead_time, y and x is a sample dimension: trajectory, start, member. The truth has the
same dimensions and coordinates; its missing values are NaN. A *frame* has no lead time.
"""

from collections.abc import Hashable, Mapping

import numpy as np
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid, Sides

LEAD_TIME = "lead_time"
SPACE = ("y", "x")
BOUNDARIES = ("periodic", "wall", "open", "pole", "unknown")


def variable_names(dataset: xr.Dataset) -> tuple[str, ...]:
    """The variables in order."""
    return tuple(str(name) for name in dataset.data_vars)


def sample_dims(dataset: xr.Dataset | xr.DataArray) -> tuple[str, ...]:
    """All dimensions but lead_time, y and x (and those of scores and spectra), in order."""
    others = {LEAD_TIME, *SPACE, "time", "variable", "group", "wavenumber", "band"}
    return tuple(str(dim) for dim in dataset.dims if dim not in others)


def ordered_fields(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with every field ordered (*samples, [lead_time,] y, x).

    Raises DataError for a field without y or x.
    """
    for name in variable_names(dataset):
        if missing := [dim for dim in SPACE if dim not in dataset[name].dims]:
            raise DataError(f"field {name!r} has dimensions {dataset[name].dims}, without {missing}")
    last = (*((LEAD_TIME,) if LEAD_TIME in dataset.dims else ()), *SPACE)
    return dataset.transpose(..., *last)


def grid_of(dataset: xr.Dataset) -> Grid:
    """The grid that the coordinates y and x and the attributes grid and boundary_* describe."""
    kind = dataset.attrs.get("grid", "cartesian")
    if kind not in ("cartesian", "latlon"):
        raise DataError(f"attribute grid is {kind!r}; it must be 'cartesian' or 'latlon'")
    for axis in SPACE:
        if axis not in dataset.coords:
            raise DataError(f"the dataset has no coordinate {axis!r}")
    return Grid(
        kind=kind,
        y=np.asarray(dataset["y"].values, dtype=np.float64),
        x=np.asarray(dataset["x"].values, dtype=np.float64),
        boundary_y=_sides(dataset, "boundary_y"),
        boundary_x=_sides(dataset, "boundary_x"),
        units=str(dataset["y"].attrs.get("units", "1")),
    )


def _sides(dataset: xr.Dataset, attribute: str) -> Sides:
    value = str(dataset.attrs.get(attribute, "unknown,unknown"))
    parts = value.split(",")
    if len(parts) != 2 or not set(parts) <= set(BOUNDARIES):
        allowed = ", ".join(BOUNDARIES)
        raise DataError(f"attribute {attribute} is {value!r}; it must be 'low,high', each one of {allowed}")
    return parts[0], parts[1]  # type: ignore[return-value]  # checked against BOUNDARIES above


def group_by_variable(dataset: xr.Dataset) -> dict[str, str]:
    """Variable -> score group: its attribute `group`, or its own name where it has none."""
    return {name: str(dataset[name].attrs.get("group") or name) for name in variable_names(dataset)}


def variables_by_group(group_by_variable: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Group -> its variables, groups and variables in the order of the mapping.

    >>> variables_by_group({"velocity_x": "velocity", "density": "density", "velocity_y": "velocity"})
    {'velocity': ('velocity_x', 'velocity_y'), 'density': ('density',)}
    """
    groups: dict[str, tuple[str, ...]] = {}
    for variable, group in group_by_variable.items():
        groups[group] = (*groups.get(group, ()), variable)
    return groups


def normalised(dataset: xr.Dataset, mean: Mapping[str, float], std: Mapping[str, float]) -> xr.Dataset:
    """(field − mean) / std by variable, for scores of different fields on one footing."""
    scaled = {name: (dataset[name] - mean[name]) / std[name] for name in variable_names(dataset)}
    attrs = {name: dataset[name].attrs | {"units": "1"} for name in scaled}
    return dataset.assign({name: field.assign_attrs(attrs[name]) for name, field in scaled.items()})


def check_pair(forecast: xr.Dataset, truth: xr.Dataset) -> None:
    """Check that the forecast can be compared with the truth point by point.

    The forecast may have more dimensions than the truth (member), never fewer. Raises DataError that
    names the variable or coordinate and what differs.
    """
    for name in variable_names(forecast):
        if name not in truth.data_vars:
            raise DataError(f"the forecast has {name!r}, the truth only {', '.join(variable_names(truth))}")
        if lacking := [dim for dim in truth[name].dims if dim not in forecast[name].dims]:
            raise DataError(f"the forecast of {name!r} lacks the dimensions {lacking} of the truth")
        if LEAD_TIME not in truth[name].dims:
            raise DataError(f"the truth of {name!r} has no dimension {LEAD_TIME!r}: {truth[name].dims}")
    for dim in forecast.dims:
        if dim not in forecast.indexes:
            raise DataError(f"the forecast's dimension {dim!r} has no coordinate")
    for dim in truth.dims:
        _check_coordinate(forecast, truth, dim)
    lead_time = truth[LEAD_TIME].values
    if lead_time[0] <= 0 or np.any(np.diff(lead_time) <= 0):
        raise DataError(f"lead_time must be positive and increase; it starts {lead_time[:4].tolist()}")


def _check_coordinate(forecast: xr.Dataset, truth: xr.Dataset, dim: Hashable) -> None:
    if dim not in truth.indexes:
        raise DataError(f"the truth's dimension {dim!r} has no coordinate")
    ours, theirs = forecast.indexes[dim].values, truth.indexes[dim].values
    if len(ours) != len(theirs):
        raise DataError(f"{dim!r} has {len(ours)} entries in the forecast and {len(theirs)} in the truth")
    # Axes that went through float32, or 3 * 0.1, are the same axes.
    numbers = ours.dtype.kind == theirs.dtype.kind == "f"
    if np.any(differ := ~np.isclose(ours, theirs, rtol=1e-5) if numbers else ours != theirs):
        first = int(np.argmax(differ))
        found = f"{ours[first]} and {theirs[first]}"
        raise DataError(f"{dim!r} of forecast and truth differ from position {first} on: {found}")
