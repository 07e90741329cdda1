"""Joining of CF files: in one unit, at one level, and with static fields that agree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.store.store import Store, open_store
from tests.preprocessing.sources.formats.weather_archive import RNG, save, weather


def _two(folder: Path, one: xr.Dataset, two: xr.Dataset, suffix: str = "nc") -> CF:
    save(one, folder / f"y0.{suffix}")
    save(two, folder / f"y1.{suffix}")
    return CF(paths=f"{folder}/y*.{suffix}")


def _in(ds: xr.Dataset, units: str | None) -> xr.Dataset:
    attrs = {key: text for key, text in ds.t.attrs.items() if key != "units"}
    return ds.assign(t=(ds.t.dims, ds.t.values, attrs | ({"units": units} if units is not None else {})))


@pytest.mark.parametrize("suffix", ["nc", "nc3", "zarr"])
def test_a_field_in_kelvin_and_in_celsius_becomes_one_in_kelvin(tmp_path: Path, suffix: str) -> None:
    kelvin, celsius = weather("t") + 280, _in(weather("t", start=4), "degC")
    source = _two(tmp_path, _in(kelvin, "K"), celsius, suffix)
    with collect() as assumed:
        ds = source.open()
    assert ds.t.attrs["units"] == "K"
    np.testing.assert_array_equal(ds.t[0, :4], kelvin.t)
    np.testing.assert_allclose(ds.t[0, 4:], celsius.t.astype("f8") + 273.15, rtol=1e-6)
    (one,) = assumed.all
    assert one.code == "units_converted"
    assert "y1" in one.text
    assert "from degC to K" in one.text


@pytest.mark.parametrize("units", ["m s-1", "furlong", "C"])
def test_units_that_cannot_be_converted_are_refused_with_both_files(tmp_path: Path, units: str) -> None:
    source = _two(tmp_path, weather("t"), _in(weather("t", start=4), units))
    with pytest.raises(DataError, match=rf"y0\.nc has t in 'K' and .*y1\.nc in '{units}'.*correct the units"):
        source.open()


@pytest.mark.parametrize(
    ("one", "two"),
    [("m s-1", "m s**-1"), ("m/s", "m s^-1"), ("(0 - 1)", "1"), ("hPa", "mbar"), ("K", "Kelvin")],
)
def test_spellings_of_one_unit_are_the_same(tmp_path: Path, one: str, two: str) -> None:
    first, second = _in(weather("t"), one), _in(weather("t", start=4), two)
    with collect() as assumed:
        ds = _two(tmp_path, first, second).open()
    np.testing.assert_array_equal(ds.t[0, 4:], second.t)
    assert assumed.all == ()


def test_units_that_one_file_leaves_out_are_asked_about(tmp_path: Path) -> None:
    with collect() as assumed:
        ds = _two(tmp_path, weather("t"), _in(weather("t", start=4), None)).open()
    assert ds.t.attrs["units"] == "K"
    assert [(one.code, one.question) for one in assumed.all] == [("units_missing", True)]


def _on_levels(name: str, levels: list[float], units: str, standard: str = "air_pressure") -> xr.Dataset:
    ds = weather(name).expand_dims(level=levels, axis=1)
    ds.level.attrs.update(units=units, standard_name=standard)
    return ds


def test_levels_in_other_units_are_the_same_levels(tmp_path: Path) -> None:
    ds = _two(tmp_path, _on_levels("t", [500, 850], "hPa"), _on_levels("q", [50000, 85000], "Pa")).open()
    assert set(ds) == {"t", "q"}
    np.testing.assert_array_equal(ds.level, [500, 850])
    assert ds.level.attrs["units"] == "hPa"


@pytest.mark.parametrize(("units", "standard"), [("m", "height"), ("hPa", "height")])
def test_levels_of_other_kinds_are_refused_though_their_numbers_agree(
    tmp_path: Path, units: str, standard: str
) -> None:
    source = _two(tmp_path, _on_levels("t", [500, 850], "hPa"), _on_levels("q", [500, 850], units, standard))
    with pytest.raises(DataError, match=r"y0\.nc .*level.*y1\.nc"):
        source.open()


def test_times_without_dates_are_joined_in_one_unit(tmp_path: Path) -> None:
    files = []
    for units, times in (("h", np.arange(4.0)), ("s", 3600 * np.arange(4.0, 8))):
        ds = weather("t").drop_vars("time").assign_coords(time=("time", times, {"units": units}))
        files.append(ds)
    np.testing.assert_array_equal(_two(tmp_path, files[0], files[1]).open().time, np.arange(8.0))


def _at(value: float, units: str = "hPa", start: int = 0) -> xr.Dataset:
    level = xr.DataArray(value, attrs={"units": units, "standard_name": "air_pressure"})
    return weather("t", start=start).assign_coords(level=level)


@pytest.mark.parametrize("suffix", ["nc", "nc3", "zarr"])
def test_scalar_levels_that_differ_are_not_joined_in_time(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=r"y0.* holds t at level 850 hPa .*y1.* at level 500 hPa .*: "):
        _two(tmp_path, _at(850), _at(500, start=4), suffix).open()


def test_scalar_levels_are_compared_in_one_unit(tmp_path: Path) -> None:
    assert _two(tmp_path, _at(850), _at(85000, "Pa", start=4)).open().sizes["time"] == 8


def test_levels_in_attributes_are_levels(tmp_path: Path) -> None:
    one, two = weather("t"), weather("t", start=4)
    one.t.attrs["level"], two.t.attrs["level"] = 850, 500
    with pytest.raises(DataError, match=r"y0\.nc holds t at level 850 from .*y1\.nc at level 500"):
        _two(tmp_path, one, two).open()


def test_members_that_differ_are_not_joined_in_time(tmp_path: Path) -> None:
    one, two = (weather("t", start=4 * i).assign_coords(number=i) for i in range(2))
    with pytest.raises(DataError, match=r"at number 0 from .*y1\.nc at number 1 .*: members"):
        _two(tmp_path, one, two).open()
    # The same as dimensions of length one.
    with pytest.raises(DataError, match="members"):
        _two(tmp_path, one.expand_dims("number", 1), two.expand_dims("number", 1)).open()


def test_another_scalar_that_differs_is_said(tmp_path: Path) -> None:
    one, two = (weather("t", start=4 * i).assign_coords(wavelength=500.0 + i) for i in range(2))
    with collect() as assumed:
        _two(tmp_path, one, two).open()
    assert [one.code for one in assumed.all] == ["levels"]


@pytest.mark.parametrize("suffix", ["nc", "nc3", "zarr"])
def test_static_fields_that_differ_are_refused_when_they_are_read(tmp_path: Path, suffix: str) -> None:
    mask = RNG.normal(size=(5, 6)).astype("f4")
    other = mask.copy()
    other[3, 2] += 1
    one, two = (
        weather("t", start=4 * i).assign(mask=(("lat", "lon"), of)) for i, of in enumerate((mask, other))
    )
    ds = _two(tmp_path, one, two, suffix).open()
    np.testing.assert_array_equal(ds.mask[:3], mask[:3])
    with pytest.raises(
        DataError, match=r"y0.*: mask and .*y1.*: mask do not depend on time but differ: .* 1 points"
    ):
        ds.mask.load()


def test_static_fields_may_differ_by_packing_and_in_units(tmp_path: Path) -> None:
    height = RNG.uniform(0, 3, size=(5, 6))
    one = weather("t").assign(orog=(("lat", "lon"), height, {"units": "km"}))
    two = weather("t", start=4).assign(orog=(("lat", "lon"), 1000 * height, {"units": "m"}))
    two.orog.encoding = {"dtype": "i2", "scale_factor": 0.1, "_FillValue": -32767}
    ds = _two(tmp_path, one, two).open()
    np.testing.assert_array_equal(ds.orog, height)


def late(tmp_path: Path, suffix: str = ".nc", start: int = 3, times: int = 6) -> str:
    """t from 00 to 07 o'clock, u later and longer."""
    save(weather("t", times=8), tmp_path / f"t{suffix}")
    save(weather("u", times=times, start=start), tmp_path / f"u{suffix}")
    return f"{tmp_path}/?{suffix}"


