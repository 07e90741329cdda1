"""GRIB files that hold one kind of level on one grid."""

from typing import Literal

from pelagos.preprocessing.sources.finding import Finding, Glance
from pelagos.preprocessing.sources.formats.cf import Gridded


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
