"""CREDIT (NCAR/miles-credit): Zarr stores and netCDF files, one for each group of fields and year."""

from typing import Literal

import xarray as xr
from pydantic import Field

from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.gridded import GriddedSource

_Role = Literal["prognostic", "forcing", "diagnostic"]

_NAMES = ("SP", "t2m", "U500", "T500", "Z500", "Q500", "V500", "tsi", "VAR_2T", "Z_GDS4_SFC")
_NUM_HYBRID_LEVELS = 137  # of ECMWF's model; CREDIT keeps some of them


def _known_in_advance() -> dict[str, _Role]:
    return {"tsi": "forcing", "COSZEN": "forcing"}


class CREDIT(GriddedSource):
    """Reads the yearly Zarr stores and netCDF files of CREDIT (NCAR/miles-credit).

    Files of all groups (upper air, surface, forcing, static) and years are given together: years are joined, groups
    merged. Variables keep their own names. Files of means and standard deviations hold no fields and are refused.

    Attributes:
        kind: "credit".
        standard_names: as for `cf`, but off by default.
        roles: roles of variables that are not predicted from themselves; by default `tsi` and `COSZEN` (the cosine of
            the solar zenith angle) are forcings, since they are known in advance.
    """

    kind: Literal["credit"] = "credit"
    standard_names: bool = False
    roles: dict[str, _Role] = Field(default_factory=_known_in_advance)

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Fields with CREDIT's names, and times."""
        found = [name for name in _NAMES if listing.rank(name) >= 3]
        if listing.container not in ("hdf5", "netcdf3", "zarr") or "time" not in listing.shapes:
            return None
        upper = [name for name in ("U", "V", "T", "Q") if listing.rank(name) == 4]
        if len(found) < 2 and len(upper) < 3:
            return None
        evidence = f"times and fields of CREDIT's names: {listing.describe(*found[:3], *upper[:3])}"
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
        # CREDIT's levels are bare numbers: whole ones up to 137 count ECMWF's hybrid levels.
        level = ds.coords.get("level")
        if (
            level is not None
            and "units" not in level.attrs
            and set(level.values) <= set(range(1, _NUM_HYBRID_LEVELS + 1))
        ):
            level.attrs |= {"standard_name": "hybrid_level_number", "units": "1"}
        return ds
