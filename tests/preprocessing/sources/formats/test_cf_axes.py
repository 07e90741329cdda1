"""Axes of CF files: recognised by attributes and names, and asked for where neither tells."""

from pathlib import Path

import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.formats.weather_archive import save, weather


def test_axes_without_attributes_are_recognised_by_their_names(tmp_path: Path) -> None:
    for names in ({}, {"lat": "latitude", "lon": "longitude"}):
        ds = weather("t").drop_attrs().rename(names)
        found = CF(paths=save(ds, tmp_path / f"{len(names)}.nc")).open()
        assert (found.attrs["grid"], found.y.attrs["units"]) == ("latlon", "degrees_north")


def test_axes_that_cannot_be_recognised_are_asked_for(tmp_path: Path) -> None:
    ds = weather("t").drop_attrs().rename(lat="south_north", lon="west_east")
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match="which dimension is y and which x"):
        CF(paths=path).open()
    found = CF(paths=path, axes={"y": "south_north", "x": "west_east"}).open()
    assert found.attrs["grid"] == "cartesian"
    np.testing.assert_array_equal(found.t[0], ds.t)


def test_two_axes_that_could_be_levels_are_asked_about(tmp_path: Path) -> None:
    ds = (
        weather("t")
        .expand_dims(level=[1.0, 2.0])
        .assign(u=weather("u").u.expand_dims(height=[1.0, 2.0, 3.0]))
    )
    ds.height.attrs["standard_name"] = "height"
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a\.nc: is level or height its level\? Set axes: {level: height}"):
        CF(paths=path).open()
    found = CF(paths=path, axes={"level": "height"}, variables=("u",)).open()
    np.testing.assert_array_equal(found.level, [1, 2, 3])


def test_a_dimension_without_coordinate_is_named(tmp_path: Path) -> None:
    path = save(weather("t").drop_vars("lon"), tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a\.nc: its dimension lon has no coordinate; x must have one"):
        CF(paths=path).open()
