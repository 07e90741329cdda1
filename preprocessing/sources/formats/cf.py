"""CF: weather and climate archives in netCDF-3, netCDF-4 and Zarr that follow the CF conventions.

Axes are recognised by what the conventions (cfconventions.org) prescribe, `axis`, `standard_name` and units, then by
common names. Grids are of latitudes and longitudes, or projected with x and y.
"""

from pathlib import Path
from typing import Literal

import xarray as xr

from pelagos.preprocessing.assumptions import ask
from pelagos.preprocessing.files.location import Url
from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.cf_axes import AXIS_NAMES, is_projected
from pelagos.preprocessing.sources.formats.gridded import GriddedSource


class CF(GriddedSource):
    """Reads weather archives in files that follow the CF conventions; see `GriddedSource` for the options."""

    kind: Literal["cf"] = "cf"

    def _assume_open(self, place: Path | Url, y: xr.Variable, x: xr.Variable) -> None:
        if is_projected(y) or is_projected(x):
            super()._assume_open(place, y, x)
            return
        ask(
            "boundary",
            "",
            f"{place} does not say what lies beyond the edges of its Cartesian grid; taken as open on all sides",
            "source.boundary: periodic, wall or open, or one for each axis, as in {y: wall, x: periodic}",
        )

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """netCDF-3 and Zarr, and HDF5 that netCDF wrote: libraries before 4.4.1 marked the dimensions alone."""
        marked = listing.container == "hdf5" and ("_NCProperties" in listing.attrs or bool(listing.scales))
        if listing.container not in ("netcdf3", "zarr") and not marked:
            return None
        axes = [
            key for key in listing.shapes if any(key.casefold() in names for names in AXIS_NAMES.values())
        ]
        word = {"hdf5": "netCDF-4", "netcdf3": "netCDF-3", "zarr": "a Zarr group"}[listing.container]
        evidence = f"{word} with {listing.describe(*axes) or 'no coordinates of a common name'}"
        return Finding("cf", "likely" if len(axes) > 2 else "possible", evidence)
