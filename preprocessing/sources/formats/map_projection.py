"""MapProjection: from metres on a map to latitudes and longitudes, by the parameters of a CF grid mapping.

Formulas on the ellipsoid after J. P. Snyder, Map Projections: A Working Manual, USGS Professional Paper 1395 (1987),
equations 15-1 to 15-11 (Lambert conformal conic) and 21-33 to 21-40 (polar stereographic); a sphere is one with e = 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.sources.cells import EARTH_RADIUS

PROJECTIONS = ("lambert_conformal_conic", "polar_stereographic")
"""The grid mappings that are read, as CF 1.11 names them in appendix F."""


@dataclass(frozen=True)
class MapProjection:
    """A conformal projection onto a cone around the axis of the Earth, or onto a plane at a pole.

    Attributes:
        radius: of the equator [m].
        eccentricity: of the ellipsoid.
        cone: the share of a full turn that the map takes, 1 at a pole; negative of the south.
        scale: distance from the apex where the isometric co-latitude is 1 [m].
        apex: false easting and northing of the apex [m].
        meridian: the longitude that runs straight up the map [degrees].
    """

    radius: float
    eccentricity: float
    cone: float
    scale: float
    apex: tuple[float, float]
    meridian: float

    @classmethod
    def of(cls, attrs: Mapping[Any, Any]) -> "MapProjection | None":
        """The projection that a grid mapping describes; None where it is another, or lacks parameters."""
        name = attrs.get("grid_mapping_name")
        if name not in PROJECTIONS:
            return None
        radius, eccentricity = _ellipsoid(attrs)
        east, north = (_number(attrs, f"false_{way}", 0.0) for way in ("easting", "northing"))
        try:
            if name == "polar_stereographic":
                return cls._polar(attrs, radius, eccentricity, (east, north))
            return cls._conic(attrs, radius, eccentricity, (east, north))
        except (KeyError, ZeroDivisionError):  # a cone around the equator is a cylinder
            return None

    @classmethod
    def _conic(
        cls, attrs: Mapping[Any, Any], radius: float, eccentricity: float, false: tuple[float, float]
    ) -> "MapProjection":
        parallels = np.deg2rad(np.ravel(attrs["standard_parallel"]).astype(np.float64))
        first, last = float(parallels[0]), float(parallels[-1])
        cone = float(np.sin(first))
        t = _isometric(first, eccentricity)
        if abs(first - last) > 1e-10:
            ratio = _parallel(first, eccentricity) / _parallel(last, eccentricity)
            cone = float(np.log(ratio) / np.log(t / _isometric(last, eccentricity)))
        scale = radius * _parallel(first, eccentricity) / (cone * t**cone)
        origin = np.deg2rad(_number(attrs, "latitude_of_projection_origin"))
        above = scale * _isometric(float(origin), eccentricity) ** cone
        meridian = _number(attrs, "longitude_of_central_meridian")
        return cls(radius, eccentricity, cone, float(scale), (false[0], false[1] + float(above)), meridian)

    @classmethod
    def _polar(
        cls, attrs: Mapping[Any, Any], radius: float, eccentricity: float, false: tuple[float, float]
    ) -> "MapProjection":
        name = "straight_vertical_longitude_from_pole"
        meridian = _number(attrs, name if name in attrs else "longitude_of_projection_origin")
        south = _number(attrs, "latitude_of_projection_origin") < 0
        e = eccentricity
        true = np.deg2rad(abs(_number(attrs, "standard_parallel", 90.0)))
        if true > np.pi / 2 - 1e-9:
            factor = _at_pole(e) * _number(attrs, "scale_factor_at_projection_origin", 1.0)
        else:
            factor = _parallel(true, e) / _isometric(true, e)
        return cls(radius, e, -1.0 if south else 1.0, radius * factor, false, meridian)

    def inverse(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Latitudes and longitudes [degrees] of points at x, y [m]."""
        sign = np.sign(self.cone)
        right, up = sign * (x - self.apex[0]), sign * (self.apex[1] - y)
        distance = sign * np.hypot(right, up)
        turn = np.arctan2(right, up) / self.cone
        t = (
            (distance / self.scale) ** (1 / self.cone)
            if abs(self.cone) != 1
            else np.abs(distance) / self.scale
        )
        latitude = np.pi / 2 - 2 * np.arctan(t)
        e = self.eccentricity
        for _ in range(8):  # each step gains a factor of e squared, about 150
            inner = e * np.sin(latitude)
            latitude = np.pi / 2 - 2 * np.arctan(t * ((1 - inner) / (1 + inner)) ** (e / 2))
        if self.cone == -1.0:  # a plane at the south pole is one at the north pole turned over
            latitude = -latitude
        longitude = (np.rad2deg(turn) + self.meridian + 180) % 360 - 180
        return np.rad2deg(latitude), longitude


def _ellipsoid(attrs: Mapping[Any, Any]) -> tuple[float, float]:
    """Radius at the equator [m] and eccentricity; the sphere of this package where nothing is stated."""
    if "semi_major_axis" not in attrs:
        return _number(attrs, "earth_radius", EARTH_RADIUS), 0.0
    radius = _number(attrs, "semi_major_axis")
    inverse = _number(attrs, "inverse_flattening", 0.0)
    flat = 1 / inverse if inverse else 1 - _number(attrs, "semi_minor_axis", radius) / radius
    return radius, float(np.sqrt(max(flat * (2 - flat), 0.0)))


def _number(attrs: Mapping[Any, Any], name: str, default: float | None = None) -> float:
    if name not in attrs and default is not None:
        return default
    return float(np.ravel(attrs[name])[0])


def _isometric(latitude: float, e: float) -> float:
    """Snyder's t (15-9): the tangent of half the co-latitude, less what the flattening takes."""
    inner = e * np.sin(latitude)
    return float(np.tan(np.pi / 4 - latitude / 2) / ((1 - inner) / (1 + inner)) ** (e / 2))


def _parallel(latitude: float, e: float) -> float:
    """Snyder's m (14-15): the radius of a parallel over that of the equator."""
    return float(np.cos(latitude) / np.sqrt(1 - (e * np.sin(latitude)) ** 2))


def _at_pole(e: float) -> float:
    """Snyder's factor for a plane that touches the pole (21-33)."""
    return float(2 / np.sqrt((1 + e) ** (1 + e) * (1 - e) ** (1 - e)))
