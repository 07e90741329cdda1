"""Fields of several files at different levels, or of different members, become one."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.store.store import open_store
from tests.preprocessing.sources.formats.weather_archive import save, weather


def at_level(value: float, units: str = "hPa", start: int = 0, standard: str = "air_pressure") -> xr.Dataset:
    level = xr.DataArray(value, attrs={"units": units, "standard_name": standard})
    return weather("t", start=start).assign_coords(level=level)


def of_files(folder: Path, *files: xr.Dataset, suffix: str = "nc") -> CF:
    for number, ds in enumerate(files):
        save(ds, folder / f"y{number}.{suffix}")
    return CF(paths=f"{folder}/y*.{suffix}")


@pytest.mark.parametrize("suffix", ["nc", "nc3", "zarr"])
def test_a_field_at_several_levels_in_several_files_has_a_channel_for_each(
    tmp_path: Path, suffix: str
) -> None:
    files = [at_level(850), at_level(50000, "Pa"), at_level(850, start=4), at_level(500, start=4)]
    source = of_files(tmp_path, *files, suffix=suffix)
    values = {"source": source, "dataset": "made", "root": tmp_path, "splits": {"kind": "trajectories"}}
    store = open_store(build(BuildConfig.model_validate(values)))
    assert [one.key for one in store.variables] == ["t@500", "t@850"]
    held = store.read(0, 0, 8)
    np.testing.assert_array_equal(held[:, 0], np.concatenate([files[1].t, files[3].t]))
    np.testing.assert_array_equal(held[:, 1], np.concatenate([files[0].t, files[2].t]))
    assert store.assumptions is not None
    (said,) = (one for one in store.assumptions if one.code == "levels")
    assert f"y0.{suffix} at level 850 hPa" in said.text
    assert f"y1.{suffix} at level 500 hPa" in said.text


def test_files_of_several_levels_each_are_joined_along_them(tmp_path: Path) -> None:
    levels = [[700.0], [500.0, 850.0]]
    files = [weather("t").expand_dims(level=own, axis=1) for own in levels]
    files = [ds.assign(t=ds.t * np.arange(1, 1 + ds.level.size).reshape(1, -1, 1, 1)) for ds in files]
    ds = of_files(tmp_path, *files).open()
    np.testing.assert_array_equal(ds.level, [500, 850, 700])
    for level in (500, 700, 850):
        own = files[0] if level == 700 else files[1]
        np.testing.assert_array_equal(ds.t.sel(level=level)[0], own.t.sel(level=level))
    np.testing.assert_array_equal(ds.t[0, 1, ::2, 2], ds.t.values[0, 1, ::2, 2])


def test_levels_of_other_times_are_refused_with_both_files(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"y0\.nc holds t at level 850 hPa from 2020-01-01T00.*y1\.nc at level 500 hPa from 2020-01-01T04",
    ):
        of_files(tmp_path, at_level(850), at_level(500, start=4)).open()


def test_levels_of_other_kinds_are_never_one_field(tmp_path: Path) -> None:
    two = at_level(500, "m", start=4, standard="height")
    with pytest.raises(
        DataError, match=r"y0\.nc holds t at a level of air_pressure and .*y1\.nc at one of height"
    ):
        of_files(tmp_path, at_level(500), two).open()


def test_a_level_that_one_file_leaves_out_is_asked_about(tmp_path: Path) -> None:
    with collect() as assumed:
        of_files(tmp_path, at_level(500), weather("t", start=4)).open()
    assert [(one.code, one.question) for one in assumed.all] == [("levels", True)]


def test_a_field_in_other_units_at_another_level_is_converted(tmp_path: Path) -> None:
    celsius = at_level(850)
    celsius.t.attrs["units"] = "degC"
    ds = of_files(tmp_path, at_level(500), celsius).open()
    np.testing.assert_allclose(ds.t.sel(level=850)[0], celsius.t + 273.15, rtol=1e-6)


@pytest.mark.parametrize(("names", "labels"), [([2, 1], [1, 2]), (["b", "a"], ["a", "b"])])
def test_members_in_files_of_their_own_are_trajectories(
    tmp_path: Path, names: list[object], labels: list[object]
) -> None:
    mask = xr.DataArray(np.arange(30.0).reshape(5, 6), dims=("lat", "lon"), attrs={"units": "1"})
    files = [weather("t").assign(mask=mask).assign_coords(realization=name) for name in names]
    with collect() as assumed:
        ds = of_files(tmp_path, *files).open()
    assert ds.trajectory.values.tolist() == labels
    for label, own in zip(names, files, strict=True):
        np.testing.assert_array_equal(ds.t.sel(trajectory=label), own.t)
    np.testing.assert_array_equal(ds.mask, mask)
    assert [one.code for one in assumed.all] == ["levels"]


def test_members_at_several_levels_are_both(tmp_path: Path) -> None:
    files = {
        (member, level): at_level(level).assign_coords(number=member)
        for member in (0, 1)
        for level in (850, 500)
    }
    ds = of_files(tmp_path, *files.values()).open()
    for (member, level), own in files.items():
        np.testing.assert_array_equal(ds.t.sel(trajectory=member, level=level), own.t)


def test_files_that_share_some_of_their_levels_are_refused(tmp_path: Path) -> None:
    files = [weather("t").expand_dims(level=own, axis=1) for own in ([500.0, 850.0], [850.0, 1000.0])]
    with pytest.raises(
        DataError, match=r"y0\.nc holds t at level 500, 850 and .*y1\.nc at level 850, 1000, and so"
    ):
        of_files(tmp_path, *files).open()


def test_a_dated_field_of_one_frame_can_be_static(tmp_path: Path) -> None:
    source = of_files(tmp_path, weather("t"), weather("mask", times=1))
    ds = source.open()
    with pytest.raises(DataError, match=r"y1\.nc: mask has a single frame, .* roles: {mask: static}"):
        select_fields(ds, FieldOptions())
    fields = select_fields(ds, FieldOptions(roles={"mask": "static"}))
    with xr.open_dataset(tmp_path / "y1.nc", engine="h5netcdf") as stored:
        np.testing.assert_array_equal(fields.read_static(slice(0, 1))[0, 0], stored["mask"][0])
    assert fields.read(slice(0, 1), slice(0, 4)).shape[2] == 1
