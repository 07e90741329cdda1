"""Projected and rotated grids: areas, distances and directions of their cells, and vectors turned when asked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.regrid import Regrid
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.sources.formats.plane_geometry import (
    GEOMETRY,
    corners_between,
    geometry_fields,
    grid_angle,
    unrotated,
)

POLE = (39.25, -162.0)  # of EURO-CORDEX
ROWS, COLUMNS = np.arange(-20.0, 21, 2), np.arange(-28.0, 18, 2)
RADIUS = 6.371e6


def cosmo(row: Floats, column: Floats) -> tuple[Floats, Floats]:
    """Latitude and longitude in radians by the formulae of COSMO's documentation (part I, section 3.3)."""
    north, east, up, along = (np.deg2rad(one) for one in (*POLE, row, column))
    latitude = np.arcsin(np.cos(up) * np.cos(along) * np.cos(north) + np.sin(up) * np.sin(north))
    inward = -np.sin(north) * np.cos(along) * np.cos(up) + np.cos(north) * np.sin(up)
    one = np.sin(east) * inward - np.cos(east) * np.sin(along) * np.cos(up)
    two = np.cos(east) * inward + np.sin(east) * np.sin(along) * np.cos(up)
    return latitude, np.arctan2(one, two)


def test_a_rotated_pole_follows_the_closed_form() -> None:
    latitude, longitude = unrotated(ROWS, COLUMNS, POLE)
    expected = cosmo(ROWS[:, None], COLUMNS[None, :])
    assert np.deg2rad(latitude) == pytest.approx(expected[0], abs=1e-13)
    assert np.deg2rad(longitude) == pytest.approx(expected[1], abs=1e-13)
    # The true pole lies on the meridian that the file names.
    top, _ = unrotated(np.array([POLE[0]]), np.array([25.0]), POLE, shift=25.0)
    assert top.item() == pytest.approx(90)


def test_the_direction_of_rows_follows_the_closed_form_to_second_order() -> None:
    errors = []
    for step in (2.0, 1.0):
        rows, columns = np.arange(-20, 20.1, step), np.arange(-28, 16.1, step)
        latitude, longitude = unrotated(rows, columns, POLE)
        # The angle at a point between both poles, by the sine rule on the sphere (COSMO's uvrot2uv).
        north, turned = np.deg2rad(POLE[0]), np.deg2rad(longitude - POLE[1])
        up = np.deg2rad(latitude)
        sine = np.cos(north) * np.sin(turned) / np.cos(np.deg2rad(rows))[:, None]
        cosine = (np.cos(up) * np.sin(north) - np.sin(up) * np.cos(north) * np.cos(turned)) / np.cos(
            np.deg2rad(rows)
        )[:, None]
        exact = np.arctan2(sine, cosine)
        found = grid_angle(latitude, longitude)
        difference = (found - exact + np.pi) % (2 * np.pi) - np.pi
        assert difference[:, 1:-1] == pytest.approx(
            0, abs=1e-12
        )  # a chord of a circle has its middle's direction
        errors.append(np.abs(difference).max())
    assert errors[1] < 1e-3
    assert errors[0] / errors[1] > 3.5


def test_areas_and_distances_of_a_rotated_grid_are_those_of_its_own_latitudes() -> None:
    latitude, longitude = unrotated(ROWS, COLUMNS, POLE)
    found = {name: one.values for name, one in geometry_fields(latitude, longitude, GEOMETRY).items()}
    step, up = np.deg2rad(2.0), np.deg2rad(ROWS)[:, None]
    inner = (slice(1, -1), slice(1, -1))
    exact = {
        "cell_area": RADIUS**2 * step * (np.sin(up + step / 2) - np.sin(up - step / 2)),
        "distance_x": RADIUS * step * np.cos(up),
        "distance_y": RADIUS * step,
    }
    for name, value in exact.items():
        assert found[name][inner] == pytest.approx(np.broadcast_to(value, latitude.shape)[inner], rel=1e-3), (
            name
        )


