"""Times of CF files become dates in any calendar, and what storing them rounded is put back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.inspection.proposal import propose
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import open_store
from pelagos.preprocessing.store.xarray_view import xarray_view
from tests.preprocessing.sources.formats.weather_archive import save, weather

SUFFIXES = [".nc", ".nc3", ".zarr"]


def timed(times: Any, units: str, **attrs: Any) -> xr.Dataset:
    """Fields at times given as they are stored."""
    return weather("t", times=len(times)).assign_coords(time=("time", times, {"units": units, **attrs}))


def built(path: str, root: Path, **options: Any) -> Path:
    values = {"dataset": "a", "root": root, "source": {"kind": "cf", "paths": path}, **options}
    return build(BuildConfig.model_validate(values))


def texts(axis: Any) -> list[str]:
    return [str(one).replace(" ", "T")[:19] for one in axis.values]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("calendar", "end"),
    [
        ("noleap", "2020-03-01"),
        ("360_day", "2020-02-30"),
        ("julian", "2020-02-29"),
        ("all_leap", "2020-02-29"),
    ],
)
def test_calendars_of_climate_models_are_read(tmp_path: Path, suffix: str, calendar: str, end: str) -> None:
    ds = timed(np.arange(60.0), "days since 2020-01-01", calendar=calendar)
    found = CF(paths=save(ds, tmp_path / f"a{suffix}")).open()
    assert texts(found.time)[59][:10] == end
    np.testing.assert_array_equal(found.t[0], ds.t)


@pytest.mark.parametrize("calendar", ["noleap", "360_day", "julian"])
def test_a_store_keeps_the_calendar_and_splits_by_its_dates(tmp_path: Path, calendar: str) -> None:
    ds = timed(np.arange(0, 60, 0.25), "days since 2020-02-01", calendar=calendar)
    path = built(
        save(ds, tmp_path / "a.nc"),
        tmp_path,
        splits={"kind": "time", "train": [None, "2020-03-01"], "test": ["2020-03-01T06", None]},
        forcings=["cos_year", "sin_local_time"],
    )
    assert verify(path) == []
    store, view = open_store(path), xarray_view(open_store(path))
    days = {"noleap": 28, "360_day": 30, "julian": 29}[calendar]
    assert store.splits["train"].sum() == 4 * days
    assert store.splits["test"].sum() == 240 - 4 * days - 1
    assert (store.dt, store.time_units) == (21600, "s")
    assert view.time.values[0].calendar == calendar
    assert texts(view.time)[4 * days] == "2020-03-01T00:00:00"
    assert "accepts this as it is" in propose(tmp_path / "a.nc")
    assert "time step   21600 s" in inspect(path)


def test_a_calendar_is_told_and_a_date_that_it_lacks_refused(tmp_path: Path) -> None:
    path = save(timed(np.arange(90.0), "days since 2020-01-01", calendar="noleap"), tmp_path / "a.nc")
    with collect() as found:
        CF(paths=path).open()
    assert any("a.nc: time is in the calendar noleap" in str(one) for one in found.all)
    with pytest.raises(ConfigError, match="'2020-02-29' is not"):
        built(path, tmp_path, splits={"kind": "time", "train": [None, "2020-02-29"]})


def test_files_of_two_calendars_are_not_joined(tmp_path: Path) -> None:
    save(timed(np.arange(4.0), "days since 2020-01-01", calendar="noleap"), tmp_path / "a.nc")
    ds = timed(np.arange(4.0), "days since 2020-01-01", calendar="standard").rename(t="u")
    save(ds, tmp_path / "b.nc")
    with pytest.raises(DataError, match=r"a\.nc and .*b\.nc differ in their calendars: noleap and proleptic"):
        CF(paths=f"{tmp_path}/*.nc").open()


def test_files_of_a_climate_model_are_joined_in_time(tmp_path: Path) -> None:
    for name, start in (("b", 0), ("a", 4)):
        save(
            timed(np.arange(start, start + 4.0), "days since 0001-02-26", calendar="noleap"),
            tmp_path / f"{name}.nc",
        )
    found = CF(paths=f"{tmp_path}/*.nc").open()
    assert [text[:10] for text in texts(found.time)[2:5]] == ["0001-02-28", "0001-03-01", "0001-03-02"]


@pytest.mark.parametrize("calendar", ["standard", "gregorian", "proleptic_gregorian"])
@pytest.mark.parametrize("start", ["0001-01-01", "1-1-1 00:00:00"])
def test_days_since_year_1_are_dates_of_today(tmp_path: Path, calendar: str, start: str) -> None:
    numbers = {"proleptic_gregorian": 737424.0}.get(calendar, 737426.0)
    ds = timed(numbers + np.arange(4), f"days since {start}", calendar=calendar)
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    np.testing.assert_array_equal(found.time, np.array("2020-01-01", "M8[D]") + np.arange(4))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("since", "start"), [("2000-01-01", 7305), ("1900-01-01", 43829)])
def test_hours_as_days_in_single_precision_are_hours_again(
    tmp_path: Path, suffix: str, since: str, start: int
) -> None:
    stored = (start + np.arange(96) / 24).astype("f4")
    assert (np.diff(stored.astype(float)) * 24 != 1).any()
    found = CF(paths=save(timed(stored, f"days since {since}"), tmp_path / f"a{suffix}")).open()
    np.testing.assert_array_equal(found.time, np.datetime64("2020-01-01T00") + np.arange(96))


def test_hours_that_single_precision_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    """Of 17.7 million hours only every other one has a number of its own."""
    path = save(timed((24 * 737426 + np.arange(8)).astype("f4"), "hours since 0001-01-01"), tmp_path / "a.nc")
    with pytest.raises(DataError, match="time does not increase"):
        CF(paths=path).open()


def test_rounding_that_could_hide_a_difference_is_left_alone(tmp_path: Path) -> None:
    """In float32 days since 2000 are 42 s apart: steps of 1 minute cannot be told from uneven ones."""
    ds = timed((7305 + np.arange(30) / 1440).astype("f4"), "days since 2000-01-01")
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"whole seconds|not evenly spaced"):
        built(path, tmp_path)


def test_rounded_times_are_told_with_their_precision(tmp_path: Path) -> None:
    path = save(timed((7305 + np.arange(48) / 24).astype("f4"), "days since 2000-01-01"), tmp_path / "a.nc")
    with collect() as found:
        CF(paths=path).open()
    assert any("a.nc: time is stored in float32, which is precise to 42.2 s" in str(one) for one in found.all)


def test_a_gap_in_single_precision_stays_a_gap(tmp_path: Path) -> None:
    hours = np.array([0, 1, 2, 5, 6, 7])
    ds = timed((7305 + hours / 24).astype("f4"), "days since 2000-01-01")
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    np.testing.assert_array_equal(found.time, np.datetime64("2020-01-01T00") + hours)


def test_packed_times_are_unpacked_before_they_are_dated(tmp_path: Path) -> None:
    ds = timed(np.arange(4, dtype="i2"), "days since 2020-01-01", scale_factor=0.25)
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    np.testing.assert_array_equal(found.time, np.datetime64("2020-01-01T00") + 6 * np.arange(4))


@pytest.mark.parametrize(
    ("units", "step", "end"),
    [("months since 1979-01-01", 1, "1982-12-01"), ("years since 1979-07-01", 12, "2026-07-01")],
)
def test_months_and_years_are_those_of_the_calendar(tmp_path: Path, units: str, step: int, end: str) -> None:
    ds = timed(np.arange(48), units)
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    assert texts(found.time)[-1][:10] == end
    path = built(
        save(ds, tmp_path / "a.nc"), tmp_path, splits={"kind": "time", "train": [None, "1980-01-01"]}
    )
    store = open_store(path)
    assert (store.dt, store.time_units) == (step, "months")
    assert store.splits["train"].sum() == 12 // step
    assert verify(path) == []


def test_monthly_means_are_counted_in_months_and_keep_their_dates(tmp_path: Path) -> None:
    middle = np.array([15.5, 45, 74.5, 105, 135.5, 166])  # as CMIP dates them, in a year without 29 February
    ds = timed(middle, "days since 1850-01-01", calendar="noleap")
    path = built(save(ds, tmp_path / "a.nc"), tmp_path, forcings=["cos_year"])
    store = open_store(path)
    np.testing.assert_array_equal(store.times, np.arange(6))
    assert store.time_units == "months"
    raw = xr.open_zarr(path, chunks=None, decode_timedelta=False)
    assert texts(raw["date"]) == [
        "1850-01-16T12:00:00",
        "1850-02-15T00:00:00",
        "1850-03-16T12:00:00",
        "1850-04-16T00:00:00",
        "1850-05-16T12:00:00",
        "1850-06-16T00:00:00",
    ]
    forcing = [variable.key for variable in store.variables].index("cos_year")
    np.testing.assert_allclose(
        store.read(0, 0, 6)[:, forcing, 0, 0], np.cos(2 * np.pi * middle / 365), rtol=1e-6
    )


def test_the_absolute_times_of_cdo_are_dates(tmp_path: Path) -> None:
    ds = timed(np.array([20200131.0, 20200131.25, 20200131.5, 20200131.75, 20200201.0]), "day as %Y%m%d.%f")
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    np.testing.assert_array_equal(found.time, np.datetime64("2020-01-31T00") + 6 * np.arange(5))


@pytest.mark.parametrize(
    ("units", "calendar"), [("hours since launch", "standard"), ("days since 2000-01-01", "none")]
)
def test_times_of_which_no_dates_can_be_made_are_refused_in_our_words(
    tmp_path: Path, units: str, calendar: str
) -> None:
    path = save(timed(np.arange(4), units, calendar=calendar), tmp_path / "a.nc")
    with pytest.raises(
        DataError, match=rf"a\.nc: time counts '{units}' in the calendar '{calendar}'"
    ) as error:
        CF(paths=path).open()
    assert "decode_times" not in str(error.value)


def test_a_file_without_frames_is_said_to_have_none(tmp_path: Path) -> None:
    path = save(timed(np.arange(0), "hours since 2000-01-01"), tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"a\.nc: time has no entries, so there are no fields to read"):
        CF(paths=path).open()


def test_what_is_no_axis_need_not_be_a_date(tmp_path: Path) -> None:
    ds = weather("t").assign(launch=((), 3.0, {"units": "days since launch"}))
    assert set(CF(paths=save(ds, tmp_path / "a.nc")).open()) == {"t"}


@pytest.mark.parametrize("form", ["2020-01-0{}T06:00", "2020-01-0{} 06:00:00Z", "2020-01-0{}_06:00:00"])
def test_dates_written_as_texts_are_read(tmp_path: Path, form: str) -> None:
    """As a coordinate, or as WRF's Times beside a dimension without one."""
    texts = [form.format(day) for day in range(1, 5)]
    ds = weather("t").drop_vars("time")
    wanted = np.array([f"2020-01-0{day}T06" for day in range(1, 5)], "M8[ns]")
    own = save(ds.assign_coords(time=texts), tmp_path / "own.nc")
    np.testing.assert_array_equal(CF(paths=own).open().time, wanted)
    beside = ds.rename(time="Time").assign(Times=("Time", np.array(texts, "S")))
    np.testing.assert_array_equal(CF(paths=save(beside, tmp_path / "wrf.nc")).open().time, wanted)
    spoilt = save(ds.assign_coords(time=["monday"] * 4), tmp_path / "spoilt.nc")
    with pytest.raises(DataError, match=r"spoilt\.nc: time holds texts such as 'monday'.* ISO"):
        CF(paths=spoilt).open()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("times", "units", "expected"),
    [
        ([20200130, 20200131, 20200201], "", ["2020-01-30", "2020-01-31", "2020-02-01"]),
        ([20200130.0, 20200131.0, 20200201.0], "1", ["2020-01-30", "2020-01-31", "2020-02-01"]),
        ([2020013118, 2020020100, 2020020106], "", ["2020-01-31T18", "2020-02-01T00", "2020-02-01T06"]),
        ([199912, 200001, 200002], "", ["1999-12-01", "2000-01-01", "2000-02-01"]),
    ],
)
def test_dates_by_their_digits_without_units_are_asked_about(
    tmp_path: Path, suffix: str, times: list[float], units: str, expected: list[str]
) -> None:
    dtype = np.float64 if suffix == ".nc3" else None  # netCDF-3 has no 64-bit integers
    with collect() as assumed:
        found = CF(paths=save(timed(np.array(times, dtype), units), tmp_path / f"a{suffix}")).open()
    np.testing.assert_array_equal(found.time, np.array(expected, "datetime64[s]"))
    assert ("times", "time", True) in {(one.code, one.field, one.question) for one in assumed.all}


