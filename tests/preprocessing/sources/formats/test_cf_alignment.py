"""Files that hold the same field laid out otherwise are joined; those of another grid are refused."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats.cf import CF
from tests.preprocessing.sources.formats.weather_archive import save, weather

WHOLE = weather("t", times=8)


def around(ds: xr.Dataset) -> xr.Dataset:
    """The same fields around the globe."""
    return ds.assign_coords(lon=("lon", np.arange(6) * 60.0, ds.lon.attrs))


def joined(
    folder: Path, first: xr.Dataset, second: xr.Dataset, suffix: str = "nc"
) -> tuple[xr.Dataset, list[str]]:
    """What two files give together, and the codes of what is said of them."""
    save(first, folder / f"a_1.{suffix}")
    save(second, folder / f"a_2.{suffix}")
    with collect() as assumed:
        found = CF(paths=f"{folder}/a_*.{suffix}").open()
    return found, [one.code for one in assumed.all]


@pytest.mark.parametrize("suffix", ["nc", "nc3", "zarr"])
@pytest.mark.parametrize("late", [False, True])
def test_rows_that_run_the_other_way_are_turned_and_said(tmp_path: Path, suffix: str, late: bool) -> None:
    first, second = WHOLE.isel(time=slice(4)), WHOLE.isel(time=slice(4, 8), lat=slice(None, None, -1))
    if late:
        first, second = first.isel(lat=slice(None, None, -1)), second.isel(lat=slice(None, None, -1))
    found, codes = joined(tmp_path, first, second, suffix)
    assert codes == ["rows_flipped"]
    expected = WHOLE.t.isel(lat=slice(None, None, -1)) if late else WHOLE.t
    np.testing.assert_array_equal(found.t[0], expected)
    np.testing.assert_array_equal(found.y, expected.lat)
    for index in ((5, 1), (slice(3, 6), slice(1, 4)), ([0, 5, 6], 2), (7, [0, 2, 3])):
        np.testing.assert_array_equal(found.t[0][index], expected[index])


def test_longitudes_of_either_convention_are_joined(tmp_path: Path) -> None:
    ds = around(WHOLE)
    western = ds.assign_coords(lon=("lon", (ds.lon.values + 180) % 360 - 180, ds.lon.attrs)).sortby("lon")
    found, codes = joined(tmp_path, ds.isel(time=slice(4)), western.isel(time=slice(4, 8)))
    assert codes == ["longitudes_unwrapped"]
    np.testing.assert_array_equal(found.t[0], WHOLE.t)
    np.testing.assert_array_equal(found.t[0, 3:6, :, 1:4], WHOLE.t[3:6, :, 1:4])
    np.testing.assert_array_equal(found.x, ds.lon)


def test_the_order_of_axes_and_the_precision_make_no_other_field(tmp_path: Path) -> None:
    first, second = WHOLE.isel(time=slice(4)), WHOLE.isel(time=slice(4, 8))
    found, codes = joined(tmp_path, first, second.astype("f8").transpose("lon", "time", "lat"))
    assert not codes
    np.testing.assert_array_equal(found.t[0], WHOLE.t)
    for index in ((slice(2, 7), 1), (5, slice(None), 3), (slice(None), [0, 3], slice(1, 5))):
        np.testing.assert_array_equal(found.t[0][index], WHOLE.t[index])


def test_a_packed_file_joins_a_plain_one(tmp_path: Path) -> None:
    second = WHOLE.isel(time=slice(4, 8)).copy()
    second.t.encoding = {"dtype": "i2", "scale_factor": 2.0**-10, "_FillValue": -32768}
    found, codes = joined(tmp_path, WHOLE.isel(time=slice(4)), second)
    assert not codes
    np.testing.assert_allclose(found.t[0], WHOLE.t, atol=2.0**-11, rtol=0)
    np.testing.assert_array_equal(found.t[0, :4], WHOLE.t[:4])


def test_another_grid_stays_another_grid(tmp_path: Path) -> None:
    second = WHOLE.isel(time=slice(4, 8))
    for number, (name, shift) in enumerate([("lat", 0.1), ("lon", 1.25)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        moved = second.assign_coords({name: (name, second[name].values + shift, second[name].attrs)})
        with pytest.raises(DataError, match=rf"differ in {'yx'[number]}"):
            joined(folder, WHOLE.isel(time=slice(4)), moved)
