"""Sums since the start of a forecast or a day become sums of each step."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.fields.field_options import FieldOptions, Subset
from pelagos.preprocessing.fields.field_reader import FieldReader
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.sources.formats.cf import CF

# Multiples of a power of two: sums of them are exact in float32.
RATES = np.random.default_rng(0).integers(0, 64, size=(2, 48, 3, 4)) / 8


def rain(path: Path, sums: Any, times: Any, units: str = "", attrs: Any = None) -> CF:
    """Sums of (start, time, y, x): forecasts over lead times where there are units, else one series of dates."""
    lat = ("lat", [10.0, 20, 30], {"units": "degrees_north"})
    lon = ("lon", [0.0, 10, 20, 30], {"units": "degrees_east"})
    attrs = {"units": "m"} | (attrs or {})
    if units:
        starts = np.array(["2020-01-01", "2020-01-02"], "M8[ns]")
        coords = {"time": starts, "step": ("step", times, {"units": units}), "lat": lat, "lon": lon}
        ds = xr.Dataset({"tp": (("time", "step", "lat", "lon"), sums.astype(np.float32), attrs)}, coords)
    else:
        ds = xr.Dataset(
            {"tp": (("time", "lat", "lon"), sums[0].astype(np.float32), attrs)},
            {"time": times, "lat": lat, "lon": lon},
        )
    ds.to_netcdf(path, engine="h5netcdf")
    return CF(paths=str(path))


def fields(source: CF, rule: Any, **subset: Any) -> FieldReader:
    return select_fields(source.open(), FieldOptions(deaccumulate={"tp": rule}, subset=Subset(**subset)))


def values(found: FieldReader) -> Any:
    return found.read(slice(0, found.num_trajectories), slice(0, len(found.axis)))[:, :, 0]


def hourly(first: str, num: int = 48) -> Any:
    return np.datetime64(first, "ns") + np.arange(num) * np.timedelta64(1, "h")


def daily_sums(first_hour: int) -> Any:
    """Sums since 00 UTC of hourly rates, as ERA5-Land keeps them: the one of 00 UTC is the whole day before."""
    hours = first_hour + np.arange(48)
    sums = np.zeros((1, 48, 3, 4))
    for i, hour in enumerate(hours):
        since = hours > 24 * (np.ceil(hour / 24) - 1)
        sums[0, i] = RATES[0][since & (hours <= hour)].sum(axis=0)
    return sums


def test_sums_since_the_start_of_forecasts_become_sums_of_steps(tmp_path: Path) -> None:
    source = rain(tmp_path / "a.nc", RATES.cumsum(axis=1), np.arange(1.0, 49), "hours")
    with collect() as found:
        selected = fields(source, "start")
    assert np.array_equal(values(selected), RATES)
    assert "sums since the start of each forecast became sums of each step of 1 h" in found.all[-1].text
    # A part in the middle, as a worker reads it, and one frame alone.
    assert np.array_equal(selected.read(slice(1, 2), slice(20, 30))[0, :, 0], RATES[1, 20:30])
    assert np.array_equal(selected.read(slice(1, 2), slice(7, 8))[0, :, 0], RATES[1, 7:8])


def test_the_first_lead_time_may_be_zero(tmp_path: Path) -> None:
    sums = np.concatenate([np.zeros((2, 1, 3, 4)), RATES.cumsum(axis=1)], axis=1)
    found = values(fields(rain(tmp_path / "a.nc", sums, np.arange(49.0) * 60, "minutes"), "start"))
    assert np.array_equal(found[:, 1:], RATES)
    assert not found[:, 0].any()


def test_longer_steps_are_sums_over_the_frames_between(tmp_path: Path) -> None:
    source = rain(tmp_path / "a.nc", RATES.cumsum(axis=1), np.arange(1.0, 49), "hours")
    found = fields(source, "start", every=6, time=(5, None))  # lead times 6 h, 12 h and so on
    assert found.axis.tolist() == list(range(6, 49, 6))
    assert np.array_equal(values(found), RATES.reshape(2, 8, 6, 3, 4).sum(axis=2))


@pytest.mark.parametrize("rule", ["day", 24, {"reset_hours": 24.0}])
def test_sums_of_days_begin_anew_after_midnight(tmp_path: Path, rule: Any) -> None:
    source = rain(tmp_path / "a.nc", daily_sums(1), hourly("2020-01-01T01"))
    assert np.array_equal(values(fields(source, rule)), RATES[:1])


def test_a_subset_begins_with_the_frame_before_it(tmp_path: Path) -> None:
    source = rain(tmp_path / "a.nc", daily_sums(1), hourly("2020-01-01T01"))
    found = fields(source, "day", time=("2020-01-01T05", "2020-01-02T03"))
    assert np.array_equal(values(found), RATES[:1, 4 : 4 + len(found.axis)])


def test_a_first_frame_that_nothing_precedes_is_asked_about(tmp_path: Path) -> None:
    source = rain(tmp_path / "a.nc", daily_sums(5), hourly("2020-01-01T05"))
    with pytest.raises(
        ConfigError, match=r"deaccumulate.tp: .*2020-01-01T05.* begin one frame later by subset.time"
    ):
        fields(source, "day")
    assert np.array_equal(values(fields(source, "day", time=(1, None))), RATES[:1, 1:])


def test_steps_across_a_reset_are_refused(tmp_path: Path) -> None:
    source = rain(tmp_path / "a.nc", daily_sums(1), hourly("2020-01-01T01"))
    with pytest.raises(ConfigError, match=r"begin anew within it.*subset.every"):
        fields(source, "day", every=5, time=(4, None))


def test_when_sums_begin_must_be_known(tmp_path: Path) -> None:
    dated = rain(tmp_path / "a.nc", daily_sums(1), hourly("2020-01-01T01"))
    with pytest.raises(ConfigError, match="not known when forecasts start; day, or reset_hours"):
        fields(dated, "start")
    with pytest.raises(ValidationError, match="either since: start or day, or reset_hours"):
        FieldOptions(deaccumulate={"tp": {"negative": "zero"}})
    with pytest.raises(ConfigError, match="deaccumulate: no field 'sp'; there are"):
        select_fields(dated.open(), FieldOptions(deaccumulate={"sp": "day"}))


def test_negative_sums_of_steps_are_told_and_kept_or_made_zero(tmp_path: Path) -> None:
    sums = RATES.cumsum(axis=1)
    sums[0, 9, 1, 2] -= 100
    source = rain(tmp_path / "a.nc", sums, np.arange(1.0, 49), "hours")
    with collect() as found:
        kept = values(fields(source, "start"))
    assert kept.min() == RATES[0, 9, 1, 2] - 100
    assert "1 sums of steps are negative, down to" in found.all[-1].text
    zero = values(fields(source, {"since": "start", "negative": "zero"}))
    assert zero[0, 9, 1, 2] == 0
    assert np.array_equal(np.maximum(kept, 0), zero)


def test_forecasts_whose_attributes_say_sum_are_told_where_they_are_kept(tmp_path: Path) -> None:
    source = rain(tmp_path / "a.nc", RATES, np.arange(1.0, 49), "hours", {"cell_methods": "time: sum"})
    with collect() as found:
        select_fields(source.open(), FieldOptions())
    assert [(one.code, one.field, one.answer[:25]) for one in found.all if one.code == "accumulation"] == [
        ("accumulation", "tp", "deaccumulate: {tp: start}")
    ]
    with collect() as found:
        fields(source, "start")
    assert len([one for one in found.all if one.code == "accumulation"]) == 1


@pytest.mark.parametrize(
    ("options", "role"),
    [({}, "prognostic"), ({"deaccumulate": {"tp": "day"}}, "diagnostic")],
)
def test_sums_beside_other_fields_are_diagnostics_unless_told(
    tmp_path: Path, options: Any, role: str
) -> None:
    source = rain(tmp_path / "f.nc", daily_sums(1), hourly("2020-01-01T01"))
    ds = source.open()
    ds = ds.assign(t2m=ds["tp"].variable.copy())
    with collect() as told:
        found = select_fields(ds, FieldOptions.model_validate(options))
    assert {one.source: one.variable.role for one in found.state} == {"t2m": "prognostic", "tp": role}
    assert ("tp as output" in [one.field for one in told.all]) == (role == "diagnostic")
    kept = select_fields(ds, FieldOptions.model_validate(options | {"roles": {"tp": "prognostic"}}))
    assert [one.variable.role for one in kept.state] == ["prognostic", "prognostic"]


def test_attributes_that_say_sum_make_diagnostics_too(tmp_path: Path) -> None:
    source = rain(
        tmp_path / "f.nc", daily_sums(1), hourly("2020-01-01T01"), attrs={"cell_methods": "time: sum"}
    )
    ds = source.open()
    alone = select_fields(ds, FieldOptions())
    assert [one.variable.role for one in alone.state] == ["prognostic"]
    plain = ds["tp"].variable.copy()
    plain.attrs = {key: value for key, value in plain.attrs.items() if key != "cell_methods"}
    found = select_fields(ds.assign(t2m=plain), FieldOptions())
    assert {one.source: one.variable.role for one in found.state} == {"t2m": "prognostic", "tp": "diagnostic"}
