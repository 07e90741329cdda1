"""Valid times: forecasts of one lead time are dated by when they are valid, never by when they start."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.formats.weather_archive import HOUR, save, weather

REFERENCE = {"standard_name": "forecast_reference_time"}
PERIOD = {"standard_name": "forecast_period"}


def _forecast(step: object, **time: str) -> xr.Dataset:
    """Hourly starts, and lead times beside them as cfgrib's files have them."""
    ds = weather("t")
    ds.time.attrs.update(time)
    return ds.assign_coords(step=step)


def _hours(value: float) -> xr.DataArray:
    return xr.DataArray(value, attrs=PERIOD | {"units": "hours"})


@pytest.mark.parametrize("suffix", ["nc", "nc3", "zarr"])
def test_a_fixed_step_moves_dates_to_when_fields_are_valid(tmp_path: Path, suffix: str) -> None:
    ds = _forecast(_hours(6), **REFERENCE)
    with collect() as assumed:
        found = CF(paths=save(ds, tmp_path / f"a.{suffix}")).open()
    np.testing.assert_array_equal(found.time, ds.time + 6 * HOUR)
    np.testing.assert_array_equal(found.t[0], ds.t)
    assert [one.code for one in assumed.all] == ["times"]


@pytest.mark.parametrize("step", [np.timedelta64(6, "h"), np.timedelta64(360, "m")])
def test_steps_as_xarray_stores_them_are_understood(tmp_path: Path, step: np.timedelta64) -> None:
    ds = _forecast(step.astype("m8[ns]"), **REFERENCE)
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    np.testing.assert_array_equal(found.time, ds.time + 6 * HOUR)


def test_a_dimension_of_one_step_is_a_fixed_step(tmp_path: Path) -> None:
    ds = _forecast(_hours(6), **REFERENCE).expand_dims("step", 1)
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    assert found.sizes["trajectory"] == 1
    np.testing.assert_array_equal(found.time, ds.time + 6 * HOUR)


def test_steps_that_differ_from_date_to_date_move_each_date(tmp_path: Path) -> None:
    ds = _forecast(("time", [6.0, 7.0, 8.0, 9.0], PERIOD | {"units": "hours"}), **REFERENCE)
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    np.testing.assert_array_equal(found.time, ds.time + np.array([6, 7, 8, 9]) * HOUR)


def test_the_files_own_valid_times_are_taken(tmp_path: Path) -> None:
    ds = _forecast(_hours(6), **REFERENCE)
    ds = ds.assign_coords(valid_time=("time", (ds.time + 6 * HOUR).values, {"standard_name": "time"}))
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    np.testing.assert_array_equal(found.time, ds.valid_time)


def test_a_single_forecast_is_valid_after_its_start(tmp_path: Path) -> None:
    for i in range(3):
        save(_forecast(_hours(6), **REFERENCE).isel(time=i), tmp_path / f"a{i}.nc")
    found = CF(paths=f"{tmp_path}/a*.nc").open()
    np.testing.assert_array_equal(found.time, weather("t").time[:3] + 6 * HOUR)


@pytest.mark.parametrize("time", [{}, {"long_name": "initial time"}])
def test_dates_that_could_be_starts_or_not_are_asked_about(tmp_path: Path, time: dict[str, str]) -> None:
    ds = _forecast(_hours(6), **time)
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(
        DataError, match=r"a\.nc: are the dates in time the starts of forecasts.*6 h.*dates: start"
    ):
        CF(paths=path).open()
    np.testing.assert_array_equal(CF(paths=path, dates="start").open().time, ds.time + 6 * HOUR)
    np.testing.assert_array_equal(CF(paths=path, dates="valid").open().time, ds.time)


def test_valid_times_and_steps_of_nothing_are_left_alone(tmp_path: Path) -> None:
    valid = _forecast(_hours(6), standard_name="time")
    analysis = _forecast(_hours(0), **REFERENCE)
    iterations = _forecast(("time", [100, 200, 300, 400]))
    for i, ds in enumerate((valid, analysis, _forecast(_hours(0)), iterations)):
        with collect() as assumed:
            found = CF(paths=save(ds, tmp_path / f"{i}.nc")).open()
        np.testing.assert_array_equal(found.time, ds.time)
        assert assumed.all == ()


def test_analyses_and_forecasts_at_other_dates_are_not_put_side_by_side(tmp_path: Path) -> None:
    save(weather("q"), tmp_path / "an.nc")
    save(_forecast(_hours(6), **REFERENCE), tmp_path / "fc.nc")
    with pytest.raises(DataError, match=r"an\.nc and .*fc\.nc differ in time"):
        CF(paths=f"{tmp_path}/*.nc").open()


def _lead_times(ds: xr.Dataset, start: int) -> xr.Dataset:
    """One forecast of four hours."""
    steps = ("step", np.arange(ds.sizes["time"]), PERIOD | {"units": "hours"})
    return (
        ds.rename(time="step")
        .assign_coords(step=steps)
        .assign_coords(time=xr.DataArray(weather("t").time.values[0] + start * 24 * HOUR, attrs=REFERENCE))
    )


def test_a_file_for_each_start_becomes_a_trajectory_for_each_start(tmp_path: Path) -> None:
    days = [_lead_times(weather("t"), day) for day in range(3)]
    for day, ds in enumerate(days):
        save(ds, tmp_path / f"{day}.nc")
    found = CF(paths=f"{tmp_path}/*.nc").open()
    assert found.trajectory.values.tolist() == [f"2020-01-0{day}T00:00" for day in (1, 2, 3)]
    np.testing.assert_array_equal(found.time, [0, 1, 2, 3])
    np.testing.assert_array_equal(found.start, [ds.time.values for ds in days])
    for day, ds in enumerate(days):
        np.testing.assert_array_equal(found.t[day], ds.t)


def test_files_of_several_starts_each_are_joined_along_the_starts(tmp_path: Path) -> None:
    both = xr.concat([_lead_times(weather("t"), day) for day in range(4)], "time")
    for i in range(2):
        save(both.isel(time=slice(2 * i, 2 * i + 2)), tmp_path / f"{i}.nc")
    found = CF(paths=f"{tmp_path}/*.nc").open()
    np.testing.assert_array_equal(found.start, both.time)
    np.testing.assert_array_equal(found.t, both.t)
    save(both.isel(time=slice(1, 3)), tmp_path / "2.nc")
    with pytest.raises(DataError, match="overlap"):
        CF(paths=f"{tmp_path}/*.nc").open()
