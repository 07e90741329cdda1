"""Plain dataset: an `xr.Dataset` that anyone may have, brought to the one convention by what a model knows.

The model knows the names, units and roles of its variables and the kind of its grid, so that these need not be said.
"""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.pipeline.runs.model_folder import Domain
from pelagos.pipeline.runs.remarks import say
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.grid import Grid, Sides
from pelagos.preprocessing.quantities import dates
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.variables import Role

_DIMS = {
    "y": ("y", "lat", "latitude"),
    "x": ("x", "lon", "longitude"),
    "time": ("time", "valid_time"),
    "level": ("level", "pressure_level", "isobaricInhPa", "plev", "height"),
    "trajectory": ("trajectory",),
    "member": ("member", "number", "realization"),
}
"""What each dimension is called, here and elsewhere."""
_ORDER = ("trajectory", "time", "level", "y", "x")


def in_convention(ds: xr.Dataset, domain: Domain, dataset: str) -> xr.Dataset:
    """The fields and scalars of a dataset that a model knows, in the one convention.

    A dataset without trajectories is one trajectory, one without times a frame. Members become trajectories, one after
    the other.

    Args:
        ds: fields by the names that the model knows.
        domain: what the model knows.
        dataset: its name for the model.

    Raises:
        DataError: a dimension has no coordinate, or a field has dimensions that mean nothing here.
    """
    if "source_format" in ds.attrs:
        return ds  # `convention.assemble` or a store's `xarray_view` made it
    ds = _with_samples(_renamed(ds))
    grid = _grid(ds, domain)
    roles = {one.name: one.role for one in domain.inputs if one.name in ds.variables}
    units = {one.name: one.units for one in domain.inputs}
    fields = {name: _field(ds[name], name, role, units[name]) for name, role in roles.items()}
    scalars = {name: _scalar(ds[name]) for name in domain.scalars if name in ds.variables}
    time, time_units = _time(ds, domain)
    return convention.assemble(
        {**fields, **scalars},
        grid=grid,
        time=time,
        dataset=dataset,
        source_format="xarray",
        sources=(),
        num_trajectories=ds.sizes["trajectory"],
        time_units=time_units,
        level=ds["level"].variable.to_base_variable().astype(np.float64) if "level" in ds.dims else None,
    )


def member_count(ds: xr.Dataset) -> int:
    """How many members a dataset has, by whatever name; 0 where it has no such dimension."""
    return next((ds.sizes[name] for name in _DIMS["member"] if name in ds.dims), 0)


def _renamed(ds: xr.Dataset) -> xr.Dataset:
    found = {
        name: standard
        for standard, names in _DIMS.items()
        for name in names
        if name in ds.variables and name != standard and standard not in ds.variables
    }
    ds = ds.rename(found)
    for axis in ("y", "x"):
        if axis not in ds.coords or ds[axis].ndim != 1:
            raise DataError(
                f"the dataset has no one-dimensional coordinate {axis} ({', '.join(_DIMS[axis][1:])})"
            )
    return ds


def _with_samples(ds: xr.Dataset) -> xr.Dataset:
    """The dataset with trajectories, into which members are stacked, and times."""
    for dim in ("trajectory", "time"):
        if dim not in ds.dims:
            # A scalar coordinate, as `isel(time=-1)` leaves it, keeps its value.
            ds = ds.expand_dims(dim) if dim in ds.coords else ds.expand_dims({dim: [0]})
    if "member" in ds.dims:
        ds = ds.stack(sample=("trajectory", "member")).reset_index("sample", drop=True)
        ds = ds.rename(sample="trajectory")
    return ds.assign_coords(trajectory=np.arange(ds.sizes["trajectory"], dtype=np.int64))


def _grid(ds: xr.Dataset, domain: Domain) -> Grid:
    latlon = (
        domain.grid.kind == "latlon"
        if domain.grid
        else str(ds["y"].attrs.get("units", "")) == "degrees_north"
    )
    sides: dict[str, Sides] = {}
    for axis in ("y", "x"):
        periodic = domain.grid is not None and getattr(domain.grid, axis).periodic
        sides[axis] = ("periodic", "periodic") if periodic else ("unknown", "unknown")
    return Grid(
        kind="latlon" if latlon else "cartesian",
        y=ds["y"].values.astype(np.float64),
        x=ds["x"].values.astype(np.float64),
        boundary_y=sides["y"],
        boundary_x=sides["x"],
        units=str(ds["x"].attrs.get("units", domain.grid.units if domain.grid else "1")),
    )


def _field(field: xr.DataArray, name: str, role: Role, units: str) -> xr.Variable:
    if unknown := [str(dim) for dim in field.dims if dim not in _ORDER]:
        raise DataError(
            f"{name} has the dimension {unknown[0]}, which means nothing here: select one of its entries"
        )
    if "units" not in field.attrs:
        say(f"note: {name} has no units; they are taken to be {units}, as the model knows it")
    attrs = convention.attrs(name, role) | {"units": str(field.attrs.get("units", units))}
    if role == "static" and "time" in field.dims:
        field = field.isel(time=0)
    dims = [dim for dim in _ORDER if dim in field.dims]
    values = field.transpose(*dims).variable.to_base_variable()
    # Integers and half precision are exact in single precision.
    values = values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)
    return values._replace(attrs=attrs)


def _scalar(values: xr.DataArray) -> xr.Variable:
    if "time" in values.dims:
        values = values.isel(time=0)
    return (
        values.variable.to_base_variable().astype(np.float64)._replace(attrs={"role": "scalar", "units": "1"})
    )


def _time(ds: xr.Dataset, domain: Domain) -> tuple[NDArray[Any], str]:
    values = ds["time"].values
    if dates.is_dated(values):
        return values, ""
    if values.dtype.kind == "m":
        return (values / np.timedelta64(1, "s")).astype(np.float64), "s"
    known = domain.time_units or "1"
    if "units" not in ds["time"].attrs and len(values) > 1:
        say(f"note: the times have no units; they are taken to be in {known}, as the model counts them")
    return values.astype(np.float64), str(ds["time"].attrs.get("units", known))
