"""One CF file: what of it are fields, and under which names."""

from pathlib import Path

import numpy as np
import pytest

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.formats.cf import CF
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
