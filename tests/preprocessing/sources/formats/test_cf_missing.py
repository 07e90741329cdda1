"""What of CF variables is missing: outside the valid range, marked in words, or never set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelagos.preprocessing.assumptions import Assumption, collect
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.formats.weather_archive import save, weather

SUFFIXES = ("nc", "nc3", "zarr")


def read(path: Path, values: Any, attrs: dict[str, Any]) -> tuple[list[float], tuple[Assumption, ...]]:
    """The first row of `t` as it is read from a file with these stored values and attributes."""
    ds = weather("t").drop_vars("t")
    fill = attrs.pop("_FillValue", None)
    ds["t"] = (("time", "lat", "lon"), np.broadcast_to(values, (4, 5, 6)).copy(), {"units": "K"} | attrs)
    if fill is not None:
        ds.t.attrs["_FillValue"] = fill
    ds["time"] = ("time", np.arange(4.0), {"units": "hours since 2020-01-01"})
    with collect() as assumed:
        found = CF(paths=save(ds, path)).open().t[0, 0, 0].values
    return found.tolist(), assumed.all


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "attrs",
    [
        {"valid_range": np.array([1, 4], "f4")},
        {"valid_min": np.float32(1), "valid_max": np.float32(4)},
        {"valid_range": "1.0, 4.0"},
        {"valid_min": 1.0, "valid_max": "4"},
        {"valid_range": np.array([1, 4], "f4"), "valid_max": np.float32(2)},
    ],
)
def test_values_outside_the_valid_range_are_missing_and_said(
    tmp_path: Path, suffix: str, attrs: dict[str, Any]
) -> None:
    found, (one,) = read(tmp_path / f"a.{suffix}", np.arange(6, dtype="f4"), dict(attrs))
    np.testing.assert_array_equal(found, [np.nan, 1, 2, 3, 4, np.nan])
    assert (one.code, one.field, one.question) == ("missing_values", "t", False)
    assert f"a.{suffix}: t has values outside its valid_" in one.text


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("attrs", "kept"),
    [
        ({"valid_range": np.array([-3, 3], "i2")}, [-2, 0, 2]),  # of the packed type: packed values
        ({"valid_min": np.int32(0)}, [0, 2, 4]),
        ({"valid_max": np.float64(6.5)}, [-4, -2]),  # of a wider type: unpacked values
        ({"valid_range": np.array([6.5, 6.9])}, [-2, 0, 2]),  # unpacking may round a limit itself
    ],
)
def test_limits_of_packed_values_are_packed_unless_of_a_wider_type(
    tmp_path: Path, suffix: str, attrs: dict[str, Any], kept: list[int]
) -> None:
    packed = np.array([-4, -2, 0, 2, 4, 4], "i2")
    attrs = {"scale_factor": 0.1, "add_offset": 6.7} | attrs
    found, _ = read(tmp_path / f"a.{suffix}", packed, attrs)
    there = np.isfinite(found)
    assert sorted(set(packed[there].tolist())) == kept
    np.testing.assert_allclose(np.array(found)[there], packed[there] * 0.1 + 6.7)


def test_limits_that_hold_say_nothing_and_those_in_vain_are_said(tmp_path: Path) -> None:
    values = np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.3], "f4")
    # 0.3 of single precision is more than 0.3, and the least value is no more than itself.
    found, assumed = read(tmp_path / "a.nc", values, {"valid_range": np.array([0.1, 0.3])})
    assert (found, assumed) == (values.tolist(), ())
    in_vain: tuple[dict[str, Any], ...] = ({"valid_range": "warm"}, {"valid_min": 5.0, "valid_max": 4.0})
    for number, limits in enumerate(in_vain):
        found, (one,) = read(tmp_path / f"b{number}.nc", values, limits)
        assert found == values.tolist()
        assert "limits nothing" in one.text


def test_limits_of_coordinates_leave_these_alone(tmp_path: Path) -> None:
    ds = weather("t")
    ds.lat.attrs["valid_range"] = np.array([-50.0, 50.0])
    found = CF(paths=save(ds, tmp_path / "a.nc")).open()
    np.testing.assert_array_equal(found.y, ds.lat)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("mark", ["-999", "-999.0", b"-999", " -999 ", "-998, -999"])
def test_marks_in_words_are_numbers_all_the_same(tmp_path: Path, suffix: str, mark: Any) -> None:
    if suffix == "zarr" and isinstance(mark, bytes):
        return  # JSON has no bytes
    found, assumed = read(
        tmp_path / f"a.{suffix}", np.array([0, -999, 2, 3, 4, 5], "f4"), {"missing_value": mark}
    )
    np.testing.assert_array_equal(found, [0, np.nan, 2, 3, 4, 5])
    assert not assumed


def test_a_mark_that_is_no_number_is_asked_about(tmp_path: Path) -> None:
    found, (one,) = read(tmp_path / "a.nc", np.arange(6, dtype="f4"), {"missing_value": "blank"})
    assert found == [0, 1, 2, 3, 4, 5]
    assert (one.code, one.question) == ("missing_values", True)
    assert "a.nc: t has missing_value 'blank', which is no number" in one.text


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_what_netcdf_never_wrote_is_missing(tmp_path: Path, suffix: str, dtype: str) -> None:
    values = np.array([0, 9.969209968386869e36, 2, 3, 4, 5], dtype)
    found, (one,) = read(tmp_path / f"a.{suffix}", values, {})
    np.testing.assert_array_equal(found, [0, np.nan, 2, 3, 4, 5])
    assert (one.code, one.question) == ("missing_values", False)


@pytest.mark.parametrize(("dtype", "value"), [("i2", -32767), ("i4", -2147483647)])
def test_an_integer_that_netcdf_may_never_have_written_is_asked_about(
    tmp_path: Path, dtype: str, value: int
) -> None:
    values = np.array([0, value, 2, 3, 4, 5], dtype)
    found, (one,) = read(tmp_path / "a.nc3", values, {})
    np.testing.assert_array_equal(found, [0, np.nan, 2, 3, 4, 5])
    assert (one.code, one.question) == ("missing_values", True)
    # Where the file states another mark, netCDF's default is a value like any other.
    found, assumed = read(tmp_path / "b.nc3", values, {"_FillValue": np.array(5, dtype)[()]})
    np.testing.assert_array_equal(found, [0, value, 2, 3, 4, np.nan])
    assert not assumed
