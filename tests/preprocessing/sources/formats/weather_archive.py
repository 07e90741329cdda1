"""Weather files for tests, in netCDF-3, netCDF-4 and Zarr."""

from pathlib import Path

import numpy as np
import xarray as xr

RNG = np.random.default_rng(0)

START = np.datetime64("2020-01-01T00", "ns")

HOUR = np.timedelta64(1, "h")


def weather(*names: str, times: int = 4, start: int = 0, latitude: np.ndarray | None = None) -> xr.Dataset:
    """Hourly fields on 5 latitudes, descending, and 6 longitudes."""
    latitude = np.linspace(60, 50, 5) if latitude is None else latitude
    shape = (times, len(latitude), 6)
    return xr.Dataset(
        {
            name: (("time", "lat", "lon"), RNG.normal(size=shape).astype("f4"), {"units": "K"})
            for name in names
        },
        {
            "time": START + (start + np.arange(times)) * HOUR,
            "lat": ("lat", latitude, {"standard_name": "latitude", "units": "degrees_north"}),
            "lon": ("lon", np.arange(6) * 2.5, {"standard_name": "longitude", "units": "degrees_east"}),
        },
    )


def save(ds: xr.Dataset, path: Path) -> str:
    """netCDF-3 for .nc3, Zarr for .zarr, otherwise netCDF-4."""
    if path.suffix == ".zarr":
        ds.to_zarr(path, consolidated=False)
    else:
        ds.to_netcdf(path, engine="scipy" if path.suffix == ".nc3" else "h5netcdf")
    return str(path)
