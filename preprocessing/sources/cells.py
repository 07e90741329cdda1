"""Cells: where the points of a field lie whose grid has no rows of latitude and columns of longitude.

A dataset in the convention says so by coordinates `cell_latitude` and `cell_longitude` of dims (y, x), in degrees, and
by `cell_latitude_corners` and `cell_longitude_corners` (y, x, corner) where it is known what they cover. Points in no
order have one row, and the dataset's attribute `grid` is `cells`; the attribute `healpix` tells pixels of HEALPix.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.healpix import Healpix

EARTH_RADIUS = 6.371e6
"""Metres."""
CELLS = "cells"
"""The attribute `grid` of a dataset whose points lie in no rows."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Points on the sphere, and the cells around them.

    Attributes:
        latitude: (N,) of the centres, in degrees.
        longitude: (N,) of the centres, in degrees.
        kind: what the grid is called, for messages.
        corners: (2, N, V) latitudes and longitudes of the corners in order; None where they are not known.
        along_parallels: whether sides of cells follow parallels and meridians; great circles otherwise.
        healpix: where the points are the pixels of HEALPix.
    """

    latitude: Floats
    longitude: Floats
    kind: str
    corners: Floats | None = None
    along_parallels: bool = False
    healpix: Healpix | None = None

    @property
    def has_areas(self) -> bool:
        """Whether it is known what each cell covers."""
        return self.corners is not None or self.healpix is not None

    def coordinates(self, shape: tuple[int, int]) -> dict[str, xr.Variable]:
        """The coordinates by which a dataset of rows and columns `shape` describes the cells."""
        found = {
            "cell_latitude": xr.Variable(
                ("y", "x"), self.latitude.reshape(shape), {"units": "degrees_north"}
            ),
            "cell_longitude": xr.Variable(
                ("y", "x"), self.longitude.reshape(shape), {"units": "degrees_east"}
            ),
        }
        if self.corners is not None:
            for name, values in zip(("latitude", "longitude"), self.corners, strict=True):
                found[f"cell_{name}_corners"] = xr.Variable(("y", "x", "corner"), values.reshape(*shape, -1))
        return found

    def attrs(self) -> dict[str, str]:
        """The attributes by which a dataset describes the cells, beside the coordinates."""
        found = {"cells": self.kind}
        if self.along_parallels:
            found["cell_sides"] = "parallels"
        if self.healpix is not None:
            found["healpix"] = f"{self.healpix.nside},{'nested' if self.healpix.nested else 'ring'}"
        return found


def has_cells(ds: xr.Dataset) -> bool:
    """Whether a dataset says where each of its points lies on the sphere."""
    return "cell_latitude" in ds.coords


def without_cells(ds: xr.Dataset) -> xr.Dataset:
    """The dataset without the coordinates of its cells, which may be as large as its fields."""
    names = [f"cell_{axis}{end}" for axis in ("latitude", "longitude") for end in ("", "_corners")]
    return ds.drop_vars(names, errors="ignore")


def cells_of(ds: xr.Dataset) -> Cells:
    """The cells of a dataset for which `has_cells` holds.

    Raises:
        DataError: a coordinate is missing, or no latitude or longitude.
    """
    label = ds.attrs["dataset"]
    for name in ("cell_latitude", "cell_longitude"):
        if name not in ds.coords or ds[name].dims != ("y", "x"):
            raise DataError(f"{label}: cells need a coordinate {name} of dims (y, x)")
        if not np.isfinite(ds[name].values).all():
            raise DataError(
                f"{label}: {name} of {int((~np.isfinite(ds[name].values)).sum())} points is not a number"
            )
    latitude = ds["cell_latitude"].values.astype(np.float64).ravel()
    if np.abs(latitude).max() > 90 + 1e-6:
        raise DataError(
            f"{label}: a latitude is {latitude[np.abs(latitude).argmax()]:g} degrees; at most 90 is right"
        )
    corners = None
    if "cell_latitude_corners" in ds.coords:
        names = ("cell_latitude_corners", "cell_longitude_corners")
        corners = np.stack([ds[name].values.reshape(len(latitude), -1) for name in names]).astype(np.float64)
    nside, _, order = ds.attrs.get("healpix", "").partition(",")
    healpix = Healpix(int(nside), order == "nested") if nside else None
    return Cells(
        latitude=np.clip(latitude, -90, 90),
        longitude=ds["cell_longitude"].values.astype(np.float64).ravel(),
        kind=ds.attrs.get("cells", "points"),
        corners=corners,
        along_parallels=ds.attrs.get("cell_sides") == "parallels",
        # A part of the pixels is no longer the whole sphere.
        healpix=healpix if healpix is not None and healpix.size == len(latitude) else None,
    )


def on_sphere(latitude: Floats, longitude: Floats) -> Floats:
    """(..., 3) unit vectors of points in degrees."""
    up, east = np.deg2rad(latitude), np.deg2rad(longitude)
    return np.stack([np.cos(up) * np.cos(east), np.cos(up) * np.sin(east), np.sin(up)], axis=-1)
