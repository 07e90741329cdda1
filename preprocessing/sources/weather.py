"""Weather archives that are CF in form and have habits of their own: WeatherBench 2, CREDIT, GRIB."""

from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.cf import Gridded
from pelagos.preprocessing.sources.glance import Finding, Glance

_ERA5 = ("geopotential", "temperature", "2m_temperature", "u_component_of_wind", "10m_u_component_of_wind")
_CREDIT = ("SP", "t2m", "U500", "T500", "Z500", "Q500", "V500", "tsi", "VAR_2T", "Z_GDS4_SFC")
Role = Literal["prognostic", "forcing", "diagnostic"]

_HYBRID = 137  # levels of ECMWF's model, of which CREDIT keeps some


def _known_in_advance() -> dict[str, Role]:
    return {"tsi": "forcing", "COSZEN": "forcing"}


class WeatherBench(Gridded):
    """Reads Zarr stores of WeatherBench 2 (arXiv:2308.15560) and ARCO-ERA5, local copies or parts of them.

    Coarse stores have axes (time, [level], longitude, latitude) with latitudes ascending, ARCO-ERA5 has
    (time, level, latitude, longitude), descending; both are read by name. Variables keep their own names,
    since several share a standard name. The times of ARCO-ERA5 begin in 1900 and are missing outside
    the attributes `valid_time_start` and `valid_time_stop`, to which they are cut. Forecasts have a
    trajectory a start. `standard_names` and the other options are those of `cf`.
    """

    kind: Literal["weatherbench"] = "weatherbench"
    standard_names: bool = False

    @classmethod
    def recognise(cls, glance: Glance) -> Finding | None:
        """Zarr groups with ERA5's long names on latitudes and longitudes."""
        found = [name for name in _ERA5 if name in glance.shapes]
        if glance.container != "zarr" or not found or not glance.has("latitude", "longitude"):
            return None
        evidence = f"a Zarr group with ERA5's long names: {glance.listed(*found[:2])}"
        return Finding("weatherbench", "certain" if len(found) > 1 else "likely", evidence)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates, no field.

        Raises:
            DataError: as for `cf`, and for climatologies, which have no times.
        """
        ds = super().open()
        stores = [_attributes(path) for path in self.files()]
        starts, stops = (
            [str(one[key]) for one in stores if key in one] for key in ("valid_time_start", "valid_time_stop")
        )
        if ds.time.dtype.kind != "M" or not (starts or stops):
            return ds
        # A date alone stands for its whole day.
        stop = np.datetime64(max(stops)) + np.timedelta64(1, "D") if stops else None
        inside = np.ones(ds.sizes["time"], bool)
        if starts:
            inside &= ds.time.values >= np.datetime64(min(starts))
        if stop is not None:
            inside &= ds.time.values < stop
        if not inside.any():
            raise DataError(f"{self.files()[0]}: no time is within its valid ones, {starts} to {stops}")
        first, last = np.flatnonzero(inside)[[0, -1]]
        return ds.isel(time=slice(int(first), int(last) + 1))


class CREDIT(Gridded):
    """Reads the yearly Zarr stores and netCDF files of CREDIT (NCAR/miles-credit).

    Files of one group (upper air, surface, forcing, static) and of several years are given together:
    years are joined, groups merged. Variables keep their own names. Files of means and standard
    deviations are no fields and are refused.

    Attributes:
        roles: of variables that are not predicted from themselves; `tsi` and the cosine of the solar
            zenith angle are known in advance.
    """

    kind: Literal["credit"] = "credit"
    standard_names: bool = False
    roles: dict[str, Role] = Field(default_factory=_known_in_advance)

    @classmethod
    def recognise(cls, glance: Glance) -> Finding | None:
        """Fields of CREDIT's names over times."""
        found = [name for name in _CREDIT if glance.rank(name) >= 3]
        if glance.container not in ("hdf5", "netcdf3", "zarr") or "time" not in glance.shapes:
            return None
        upper = [name for name in ("U", "V", "T", "Q") if glance.rank(name) == 4]
        if len(found) < 2 and len(upper) < 3:
            return None
        evidence = f"times and fields of CREDIT's names: {glance.listed(*found[:3], *upper[:3])}"
        return Finding("credit", "certain" if found and upper else "likely", evidence)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates, no field.

        Raises:
            DataError: as for `cf`.
        """
        ds = super().open()
        named = {name: role for name, role in self.roles.items() if name in ds}
        for name, role in named.items():
            if "time" in ds[name].dims:
                ds[name].attrs["role"] = role
        level = ds.coords.get("level")
        if (
            level is not None
            and "units" not in level.attrs
            and set(level.values) <= set(range(1, _HYBRID + 1))
        ):
            level.attrs |= {"standard_name": "hybrid_level_number", "units": "1"}
        return ds


class GRIB(Gridded):
    """Reads GRIB files through cfgrib (the extra `grib`): one kind of level and one grid a file.

    Forecasts with several steps have a trajectory a start. Options are those of `cf`; fields are
    called by their standard names, or by ECMWF's short names.
    """

    kind: Literal["grib"] = "grib"

    @classmethod
    def recognise(cls, glance: Glance) -> Finding | None:
        """Files that begin with GRIB."""
        if glance.container != "grib":
            return None
        return Finding("grib", "certain", "a file of GRIB messages")


def _attributes(path: object) -> dict[str, object]:
    with xr.open_zarr(path, chunks=None, consolidated=False, decode_cf=False) as ds:
        return dict(ds.attrs)
