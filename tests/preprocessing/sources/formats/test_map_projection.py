"""Map projections: the worked examples of Snyder's manual, and distances that conformal maps keep."""

from typing import Any

import numpy as np
import pytest

from pelagos.preprocessing.sources.formats.map_projection import MapProjection

CLARKE = {"semi_major_axis": 6378206.4, "semi_minor_axis": 6356583.8}
INTERNATIONAL = {"semi_major_axis": 6378388.0, "inverse_flattening": 297.0}
LAMBERT: dict[str, Any] = {
    "grid_mapping_name": "lambert_conformal_conic",
    "standard_parallel": [33.0, 45.0],
    "latitude_of_projection_origin": 23.0,
    "longitude_of_central_meridian": -96.0,
}
ANTARCTIC: dict[str, Any] = {
    "grid_mapping_name": "polar_stereographic",
    "standard_parallel": -71.0,
    "latitude_of_projection_origin": -90.0,
    "straight_vertical_longitude_from_pole": -100.0,
}


def projection(attrs: dict[str, Any]) -> MapProjection:
    found = MapProjection.of(attrs)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("attrs", "point", "place"),
    [
        (LAMBERT | {"earth_radius": 1.0}, (0.2966785, 0.2462112), (35.0, -75.0)),  # page 295
        (LAMBERT | CLARKE, (1894410.9, 1564649.5), (35.0, -75.0)),  # page 296
        (ANTARCTIC | INTERNATIONAL, (-1540033.6, -560526.4), (-75.0, 150.0)),  # page 314
    ],
)
def test_the_examples_of_the_manual(
    attrs: dict[str, Any], point: tuple[float, float], place: tuple[float, float]
) -> None:
    found = projection(attrs).inverse(np.array(point[0]), np.array(point[1]))
    np.testing.assert_allclose(found, place, atol=1e-5)


@pytest.mark.parametrize(
    "attrs",
    [
        LAMBERT,
        LAMBERT | {"standard_parallel": 40.0},
        LAMBERT | {"standard_parallel": [-20.0, -50.0], "latitude_of_projection_origin": -30.0},
        ANTARCTIC,
        ANTARCTIC | {"latitude_of_projection_origin": 90.0, "standard_parallel": 60.0},
        ANTARCTIC | {"latitude_of_projection_origin": 90.0, "standard_parallel": 90.0},
    ],
)
def test_maps_are_conformal_and_point_north_on_their_meridian(attrs: dict[str, Any]) -> None:
    """Steps along x and y are equally long on the Earth, and at right angles."""
    found = projection(attrs | {"false_easting": 1e5, "false_northing": -2e5})
    x, y = np.meshgrid(1e5 + np.linspace(-8e5, 9e5, 6), -2e5 + np.linspace(-7e5, 8e5, 5))

    def steps(dx: float, dy: float) -> tuple[Any, Any]:
        ends = [found.inverse(x + sign * dx, y + sign * dy) for sign in (-1, 1)]
        north = np.deg2rad(ends[1][0] - ends[0][0])
        east = np.deg2rad((ends[1][1] - ends[0][1] + 180) % 360 - 180)
        return north, east * np.cos(np.deg2rad(found.inverse(x, y)[0]))

    (up_x, east_x), (up_y, east_y) = steps(50.0, 0.0), steps(0.0, 50.0)
    np.testing.assert_allclose(up_y, east_x, atol=2e-10)
    np.testing.assert_allclose(up_x, -east_y, atol=2e-10)
    middle = found.inverse(np.array(1e5), np.array(-2e5 - 3e5))
    assert middle[1] == pytest.approx(found.meridian) or middle[1] == pytest.approx(found.meridian + 180)


def test_the_scale_is_true_on_standard_parallels() -> None:
    for attrs in (LAMBERT, ANTARCTIC | {"standard_parallel": -71.0}):
        found = projection(attrs | {"earth_radius": 6.371e6})
        wanted = np.ravel(attrs["standard_parallel"])[0]
        y = np.linspace(-8e6, 8e6, 160001)
        latitude = found.inverse(np.zeros_like(y), y)[0]
        near = int(np.argmin(np.abs(latitude - wanted)))
        length = np.deg2rad(abs(latitude[near + 1] - latitude[near - 1])) * 6.371e6
        assert length == pytest.approx(y[near + 1] - y[near - 1], rel=1e-5)


def test_other_mappings_and_incomplete_ones_are_none() -> None:
    assert MapProjection.of({"grid_mapping_name": "transverse_mercator"}) is None
    assert MapProjection.of({key: one for key, one in LAMBERT.items() if key != "standard_parallel"}) is None
