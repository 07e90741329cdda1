"""WeatherBench 2 (arXiv:2308.15560) and ARCO-ERA5: Zarr stores of reanalyses and forecasts."""

from typing import Literal

import numpy as np
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.arrays import zarr_array
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.gridded import GriddedSource

_ERA5 = ("geopotential", "temperature", "2m_temperature", "u_component_of_wind", "10m_u_component_of_wind")


class WeatherBench(GriddedSource):
    """Reads Zarr stores of WeatherBench 2 (arXiv:2308.15560) and ARCO-ERA5: in buckets, or whole or partial copies.

    Coarse stores have axes (time, [level], longitude, latitude) with ascending latitudes, ARCO-ERA5 has (time, level,
    latitude, longitude) with descending ones; axes are found by name. Variables keep their own names, since several
    share a standard name. The times of ARCO-ERA5 begin in 1900 but hold data only from `valid_time_start` to
    `valid_time_stop`, to which they are cut. Forecasts become a trajectory for each start.

    Attributes:
        kind: "weatherbench".
        standard_names: as for `cf`, but off by default; the other options are those of `cf`, too.
    """

    kind: Literal["weatherbench"] = "weatherbench"
    standard_names: bool = False

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Zarr groups with ERA5's long names on latitudes and longitudes."""
        found = [name for name in _ERA5 if name in listing.shapes]
        if listing.container != "zarr" or not found or not listing.has("latitude", "longitude"):
            return None
        evidence = f"a Zarr group with ERA5's long names: {listing.describe(*found[:2])}"
        return Finding("weatherbench", "certain" if len(found) > 1 else "likely", evidence)

    def open(self) -> xr.Dataset:
        """The dataset in the convention; reads coordinates, no field.

        Raises:
            DataError: as for `cf`, and for climatologies, which have no times.
        """
        ds = super().open()
        stores = [dict(zarr_array.open_group(path).attrs) for path in self.places()]
        starts, stops = (
            [str(one[key]) for one in stores if key in one] for key in ("valid_time_start", "valid_time_stop")
        )
        if ds.time.dtype.kind != "M" or not (starts or stops):
            return ds
        # "2023-01-10" includes all of that day: NumPy adds one of the unit in which the text is given.
        stop = np.datetime64(max(stops)) + 1 if stops else None
        inside = np.ones(ds.sizes["time"], bool)
        if starts:
            inside &= ds.time.values >= np.datetime64(min(starts))
        if stop is not None:
            inside &= ds.time.values < stop
        if not inside.any():
            raise DataError(
                f"{self.places()[0]}: no time lies between valid_time_start {starts} and valid_time_stop {stops}"
            )
        first, last = np.flatnonzero(inside)[[0, -1]]
        return ds.isel(time=slice(int(first), int(last) + 1))
