"""GRIB files that hold one kind of level on one grid."""

from typing import Literal

from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.gridded import GriddedSource


class GRIB(GriddedSource):
    """Reads GRIB files through cfgrib (the extra `grib`): one kind of level and one grid a file.

    Forecasts with several steps have a trajectory a start. Options are those of `cf`; fields are
    called by their standard names, or by ECMWF's short names.
    """

    kind: Literal["grib"] = "grib"

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Files that begin with GRIB."""
        if listing.container != "grib":
            return None
        return Finding("grib", "certain", "a file of GRIB messages")