def cordex(path: Path, **options: Any) -> CF:
    """A file with a rotated pole and no latitudes; wind of 5 m/s from the west, and of 2 from the south."""
    latitude, longitude = unrotated(ROWS, COLUMNS, POLE)
    angle = grid_angle(latitude, longitude)
    u, v = 5 * np.cos(angle) + 2 * np.sin(angle), -5 * np.sin(angle) + 2 * np.cos(angle)
    mapping = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": POLE[0],
        "grid_north_pole_longitude": POLE[1],
    }
    ds = xr.Dataset(
        {
            "u": (("time", "rlat", "rlon"), np.stack([u, u]), {"units": "m s-1", "standard_name": "x_wind"}),
            "v": (("time", "rlat", "rlon"), np.stack([v, v]), {"units": "m s-1", "standard_name": "y_wind"}),
            "pole": ((), 0, mapping),
        },
        {
            "time": np.array(["2020-01-01", "2020-01-02"], "M8[ns]"),
            "rlat": ("rlat", ROWS, {"standard_name": "grid_latitude", "units": "degrees"}),
            "rlon": ("rlon", COLUMNS, {"standard_name": "grid_longitude", "units": "degrees"}),
        },
    )
    ds.to_netcdf(path, engine="h5netcdf")
    return CF(paths=str(path), standard_names=False, **options)


def test_vectors_are_turned_only_when_asked(tmp_path: Path) -> None:
    kept = cordex(tmp_path / "a.nc").open()
    assert set(kept.data_vars) == {"u", "v"}
    assert kept["u"].values.std() > 0.4
    turned = cordex(tmp_path / "a.nc", rotate=[("u", "v")]).open()
    assert turned["u"].values == pytest.approx(5, rel=1e-6)
    assert turned["v"].values == pytest.approx(2, rel=1e-6)
    part = {"y": 3, "x": [1, 4, 5], "time": 1}
    assert turned["v"].isel(part).values == pytest.approx(2, rel=1e-6)
    assert turned["u"].attrs["standard_name"] == "eastward_wind"
    options = FieldOptions(regrid=Regrid(to="latlon", y=(45.0, 50), x=(0.0, 10)))
    with collect() as found:
        moved = select_fields(turned, options)
    assert not any(one.question for one in found.all)
    with collect() as found:
        select_fields(kept, options)
    assert [one.field for one in found.all if one.question] == ["u", "v"]
    assert moved.read(slice(0, 1), slice(0, 2)) == pytest.approx(
        np.broadcast_to(np.array([5.0, 2]).reshape(1, 1, 2, 1, 1), (1, 2, 2, 2, 2)), rel=1e-6
    )


def test_geometry_is_added_when_asked_and_the_grid_stays_its_own(tmp_path: Path) -> None:
    ds = cordex(tmp_path / "a.nc", geometry=("cell_area", "grid_angle")).open()
    assert ds.attrs["grid"] == "cartesian"
    assert ds["cell_area"].attrs["role"] == "static"
    assert ds["cell_area"].values.sum() == pytest.approx(
        RADIUS**2 * np.deg2rad(46) * (np.sin(np.deg2rad(21)) * 2), rel=1e-2
    )


def test_what_has_no_directions_cannot_be_turned(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source.rotate: a has no field w beside u"):
        cordex(tmp_path / "a.nc", rotate=[("u", "w")]).open()
    lat, lon = ("lat", [0.0, 10]), ("lon", [0.0, 10, 20])
    plain = xr.Dataset(
        {"u": (("time", "lat", "lon"), np.zeros((2, 2, 3)))}, {"time": [0.0, 1], "lat": lat, "lon": lon}
    )
    plain.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    with pytest.raises(ConfigError, match=r"source.geometry: b has no two-dimensional latitudes"):
        CF(paths=str(tmp_path / "b.nc"), geometry=("cell_area",)).open()


def test_corners_between_points_share_the_sphere_without_gaps() -> None:
    north, east = np.meshgrid(np.arange(-80.0, 81, 10), np.arange(0.0, 91, 10), indexing="ij")
    corners = corners_between(north, east).reshape(2, 17, 10, 4)
    assert corners[:, :-1, :, [3, 2]] == pytest.approx(corners[:, 1:, :, [0, 1]])
    assert corners[:, :, :-1, [1, 2]] == pytest.approx(corners[:, :, 1:, [0, 3]])
    assert corners[0, 8, 4] == pytest.approx([-5, -5, 5, 5], abs=0.03)  # on great circles between the points
    assert corners[1, 8, 4] == pytest.approx([35, 45, 45, 35], abs=1e-9)
