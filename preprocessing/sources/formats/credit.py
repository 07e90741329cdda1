"""CREDIT (NCAR/miles-credit): yearly Zarr stores and netCDF files of fields by group and year."""

from typing import Literal

import xarray as xr
from pydantic import Field

from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.gridded import GriddedSource

Role = Literal["prognostic", "forcing", "diagnostic"]

_NAMES = ("SP", "t2m", "U500", "T500", "Z500", "Q500", "V500", "tsi", "VAR_2T", "Z_GDS4_SFC")
_HYBRID = 137  # levels of ECMWF's model, of which CREDIT keeps some


def _known_in_advance() -> dict[str, Role]:
    return {"tsi": "forcing", "COSZEN": "forcing"}


class CREDIT(GriddedSource):
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
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Fields of CREDIT's names over times."""
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
        level = ds.coords.get("level")
        if (
            level is not None
            and "units" not in level.attrs
            and set(level.values) <= set(range(1, _HYBRID + 1))
        ):
            level.attrs |= {"standard_name": "hybrid_level_number", "units": "1"}
        return ds
