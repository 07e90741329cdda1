"""Axes of CF files: recognised by attributes and names, and asked for where neither tells."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import DamagedFileError, DataError
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


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lat", [60, np.nan, 55, 52, 50], r"lat is missing \(NaN\) at entry 1 of 5"),
        (
            "lat",
            [60, 60, 55, 52, 50],
            "lat goes from 60 at entry 0 to 60 at entry 1; rows that all go up or all go down",
        ),
        ("lat", [60, 52, 55, 53, 50], "lat goes from 52 at entry 1 to 55 at entry 2; rows that all go"),
        ("lat", list("abcde"), r"lat holds text \('a'\), of which no y can be made"),
        (
            "lon",
            [0, 2, 2, 4, 6, 8],
            "lon goes from 2 at entry 1 to 2 at entry 2; each column once would be right",
        ),
        (
            "time",
            [0, 1, 1, 2],
            "time does not increase: it goes from 2020-01-01T01:00:00 at entry 1 to .*; each time once",
        ),
        (
            "time",
            [3, 2, 1, 0],
            "time does not increase: it goes from 2020-01-01T03:00:00 at entry 0 to .* each time once",
        ),
        ("time", [0, 1, np.nan, 3], r"time is missing \(NaN\) at entry 2 of 4"),
    ],
)
@pytest.mark.parametrize("suffix", ["nc", "zarr"])
@pytest.mark.filterwarnings("ignore:The data type")  # zarr-python warns of text
def test_coordinates_out_of_order_are_named_with_their_file(
    tmp_path: Path, suffix: str, name: str, values: list[float], message: str
) -> None:
    units = {"units": "hours since 2020-01-01"} if name == "time" else weather("t")[name].attrs
    ds = weather("t").assign_coords({name: (name, values, units)})
    with pytest.raises(DataError, match=rf"a\.{suffix}: {message}"):
        CF(paths=save(ds, tmp_path / f"a.{suffix}")).open()


@pytest.mark.parametrize("members", [[0, 1, 1], ["a", "b", "b"]])
def test_members_of_one_name_are_asked_about(tmp_path: Path, members: list[object]) -> None:
    ds = (
        xr.concat([weather("t")] * 3, "number").transpose("time", "number", ...).assign_coords(number=members)
    )
    with collect() as assumed:
        CF(paths=save(ds, tmp_path / "a.nc"), axes={"trajectory": "number"}).open()
    assert [(one.code, one.question) for one in assumed.all] == [("levels", True)]


@pytest.mark.parametrize("axis", ["time", "lat", "lon"])
def test_an_empty_axis_is_named(tmp_path: Path, axis: str) -> None:
    with pytest.raises(DataError, match=rf"a\.nc: {axis} has no entries"):
        CF(paths=save(weather("t").isel({axis: slice(0, 0)}), tmp_path / "a.nc")).open()


@pytest.mark.parametrize(
    ("units", "code"), [("m", "units_converted"), ("metre", ""), ("K", "grid"), ("", "grid")]
)
def test_rows_and_columns_are_brought_to_one_unit(tmp_path: Path, units: str, code: str) -> None:
    """Areas and spacings of kilometres beside metres would be wrong by a thousand."""
    stated = {"units": units} if units else {}
    ds = xr.Dataset(
        {"u": (("time", "y", "x"), np.zeros((2, 3, 4)), {"units": "1"})},
        {
            "time": ("time", [0.0, 1.0], {"units": "s"}),
            "y": ("y", 1000 * np.arange(3.0), stated),
            "x": ("x", np.arange(4.0), {"units": "km" if units != "metre" else "m"}),
        },
    )
    with collect() as assumed:
        found = CF(paths=save(ds, tmp_path / "a.nc"), boundary="open").open()
    converted = 1.0 if units == "m" else 1000.0
    np.testing.assert_allclose(found.y, converted * np.arange(3.0), rtol=1e-12)
    [*told] = [one for one in assumed.all if one.code in ("grid", "units_converted")]
    assert [(one.code, one.question) for one in told] == ([(code, units == "K")] if code else [])


def test_an_axis_that_was_never_written_whole_is_refused(tmp_path: Path) -> None:
    """The rest of it would read as zeros: a longitude of 0 is one."""
    ds = weather("t")
    path = save(ds, tmp_path / "a.nc")
    with h5py.File(path, "r+") as file:
        kept = dict(file["lon"].attrs)
        for at in range(len(file["t"].dims)):
            for scale in list(file["t"].dims[at].values()):
                if scale.name == "/lon":
                    file["t"].dims[at].detach_scale(scale)
        del file["lon"]
        lon = file.create_dataset("lon", ds.lon.shape, "f8", chunks=(ds.lon.size - 1,), fillvalue=0.0)
        lon[:-1] = ds.lon.values[:-1]
        lon.attrs.update({key: kept[key] for key in ("units", "standard_name") if key in kept})
        lon.make_scale("lon")
        file["t"].dims[ds.t.dims.index("lon")].attach_scale(lon)
    with pytest.raises(DamagedFileError, match=r"a\.nc: /lon: 1 of 2 chunks were never written"):
        CF(paths=path).open()
