"""One CF file: what of it are fields, and under which names."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.build.plan import make_plan
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.inspection.inspect_path import inspect
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.store.store import open_store
from tests.preprocessing.sources.formats.weather_archive import save, weather


def test_axes_of_length_one_are_dropped_and_longer_ones_asked_about(tmp_path: Path) -> None:
    ds = weather("t")
    one = save(ds.expand_dims(number=[0], axis=1), tmp_path / "one.nc")
    np.testing.assert_array_equal(CF(paths=one).open().t[0], ds.t)
    two = save(ds.expand_dims(number=[0, 1], axis=1).assign(u=ds.t), tmp_path / "two.nc")
    with pytest.raises(
        DataError, match=r"two\.nc: t has 2 values along number, .* list the other fields in variables"
    ):
        CF(paths=two).open()
    assert set(CF(paths=two, variables=("u",)).open()) == {"u"}


def test_standard_names_and_renaming_name_the_fields(tmp_path: Path) -> None:
    ds = weather("Tair", "u10", "q")
    ds.Tair.attrs["standard_name"] = "air_temperature"
    ds.u10.attrs["standard_name"] = "unknown"
    path = save(ds, tmp_path / "a.nc")
    assert set(CF(paths=path).open()) == {"air_temperature", "u10", "q"}
    assert set(CF(paths=path, standard_names=False).open()) == {"Tair", "u10", "q"}
    renamed = CF(
        paths=path, rename={"Tair": "t2m", "q": "specific_humidity"}, variables=("specific_humidity", "t2m")
    )
    assert list(renamed.open()) == ["specific_humidity", "t2m"]
    with pytest.raises(
        DataError, match=r"a\.nc: no q; fields: t2m, u10, specific_humidity; not on the grid: none"
    ):
        CF(paths=path, rename=renamed.rename, variables=("q",)).open()


def test_two_fields_of_one_name_are_asked_about(tmp_path: Path) -> None:
    ds = weather("u10", "u100")
    for name in ds:
        ds[name].attrs["standard_name"] = "eastward_wind"
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(
        DataError,
        match=r"a\.nc: u100 and u10 would both be called eastward_wind; rename one of them, as in rename: {u100",
    ):
        CF(paths=path).open()
    save(ds[["u10"]], tmp_path / "b_1.nc")
    save(ds[["u100"]], tmp_path / "b_2.nc")
    with pytest.raises(DataError, match=r"b_1\.nc: u10 .* and .*b_2\.nc: u100 .* tell them apart by rename"):
        CF(paths=f"{tmp_path}/b_*.nc").open()
    assert set(CF(paths=f"{tmp_path}/b_*.nc", rename={"u100": "wind_aloft"}).open()) == {
        "eastward_wind",
        "wind_aloft",
    }


def test_fields_of_a_zarr_group_do_not_come_in_the_order_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weather("u", "t", "q").to_zarr(tmp_path / "a.zarr", consolidated=False)
    original = Path.iterdir
    for reverse in (False, True):
        monkeypatch.setattr(
            Path, "iterdir", lambda path, back=reverse: iter(sorted(original(path), reverse=back))
        )
        assert list(CF(paths=str(tmp_path / "a.zarr")).open()) == ["q", "t", "u"]


def _with(ds: xr.Dataset, dim: str, count: int, *, named: bool = True) -> xr.Dataset:
    """The fields several times along another dimension, each with values of its own."""
    made = xr.concat([ds + i for i in range(count)], dim).transpose("time", dim, ...)
    return made.assign_coords({dim: np.arange(count)}) if named else made


@pytest.mark.parametrize("dim", ["number", "member", "sample", "batch", "realization"])
@pytest.mark.parametrize("named", [True, False])
def test_members_and_samples_are_proposed_as_trajectories(tmp_path: Path, dim: str, named: bool) -> None:
    ds = _with(weather("t"), dim, 3, named=named)
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(
        DataError, match=rf"a\.nc: t has 3 values along {dim}, .* as in axes: {{trajectory: {dim}}}"
    ):
        CF(paths=path).open()
    found = CF(paths=path, axes={"trajectory": dim}).open()
    assert found.trajectory.values.tolist() == [0, 1, 2]
    for i in range(3):
        np.testing.assert_array_equal(found.t[i], ds.t.isel({dim: i}))


@pytest.mark.parametrize("dim", ["number", "realization", "sample"])
def test_members_that_are_named_as_levels_are_asked_about(tmp_path: Path, dim: str) -> None:
    path = save(_with(weather("t"), dim, 3), tmp_path / "a.nc")
    with collect() as assumed:
        CF(paths=path, axes={"level": dim}).open()
    (one,) = assumed.all
    assert (one.code, one.field, one.question) == ("levels", dim, True)
    assert f"{{trajectory: {dim}}}" in one.answer
    with collect() as assumed:
        CF(paths=path, axes={"trajectory": dim}).open()
    assert assumed.all == ()


def test_members_beside_pressure_levels_are_no_levels(tmp_path: Path) -> None:
    ds = _with(weather("t").expand_dims(level=[500.0, 850.0], axis=1), "number", 3)
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"as in axes: {trajectory: number}"):
        CF(paths=path).open()
    found = CF(paths=path, axes={"trajectory": "number"}).open()
    np.testing.assert_array_equal(found.t[2], ds.t.isel(number=2))


def test_all_that_is_unclear_is_asked_about_at_once(tmp_path: Path) -> None:
    ds = _with(weather("t"), "batch", 3, named=False).rename(time="t", t="u").assign_coords(t=np.arange(4.0))
    path = save(ds.transpose("batch", "t", ...), tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"as in axes: {trajectory: batch, time: t}"):
        CF(paths=path).open()
    found = CF(paths=path, axes={"trajectory": "batch", "time": "t"}).open()
    np.testing.assert_array_equal(found.u, ds.u.transpose("batch", "t", ...))


def test_static_fields_of_samples_go_with_them(tmp_path: Path) -> None:
    mask = np.arange(90.0, dtype="f4").reshape(3, 5, 6)
    ds = _with(weather("t"), "sample", 3).assign(mask=(("sample", "lat", "lon"), mask))
    found = CF(paths=save(ds, tmp_path / "a.nc"), axes={"trajectory": "sample"}).open()
    np.testing.assert_array_equal(found.mask, mask)


@pytest.mark.parametrize(
    ("coordinate", "labels"), [(["a", "b"], ["a", "b"]), ([0.5, 0.25], ["0.5", "0.25"]), ([7, 9], [7, 9])]
)
def test_samples_keep_their_names(tmp_path: Path, coordinate: list[object], labels: list[object]) -> None:
    ds = _with(weather("t"), "sample", 2).assign_coords(sample=coordinate)
    found = CF(paths=save(ds, tmp_path / "a.nc"), axes={"trajectory": "sample"}).open()
    assert found.trajectory.values.tolist() == labels


def test_members_of_forecasts_are_chosen_by_select(tmp_path: Path) -> None:
    ds = _with(weather("t"), "number", 3).expand_dims(step=[0, 6], axis=2)
    ds.step.attrs["units"] = "hours"
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"take one of number, as in select: {number: 0}"):
        CF(paths=path).open()
    found = CF(paths=path, select={"number": 2}).open()
    np.testing.assert_array_equal(found.t[1, 0], ds.t.isel(time=1, number=2, step=0))


def test_versions_of_a_reanalysis_are_asked_about_and_merged(tmp_path: Path) -> None:
    ds = _with(weather("t"), "expver", 2).assign_coords(expver=[1, 5])
    final, preliminary = ds.t.isel(expver=0), ds.t.isel(expver=1)
    ds.t[2:, 0], ds.t[:2, 1] = np.nan, np.nan
    path = save(ds, tmp_path / "a.nc")
    with pytest.raises(DataError, match=r"along expver, .* select: {expver: \[1, 5\]} takes the first"):
        CF(paths=path).open()
    merged = CF(paths=path, select={"expver": (1, 5)}).open()
    np.testing.assert_array_equal(merged.t[0, :2], final[:2])
    np.testing.assert_array_equal(merged.t[0, 2:], preliminary[2:])
    assert np.isnan(CF(paths=path, select={"expver": "0001"}).open().t[0, 3]).all()


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"number": 5}, r"select\.number: .*a\.nc has no 5; it has 0, 1, 2"),
        (
            {"members": 1},
            r"select\.members: .*a\.nc has no dimension members; those that are no axes: number",
        ),
        ({"time": 1}, r"select\.time: in .*a\.nc this is the axis time; levels and subset take parts"),
        ({"number": (0, 1)}, r"select\.number: give one value"),
    ],
)
def test_what_cannot_be_selected_is_named(tmp_path: Path, select: dict[str, Any], message: str) -> None:
    path = save(_with(weather("t"), "number", 3), tmp_path / "a.nc")
    with pytest.raises(ConfigError, match=message):
        CF(paths=path, select=select).open()


def staggered(path: Path) -> str:
    """As models on a C-grid write it: c in the centres of cells, u and v on their faces; and a line of no field."""
    centres, faces = np.arange(6) + 0.5, np.arange(6.0)
    fields = {"u": ("yC", "xF"), "v": ("yF", "xC"), "c": ("yC", "xC")}
    ds = xr.Dataset(
        {name: (("time", *dims), np.ones((4, 6, 6)), {"units": "1"}) for name, dims in fields.items()},
        {
            "time": ("time", np.arange(4.0), {"units": "s"}),
            "yC": centres,
            "xC": centres,
            "yF": faces,
            "xF": faces,
        },
    )
    return save(ds.assign(total=("time", np.ones(4))), path)


@pytest.mark.parametrize("suffix", [".nc", ".nc3", ".zarr"])
def test_fields_on_faces_are_named_by_inspect_and_build_and_the_boundary_is_asked_for(
    tmp_path: Path, suffix: str
) -> None:
    source = {"kind": "cf", "paths": staggered(tmp_path / f"a{suffix}"), "axes": {"y": "yC", "x": "xC"}}
    asked = BuildConfig.model_validate({"dataset": "a", "root": tmp_path, "source": source})
    found = {(one.code, one.field): one for one in make_plan(asked).assumptions}
    assert "u is on (time, yC, xF), not on the grid of (yC, xC)" in found["fields_not_read", "u"].text
    assert ("fields_not_read", "v") in found
    assert ("fields_not_read", "total") not in found
    assert found["boundary", ""].question
    with pytest.raises(
        ConfigError, match=r"does not say what lies beyond the edges.*\n.*source\.boundary: periodic"
    ):
        build(asked)
    source |= {"boundary": "wall"}
    path = build(BuildConfig.model_validate({"dataset": "a", "root": tmp_path, "source": source}))
    assert open_store(path).grid.boundary_y == ("wall", "wall")
    assert "v is on (time, yF, xC), not on the grid of (yC, xC)" in inspect(path)


def test_fields_that_the_configuration_names_leave_nothing_unsaid(tmp_path: Path) -> None:
    path = staggered(tmp_path / "a.nc")
    with collect() as found:
        CF.model_validate(
            {"paths": path, "axes": {"y": "yC", "x": "xC"}, "variables": ["c"], "boundary": "wall"}
        ).open()
    assert not found.all


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_complex_fields_become_two_and_one_of_them_can_be_named(tmp_path: Path, suffix: str) -> None:
    ds = weather("t").assign(psi=lambda ds: (ds.t + 2j * ds.t).astype(np.complex64))
    path = tmp_path / f"a{suffix}"
    if suffix == ".zarr":
        save(ds, path)
    else:
        with pytest.warns(UserWarning, match="invalid netcdf features"):
            ds.to_netcdf(path, engine="h5netcdf", invalid_netcdf=True)
    with collect() as assumed:
        found = CF(paths=str(path)).open()
    np.testing.assert_array_equal(found.psi_real[0], ds.t)
    np.testing.assert_array_equal(found.psi_imag[0], 2 * ds.t)
    assert any(one.code == "complex_parts" and one.field == "psi" for one in assumed.all)
    assert set(CF(paths=str(path), variables=("psi_imag",)).open()) == {"psi_imag"}


def test_filters_that_are_not_installed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nc"
    weather("t").to_netcdf(path, engine="h5netcdf", encoding={"t": {"compression": "gzip"}})
    available = h5py.h5z.filter_avail
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: code != 1 and available(code))
    with pytest.raises(DataError, match=r"a\.nc: /t is compressed by the HDF5 filter deflate \(1\)"):
        CF(paths=str(path)).open()
