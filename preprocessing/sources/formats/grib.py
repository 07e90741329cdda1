"""GRIB files with one kind of level on one grid."""

from typing import Literal

from pelagos.preprocessing.sources.finding import ArchiveListing, Finding
from pelagos.preprocessing.sources.formats.gridded import GriddedSource


class GRIB(GriddedSource):
    """Reads GRIB files through cfgrib (the extra `grib`): one kind of level and one grid a file.

    Forecasts with several steps become a trajectory for each start. Options are those of `cf`; fields go by their
    standard names, or by ECMWF's short names where they have none.

    Attributes:
        kind: "grib".
    """

    kind: Literal["grib"] = "grib"

    @classmethod
    def recognise(cls, listing: ArchiveListing) -> Finding | None:
        """Files that begin with GRIB."""
        if listing.container != "grib":
            return None
        return Finding("grib", "certain", "a file of GRIB messages")