def test_digits_that_say_what_they_are_need_no_answer(tmp_path: Path) -> None:
    for number, (times, units) in enumerate(
        [
            ([20200130, 20200131, 20200201], "YYYYMMDD"),
            ([20200130.0, 20200131.0, 20200201.0], "day as %Y%m%d.%f"),
            ([202001.0, 202002.0, 202003.0], "month as %Y%m.%f"),
        ]
    ):
        with collect() as assumed:
            found = CF(paths=save(timed(np.array(times), units), tmp_path / f"{number}.nc")).open()
        assert found.time.dtype.kind == "M"
        assert not any(one.question for one in assumed.all)


@pytest.mark.parametrize(
    "times", [[0, 1, 2], [1979, 1980, 1981], [20200131, 20200132, 20200133], [202013, 202014, 202015]]
)
def test_numbers_that_are_no_dates_stay_numbers(tmp_path: Path, times: list[int]) -> None:
    found = CF(paths=save(timed(np.array(times), ""), tmp_path / "a.nc")).open()
    np.testing.assert_array_equal(found.time, times)


@pytest.mark.parametrize("units", ["", "day as %Y%m%d.%f"])
def test_dates_in_digits_that_single_precision_cannot_hold_are_refused(tmp_path: Path, units: str) -> None:
    ds = timed(np.array([20200130, 20200132, 20200134]).astype("f4") - 4, units)
    with pytest.raises(DataError, match=r"a\.nc: time .*64 bits would be right"):
        CF(paths=save(ds, tmp_path / "a.nc")).open()


def test_a_named_time_zone_is_asked_about_and_an_offset_applied(tmp_path: Path) -> None:
    for number, (zone, question) in enumerate(
        [("CET", True), ("UTC", False), ("Z", False), ("+02:00", False)]
    ):
        ds = timed(np.arange(3), f"hours since 2020-01-01 00:00:00 {zone}")
        with collect() as assumed:
            found = CF(paths=save(ds, tmp_path / f"{number}.nc")).open()
        assert [one.question for one in assumed.all] == [True] * question
        first = np.datetime64("2019-12-31T22" if zone == "+02:00" else "2020-01-01T00", "ns")
        assert found.time.values[0] == first
