"""Geometry of two-dimensional coordinates: distances, areas and directions of rows on projected and rotated grids."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.sources import convention
from pelagos.preprocessing.sources.cells import EARTH_RADIUS, on_sphere

GeometryName = Literal["cell_area", "distance_x", "distance_y", "grid_angle"]

_DESCRIBED: dict[GeometryName, tuple[str, str]] = {
    "cell_area": ("m2", "area of the cell on the sphere"),
    "distance_x": ("m", "length of the cell along the row"),
    "distance_y": ("m", "length of the cell along the column"),
    "grid_angle": ("degrees", "direction of the row, counter-clockwise from east"),
}
_ON_EARTH = {
    "x_wind": "eastward_wind",
    "y_wind": "northward_wind",
    "grid_eastward_wind": "eastward_wind",
    "grid_northward_wind": "northward_wind",
}
"""Standard names of components before and after they are turned."""
GEOMETRY: tuple[GeometryName, ...] = tuple(_DESCRIBED)


def geometry_fields(
    latitude: Floats, longitude: Floats, names: tuple[GeometryName, ...]
) -> dict[str, xr.Variable]:
    """Static fields of the convention that describe the cells around points (H, W) in degrees.

    Cells reach half-way to their neighbours, and as far at the outermost points.
    """
    corners = _corner_vectors(latitude, longitude)
    south_west, south_east = corners[:-1, :-1], corners[:-1, 1:]
    north_west, north_east = corners[1:, :-1], corners[1:, 1:]
    middles = [
        _unit(one + two)
        for one, two in (
            (south_west, north_west),
            (south_east, north_east),
            (south_west, south_east),
            (north_west, north_east),
        )
    ]
    area = _solid_angle(south_west, south_east, north_east) + _solid_angle(south_west, north_east, north_west)
    found = {
        "cell_area": EARTH_RADIUS**2 * area,
        "distance_x": EARTH_RADIUS * _arc(middles[0], middles[1]),
        "distance_y": EARTH_RADIUS * _arc(middles[2], middles[3]),
        "grid_angle": np.rad2deg(grid_angle(latitude, longitude)),
    }
    return {
        name: xr.Variable(
            ("y", "x"),
            found[name],
            convention.attrs(name, "static", units=_DESCRIBED[name][0], long_name=_DESCRIBED[name][1]),
        )
        for name in names
    }


def grid_angle(latitude: Floats, longitude: Floats) -> Floats:
    """(H, W) the direction in which rows run, in radians counter-clockwise from east; second order in the spacing."""
    points = on_sphere(latitude, longitude)
    along = np.gradient(points, axis=1, edge_order=2 if points.shape[1] > 2 else 1)
    up, east = np.deg2rad(latitude), np.deg2rad(longitude)
    eastward = np.stack([-np.sin(east), np.cos(east), np.zeros_like(east)], axis=-1)
    northward = np.stack([-np.sin(up) * np.cos(east), -np.sin(up) * np.sin(east), np.cos(up)], axis=-1)
    return np.asarray(np.arctan2((along * northward).sum(-1), (along * eastward).sum(-1)))


def corners_between(latitude: Floats, longitude: Floats) -> Floats:
    """(2, H * W, 4) latitudes and longitudes of corners half-way between points (H, W), at least two each way."""
    xyz = _corner_vectors(latitude, longitude)
    around = np.stack([xyz[:-1, :-1], xyz[:-1, 1:], xyz[1:, 1:], xyz[1:, :-1]], axis=2).reshape(-1, 4, 3)
    north = np.rad2deg(np.arcsin(np.clip(around[..., 2], -1, 1)))
    return np.stack([north, np.rad2deg(np.arctan2(around[..., 1], around[..., 0]))])


def unrotated(
    rows: Floats, columns: Floats, pole: tuple[float, float], shift: float = 0.0
) -> tuple[Floats, Floats]:
    """Latitudes and longitudes (H, W) of a grid with a rotated pole (CF conventions 1.11, appendix F).

    Args:
        rows: (H,) latitudes on the rotated grid, in degrees.
        columns: (W,) longitudes there.
        pole: latitude and longitude of its north pole.
        shift: longitude of the true north pole on the rotated grid.
    """
    own = on_sphere(*np.meshgrid(rows, columns - shift, indexing="ij"))
    north, east = np.deg2rad(pole)
    z = np.array([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
    # The true pole lies on the rotated meridian 0.
    x = np.array([-np.sin(north) * np.cos(east), -np.sin(north) * np.sin(east), np.cos(north)])
    xyz = own @ np.stack([x, np.cross(z, x), z])
    return np.rad2deg(np.arcsin(np.clip(xyz[..., 2], -1, 1))), np.rad2deg(
        np.arctan2(xyz[..., 1], xyz[..., 0])
    )


@dataclass(eq=False)
class EarthComponent(BackendArray):
    """The eastward or northward component of a vector given along rows and columns, read when it is needed.

    Attributes:
        along_rows: the component along rows, of dims (..., y, x).
        along_columns: the other one.
        cosine: (H, W) of the direction of rows; for the eastward component.
        sine: (H, W) likewise.
        northward: which component it is.
    """

    along_rows: xr.Variable
    along_columns: xr.Variable
    cosine: Floats
    sine: Floats
    northward: bool

    def __post_init__(self) -> None:
        self.shape, self.dtype = self.along_rows.shape, self.along_rows.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        # All axes are kept until the end, so that angles meet their points.
        where = tuple(
            slice(int(one), int(one) + 1) if isinstance(one, int | np.integer) else one for one in key
        )
        u, v = (np.asarray(one[where].values, np.float64) for one in (self.along_rows, self.along_columns))
        cosine, sine = (one[where[-2]][:, where[-1]] for one in (self.cosine, self.sine))
        turned = sine * u + cosine * v if self.northward else cosine * u - sine * v
        single = tuple(0 if isinstance(one, int | np.integer) else slice(None) for one in key)
        return np.asarray(turned.astype(self.dtype)[single])


def to_earth(u: xr.Variable, v: xr.Variable, angle: Floats) -> tuple[xr.Variable, xr.Variable]:
    """The eastward and northward components of a vector along rows and columns; reads nothing."""
    found = []
    for northward, one in ((False, u), (True, v)):
        array = EarthComponent(u, v, np.cos(angle), np.sin(angle), northward)
        names = {key: _ON_EARTH.get(str(value), value) for key, value in one.attrs.items()}
        found.append(
            xr.Variable(one.dims, indexing.LazilyIndexedArray(array), names | {"GRIB_uvRelativeToGrid": "0"})
        )
    return found[0], found[1]


def _corner_vectors(latitude: Floats, longitude: Floats) -> Floats:
    """(H + 1, W + 1, 3) unit vectors of the corners between points, continued in straight lines at the sides."""
    points = on_sphere(latitude, longitude)
    for axis in (0, 1):
        first, second = points.take([0], axis), points.take([1], axis)
        last, before = points.take([-1], axis), points.take([-2], axis)
        points = np.concatenate([2 * first - second, points, 2 * last - before], axis=axis)
    return _unit(points[:-1, :-1] + points[1:, :-1] + points[:-1, 1:] + points[1:, 1:])


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _arc(one: Floats, two: Floats) -> Floats:
    return np.asarray(2 * np.arcsin(np.linalg.norm(one - two, axis=-1) / 2))


def _solid_angle(a: Floats, b: Floats, c: Floats) -> Floats:
    """Of spherical triangles (van Oosterom and Strackee 1983)."""
    below = 1 + (a * b).sum(-1) + (b * c).sum(-1) + (c * a).sum(-1)
    return np.asarray(2 * np.abs(np.arctan2((a * np.cross(b, c)).sum(-1), below)))
