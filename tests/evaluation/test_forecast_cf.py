"""What is written is CF: dates, durations and axes mean the same to any reader."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.forecast_cf import duration_attrs
from pelagos.evaluation.forecast_zarr import read_forecasts, write_forecast


def forecast(units: str, starts: list[str], leads: list[float]) -> xr.Dataset:
    dims = ("trajectory", "start", "lead_time", "y", "x")
    coords = {
        "trajectory": [0],
        "start": np.arange(len(starts)),
        "lead_time": ("lead_time", np.array(leads), {"units": units}),
        "y": ("y", [10.0, 0.0], {"units": "degrees_east"}),
        "x": ("x", [0.0, 90.0, 180.0], {"units": "degrees_east"}),
        "initial_time": ("start", np.arange(len(starts)) * 3600.0, {"units": units}),
        "forecast_reference_time": ("start", np.array(starts, "datetime64[s]")),
    }
    values = np.zeros((1, len(starts), len(leads), 2, 3), np.float32)
    attrs = {"grid": "latlon", "boundary_y": "open,open", "boundary_x": "open,open", "dataset": "weather"}
    field = {"units": "K", "group": "t", "long_name": "air temperature"}
    return xr.Dataset({"t": (dims, values, field)}, coords, attrs)


def opened(path: Path) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found: xr.Dataset = xr.open_zarr(path, chunks=None).load()
    return found


def test_other_readers_find_dates_and_durations(tmp_path: Path) -> None:
    made = forecast("s", ["2020-02-28T18:00", "2020-02-29T00:00"], [21600.0, 43200.0])
    write_forecast(made, tmp_path / "f.zarr")
    found = opened(tmp_path / "f.zarr")
    assert found.attrs["Conventions"].startswith("CF-")
    assert found["lead_time"].values.tolist() == [np.timedelta64(6, "h"), np.timedelta64(12, "h")]
    assert found["lead_time"].attrs["standard_name"] == "forecast_period"
    assert found["forecast_reference_time"].values[0] == np.datetime64("2020-02-28T18:00")
    valid = found["time"]
    assert valid.dims == ("start", "lead_time")
    expected = found["forecast_reference_time"] + found["lead_time"]
    np.testing.assert_array_equal(valid.values, expected.values)
    names = {axis: (found[axis].attrs["standard_name"], found[axis].attrs["units"]) for axis in ("y", "x")}
    assert names == {"y": ("latitude", "degrees_north"), "x": ("longitude", "degrees_east")}
    assert set(found["t"].coords) == set(found.coords)


@pytest.mark.parametrize("units", ["s", "h", "1", "months", "m"])
def test_in_memory_they_are_as_before(units: str, tmp_path: Path) -> None:
    made = forecast(units, ["2020-01-01"], [1.0, 2.0])
    write_forecast(made, tmp_path / "f.zarr")
    xr.testing.assert_identical(read_forecasts(tmp_path / "f.zarr").load(), made)
    opened(tmp_path / "f.zarr")


def test_months_lead_to_dates_of_the_calendar(tmp_path: Path) -> None:
    write_forecast(forecast("months", ["2019-12-16"], [1.0, 2.0]), tmp_path / "f.zarr")
    found = opened(tmp_path / "f.zarr")
    assert found["time"].values[0].astype("datetime64[D]").astype(str).tolist() == [
        "2020-01-16",
        "2020-02-16",
    ]
    assert found["lead_time"].values.tolist() == [1.0, 2.0]


def test_durations_that_nanoseconds_would_round_stay_numbers() -> None:
    assert duration_attrs(np.array([1e-9]), "s") == {"units": "s"}
    assert duration_attrs(np.array([0.02]), "s") == {"units": "seconds", "dtype": "timedelta64[ns]"}
    assert duration_attrs(np.array([1e9]), "days") == {"units": "days", "dtype": "timedelta64[s]"}
    assert duration_attrs(np.array([1.0]), "1") == {"units": "1"}
