"""WeatherBench 2 and ARCO-ERA5: names, orders of axes, valid times, starts and lead times."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.weatherbench import WeatherBench
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)
START = np.datetime64("2020-01-01T00", "ns")
SIX_HOURS = np.timedelta64(6, "h")


def coarse(times: int = 4) -> xr.Dataset:
    """As WeatherBench 2 stores it: longitude before latitude, latitudes ascending, no attributes of axes."""

    def field(*levels: int) -> np.ndarray:
        return RNG.normal(size=(times, *levels, 8, 5)).astype("f4")

    axes = ("time", "longitude", "latitude")
    return xr.Dataset(
        {
            "2m_temperature": (axes, field(), {"units": "K", "standard_name": "air_temperature"}),
            "temperature": (
                ("time", "level", "longitude", "latitude"),
                field(2),
                {"units": "K", "standard_name": "air_temperature"},
            ),
            "land_sea_mask": (("longitude", "latitude"), field()[0]),
        },
        {
            "time": START + np.arange(times) * SIX_HOURS,
            "level": np.array([500, 850]),
            "longitude": np.arange(8) * 45.0,
            "latitude": np.linspace(-90, 90, 5),
        },
    )


def save(ds: xr.Dataset, path: Path, **more: Any) -> str:
    ds.to_zarr(path, zarr_format=2, consolidated=True, **more)
    return str(path)


class TestWeatherBench(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        return WeatherBench(paths=save(coarse(), tmp_path_factory.mktemp("wb") / "era5-8x5.zarr"))

    def vital(self, path: Path) -> Path:
        return path / "2m_temperature/0.0.0"


def test_fields_keep_their_names_and_come_out_as_latitude_by_longitude(tmp_path: Path) -> None:
    given = coarse()
    path = save(given, tmp_path / "a.zarr")
    ds = WeatherBench(paths=path).open()
    for name, axes in (
        ("temperature", ("time", "level")),
        ("2m_temperature", ("time",)),
        ("land_sea_mask", ()),
    ):
        expected = given[name].transpose(*axes, "latitude", "longitude")
        np.testing.assert_array_equal(ds[name].squeeze("trajectory") if axes else ds[name], expected)
    assert (float(ds.y[0]), ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == (
        -90,
        "pole,pole",
        "periodic,periodic",
    )
    turned = WeatherBench(paths=path, latitude="descending").open()
    np.testing.assert_array_equal(turned.temperature, ds.temperature[..., ::-1, :])
    assert float(turned.y[0]) == 90


def test_arco_is_cut_to_its_valid_times(tmp_path: Path) -> None:
    given = coarse(times=12).transpose(..., "latitude", "longitude").isel(latitude=slice(None, None, -1))
    given["2m_temperature"][:2] = np.nan
    given.attrs = {"valid_time_start": "2020-01-01T12", "valid_time_stop": "2020-01-02"}
    ds = WeatherBench(paths=save(given, tmp_path / "a.zarr")).open()
    np.testing.assert_array_equal(ds.time, given.time[2:8])
    given.attrs["valid_time_stop"] = "2020-01-02T06"
    ds = WeatherBench(paths=save(given, tmp_path / "hour.zarr")).open()
    np.testing.assert_array_equal(ds.time, given.time[2:6])
    assert np.isfinite(ds["2m_temperature"]).all()
    given.attrs["valid_time_start"] = "2021-01-01"
    with pytest.raises(DataError, match=r"b\.zarr: no time lies between valid_time_start"):
        WeatherBench(paths=save(given, tmp_path / "b.zarr")).open()


def test_each_start_of_a_forecast_is_a_trajectory_over_lead_times(tmp_path: Path) -> None:
    leads = np.arange(3) * SIX_HOURS
    given = coarse(times=4).expand_dims(prediction_timedelta=leads, axis=1)
    given = given + xr.DataArray(np.arange(3.0, dtype="f4"), dims="prediction_timedelta")
    given.prediction_timedelta.encoding = {"units": "hours", "dtype": "i8"}
    path = save(given[["2m_temperature", "temperature"]], tmp_path / "a.zarr")
    ds = WeatherBench(paths=path).open()
    assert dict(ds.sizes) == {"trajectory": 4, "time": 3, "level": 2, "y": 5, "x": 8}
    np.testing.assert_array_equal(ds.time, [0, 6, 12])
    assert (ds.time.attrs["units"], str(ds.trajectory.values[1])) == ("h", "2020-01-01T06:00")
    expected = given.temperature.transpose("time", "prediction_timedelta", "level", "latitude", "longitude")
    np.testing.assert_array_equal(ds.temperature, expected)


def test_members_of_an_ensemble_are_asked_about(tmp_path: Path) -> None:
    given = coarse()[["2m_temperature"]].expand_dims(number=[0, 1])
    with pytest.raises(DataError, match="2m_temperature has 2 values along number"):
        WeatherBench(paths=save(given, tmp_path / "a.zarr")).open()
    ds = WeatherBench(paths=str(tmp_path / "a.zarr"), axes={"trajectory": "number"}).open()
    np.testing.assert_array_equal(ds.trajectory, [0, 1])
