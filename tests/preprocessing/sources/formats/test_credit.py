"""CREDIT's yearly stores and sample files: years joined, groups merged, forcings known in advance."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.credit import CREDIT
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)
SIX_HOURS = np.timedelta64(6, "h")


def save(ds: xr.Dataset, path: Path, **more: Any) -> str:
    ds.to_zarr(path, zarr_format=2, consolidated=True, **more)
    return str(path)


class TestCREDIT(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        folder = tmp_path_factory.mktemp("credit")
        for year in (2018, 2019):
            save(year_of_credit(year), folder / f"SixHourly_y_TOTAL_{year}.zarr")
        return CREDIT(paths=f"{folder}/*.zarr")

    def vital(self, path: Path) -> Path:
        return path / "U/0.0.0.0"


def year_of_credit(year: int) -> xr.Dataset:
    shape, axes = (2, 3, 4, 6), ("time", "level", "latitude", "longitude")
    last = np.datetime64(f"{year + 1}-01-01T00", "ns")
    times = (
        last - SIX_HOURS * np.array([2, 1])
        if year == 2018
        else np.datetime64(f"{year}-01-01T00", "ns") + (SIX_HOURS * np.arange(2))
    )
    upper = {name: (axes, RNG.normal(size=shape).astype("f4")) for name in "UVTQ"}
    flat = {
        name: (("time", "latitude", "longitude"), RNG.normal(size=(2, 4, 6)).astype("f4"))
        for name in ("SP", "t2m", "tsi")
    }
    coords = {
        "time": times,
        "level": np.array([10, 100, 137]),
        "latitude": np.linspace(80, 20, 4),
        "longitude": np.arange(6) * 60.0,
    }
    return xr.Dataset(upper | flat, coords)


def test_years_of_credit_are_joined_and_forcings_known_in_advance(tmp_path: Path) -> None:
    years = [year_of_credit(year) for year in (2018, 2019)]
    for i, ds in enumerate(years):
        save(ds, tmp_path / f"y_{i}.zarr")
    found = CREDIT(paths=f"{tmp_path}/*.zarr").open()
    np.testing.assert_array_equal(found.U[0], np.concatenate([ds.U for ds in years]))
    assert {name: found[name].attrs["role"] for name in ("tsi", "SP", "Q")} == {
        "tsi": "forcing",
        "SP": "prognostic",
        "Q": "prognostic",
    }
    assert found.level.attrs["standard_name"] == "hybrid_level_number"
    changed = CREDIT(paths=f"{tmp_path}/*.zarr", roles={"SP": "diagnostic"}).open()
    assert (changed.SP.attrs["role"], changed.tsi.attrs["role"]) == ("diagnostic", "prognostic")


def test_the_real_credit_sample_is_read_as_xarray_reads_it(shared: Path) -> None:
    path = shared / "data/weather/credit/test_interp.nc"
    ds = CREDIT(paths=str(path)).open()
    with xr.open_dataset(path, engine="h5netcdf") as expected:
        for name in ("U", "Q", "SP"):
            np.testing.assert_array_equal(ds[name][0], expected[name])
        np.testing.assert_array_equal(ds.Z_GDS4_SFC, expected.Z_GDS4_SFC)


def test_credits_means_are_no_fields(shared: Path) -> None:
    path = shared / "data/weather/credit/mean_6h_1979_2018_16lev_0.25deg.nc"
    with pytest.raises(DataError, match="which dimension is y and which x"):
        CREDIT(paths=str(path)).open()