def subset_build(tmp_path: Path, paths: str, **options: Any) -> Store:
    values = {"dataset": "a", "root": tmp_path, "source": {"kind": "cf", "paths": paths}, **options}
    return open_store(build(BuildConfig.model_validate(values)))


@pytest.mark.parametrize("suffix", [".nc", ".nc3", ".zarr"])
def test_a_subset_applies_before_fields_of_different_times_are_compared(tmp_path: Path, suffix: str) -> None:
    paths = late(tmp_path, suffix)
    engine = {".nc": "h5netcdf", ".nc3": "scipy", ".zarr": "zarr"}[suffix]
    more = {"consolidated": False} if suffix == ".zarr" else {}
    t, u = (xr.load_dataset(tmp_path / f"{name}{suffix}", engine=engine, **more)[name] for name in ("t", "u"))
    store = subset_build(tmp_path, paths, subset={"time": ["2020-01-01T03", "2020-01-01T08"]})
    assert [variable.key for variable in store.variables] == ["t", "u"]
    found = store.read(0, 0, 5)
    np.testing.assert_array_equal(found[:, 0], t[3:])
    np.testing.assert_array_equal(found[:, 1], u[:5])


def test_without_a_subset_the_one_that_fits_is_named(tmp_path: Path) -> None:
    message = (
        r"u\.nc: u has no frame at 2020-01-01T00:00:00, where other fields have one; set subset:"
        r" \{time: \[2020-01-01T03:00:00, 2020-01-01T08:00:00\]\}, or leave it out by variables"
    )
    with pytest.raises(DataError, match=message):
        subset_build(tmp_path, late(tmp_path))
    with pytest.raises(DataError, match="u has no frame at 2020-01-01T02"):
        subset_build(tmp_path, late(tmp_path), subset={"time": ["2020-01-01T02", "2020-01-01T08"]})


def test_a_field_with_gaps_is_taken_at_the_times_it_has(tmp_path: Path) -> None:
    save(weather("t", times=8), tmp_path / "t.nc")
    ds = weather("u", times=8).isel(time=slice(0, None, 2))
    save(ds, tmp_path / "u.nc")
    store = subset_build(tmp_path, f"{tmp_path}/?.nc", subset={"every": 2})
    np.testing.assert_array_equal(store.read(0, 0, 4)[:, 1], ds.u)
    assert subset_build(tmp_path, f"{tmp_path}/?.nc", variables=["t"], version="2").num_times == 8


def test_fields_without_a_common_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="differ in time"):
        CF(paths=late(tmp_path, start=40)).open()
