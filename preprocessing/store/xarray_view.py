"""Xarray view: a store in the one convention again, as its source was before it was built."""

import json
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from pelagos.preprocessing.store.coding import Coding
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.store.zarr_server import zarr_store
from pelagos.preprocessing.transform import Transform, physical_type
from pelagos.preprocessing.variables import Variable


def xarray_view(store: Store) -> xr.Dataset:
    """All fields in physical values, and all scalars, in the one convention; nothing is read until it is used."""
    # Durations stay numbers in their own unit; xarray would make nanoseconds of them.
    raw = xr.open_zarr(zarr_store(store.path), chunks=None, decode_timedelta=False)
    for array, reader in (("state", store.frames), ("static", store.static_frames)):
        if reader.coding is not None:
            raw[array] = _decoded(raw[array], reader.coding)
    arrays = _unstacked(raw, "state", "channel", store.variables)
    if store.static_variables:
        arrays |= _unstacked(raw, "static", "static_channel", store.static_variables)
    for number, name in enumerate(store.params):
        scalar = raw["params"].isel(param=number).drop_vars("param")
        arrays[name] = scalar.assign_attrs(role="scalar", units="1")
    ds = xr.Dataset(arrays).assign_coords({name: raw[name] for name in ("trajectory", "time", "y", "x")})
    if "level" in ds.coords:
        ds["level"].attrs |= dict(store.level)
    if store.present is not None:
        ds = ds.assign_coords(present=(("trajectory", "time"), store.present))
    attrs = {
        "dataset": store.dataset,
        "source_format": "pelagos",
        **store.grid.to_attrs(),
        "sources": json.dumps([str(store.path)]),
    }
    kept = {name: raw.attrs[name] for name in ("title", "license", "references") if name in raw.attrs}
    return ds.assign_attrs(attrs | kept)


def _unstacked(
    raw: xr.Dataset, array: str, dim: str, variables: tuple[Variable, ...]
) -> dict[str, xr.DataArray]:
    """One array for each name; the channels `name@level` of a name become its levels."""
    unstacked = {}
    stacked = raw[array].drop_vars(dim, errors="ignore")
    # Those of the stacked array are of no single variable.
    stacked.attrs = {}
    if "common" in stacked.dims:
        # Static fields that all trajectories share have an axis of one entry in place of the trajectories.
        stacked = stacked.isel(common=0)
    for name in dict.fromkeys(variable.name for variable in variables):
        numbers = [number for number, variable in enumerate(variables) if variable.name == name]
        variable = variables[numbers[0]]
        if variable.level is None:
            values = stacked.isel({dim: numbers[0]})
        else:
            levels = np.array([variables[number].level for number in numbers])
            values = stacked.isel({dim: numbers}).rename({dim: "level"}).assign_coords(level=levels)
        if variable.transform is not None:
            # Undone where values are read: undone here, it would take reading the whole store.
            lazy = indexing.LazilyIndexedArray(_Inverse(values.variable, variable.transform))
            values = values.copy(data=lazy)
        texts = {"role": variable.role, "units": variable.units, "group": variable.group}
        unstacked[name] = values.assign_attrs(
            {key: text for key, text in (texts | {"long_name": variable.long_name}).items() if text}
        )
    return unstacked


def _decoded(stacked: xr.DataArray, coding: Coding) -> xr.DataArray:
    return stacked.copy(data=indexing.LazilyIndexedArray(_Decoded(stacked.variable, coding)))


class _Decoded(BackendArray):
    """A stacked array (..., C, H, W) in 16 bits, as the values that it keeps."""

    def __init__(self, stored: xr.Variable, coding: Coding) -> None:
        self.stored, self.coding = stored, coding
        self.shape, self.dtype = stored.shape, np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: Any) -> NDArray[Any]:
        channels = np.arange(self.shape[-3])[key[-3]]
        trailing = sum(not isinstance(one, int | np.integer) for one in key[-2:])
        column = (*channels.shape, *(1,) * trailing)
        scale, offset = (part[channels].reshape(column) for part in (self.coding.scale, self.coding.offset))
        return np.asarray(self.stored[key].values.astype(np.float32) * scale + offset)


class _Inverse(BackendArray):
    """An array whose transform is undone on the part that is read."""

    def __init__(self, stored: xr.Variable, transform: Transform) -> None:
        self.stored, self.transform = stored, transform
        self.shape, self.dtype = stored.shape, physical_type(transform)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: Any) -> NDArray[Any]:
        return self.transform.inverse(self.stored[key].values).astype(self.dtype)
