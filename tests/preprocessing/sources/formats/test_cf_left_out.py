"""Fields on other points than those of the grid are named, and what is no field is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import Assumption, collect
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.formats.weather_archive import save, weather


@pytest.fixture
def staggered(tmp_path: Path) -> Path:
    """Temperature in the centres of cells, winds on their faces; edges, a series and a profile beside them."""
    time = np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(1, "h")
    lat, lon, faces = np.linspace(60, -60, 5), np.arange(6) * 60.0, np.arange(7) * 60.0
    fields = {
        "t": (("time", "lat", "lon"), np.zeros((4, 5, 6)), {"units": "K"}),
        "u": (("time", "lat", "lon_u"), np.zeros((4, 5, 7)), {"units": "m s-1"}),
        "lat_bnds": (("lat", "nv"), np.zeros((5, 2))),
        "co2": (("time",), np.zeros(4)),
        "hyam": (("lev",), np.zeros(9)),
        "crs": ((), 0),
    }
    coordinates = {
        "time": time,
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
        "lon_u": ("lon_u", faces),
        "lev": ("lev", np.arange(9.0)),
    }
    xr.Dataset(fields, coordinates).to_netcdf(tmp_path / "staggered.nc", engine="h5netcdf")
    return tmp_path / "staggered.nc"


def assumed(source: CF) -> tuple[Assumption, ...]:
    with collect() as found:
        source.open()
    return found.all


def test_a_field_on_the_faces_of_cells_is_named_and_nothing_else(staggered: Path) -> None:
    (one,) = assumed(CF(paths=(str(staggered),)))
    assert (one.code, one.field) == ("fields_not_read", "u")
    assert "u is on (time, lat, lon_u), not on the grid of (lat, lon)" in one.text


def test_who_names_the_fields_knows_what_is_left_out(staggered: Path) -> None:
    assert assumed(CF(paths=(str(staggered),), variables=("t",))) == ()


def test_a_field_without_units_is_said_to_be_taken_as_dimensionless(staggered: Path, tmp_path: Path) -> None:
    with xr.open_dataset(staggered, engine="h5netcdf") as ds:
        del ds["t"].attrs["units"]
        ds[["t"]].to_netcdf(tmp_path / "bare.nc", engine="h5netcdf")
    (one,) = assumed(CF(paths=(str(tmp_path / "bare.nc"),)))
    assert (one.code, one.field) == ("units_missing", "t")


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
@pytest.mark.filterwarnings("ignore:The data type")  # zarr-python warns of text
def test_text_on_the_grid_is_named(tmp_path: Path, suffix: str) -> None:
    ds = weather("t").assign(flag=(("time", "lat", "lon"), np.full((4, 5, 6), "dry")), crs=((), "wgs84"))
    with collect() as assumed:
        CF(paths=save(ds, tmp_path / f"a.{suffix}")).open()
    assert [(one.code, one.field) for one in assumed.all] == [("fields_not_read", "flag")]


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_groups_are_named_with_the_way_to_read_them(tmp_path: Path, suffix: str) -> None:
    def write(ds: xr.Dataset, path: Path, **options: Any) -> None:
        if suffix == "zarr":
            ds.to_zarr(path, consolidated=False, **options)
        else:
            ds.to_netcdf(path, engine="h5netcdf", **options)

    both, path = weather("u"), tmp_path / f"a.{suffix}"
    write(weather("t"), path)
    write(both, path, group="forecast/late", mode="a")
    with collect() as assumed:
        assert list(CF(paths=str(path)).open()) == ["t"]
    (one,) = assumed.all
    assert one.code == "fields_not_read"
    assert "not its groups /forecast/late" in one.text
    write(both, tmp_path / f"b.{suffix}", group="late", mode="w")
    with pytest.raises(DataError, match=rf"b\.{suffix}: its root holds no variables, but groups do: /late; "):
        CF(paths=str(tmp_path / f"b.{suffix}")).open()
    if suffix == "zarr":
        np.testing.assert_array_equal(CF(paths=f"{path}/forecast/late").open().u[0], both.u)


@pytest.mark.parametrize("suffix", ["nc", "nc3", "zarr"])
def test_a_file_without_variables_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=rf"a\.{suffix}: holds no variables"):
        CF(paths=save(xr.Dataset(), tmp_path / f"a.{suffix}")).open()
