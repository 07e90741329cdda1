"""WeatherBench 2, ARCO-ERA5, CREDIT and GRIB: names, orders of axes, valid times, starts and lead times."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.files import Files
from pelagos.preprocessing.sources.weather import CREDIT, GRIB, WeatherBench
from tests.preprocessing.sources.contracts import SourceContract

RNG = np.random.default_rng(0)
START = np.datetime64("2020-01-01T00", "ns")
SIX_HOURS = np.timedelta64(6, "h")


def coarse(times: int = 4) -> xr.Dataset:
    """As WeatherBench 2 stores it: longitude before latitude, latitudes ascending, no attributes of axes."""

    def field(*levels: int) -> np.ndarray:
        return RNG.normal(size=(times, *levels, 8, 5)).astype("f4")

    axes = ("time", "longitude", "latitude")
    return xr.Dataset(
        {
            "2m_temperature": (axes, field(), {"units": "K", "standard_name": "air_temperature"}),
            "temperature": (
                ("time", "level", "longitude", "latitude"),
                field(2),
                {"units": "K", "standard_name": "air_temperature"},
            ),
            "land_sea_mask": (("longitude", "latitude"), field()[0]),
        },
        {
            "time": START + np.arange(times) * SIX_HOURS,
            "level": np.array([500, 850]),
            "longitude": np.arange(8) * 45.0,
            "latitude": np.linspace(-90, 90, 5),
        },
    )


def save(ds: xr.Dataset, path: Path, **more: Any) -> str:
    ds.to_zarr(path, zarr_format=2, consolidated=True, **more)
    return str(path)


class TestWeatherBench(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> Files:
        return WeatherBench(paths=save(coarse(), tmp_path_factory.mktemp("wb") / "era5-8x5.zarr"))

    def vital(self, path: Path) -> Path:
        return path / "2m_temperature/0.0.0"


class TestCREDIT(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> Files:
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


def test_fields_keep_their_names_and_come_out_as_latitude_by_longitude(tmp_path: Path) -> None:
    given = coarse()
    path = save(given, tmp_path / "a.zarr")
    ds = WeatherBench(paths=path).open()
    for name, axes in (
        ("temperature", ("time", "level")),
        ("2m_temperature", ("time",)),
        ("land_sea_mask", ()),
    ):
        expected = given[name].transpose(*axes, "latitude", "longitude")
        np.testing.assert_array_equal(ds[name].squeeze("trajectory") if axes else ds[name], expected)
    assert (float(ds.y[0]), ds.attrs["boundary_y"], ds.attrs["boundary_x"]) == (
        -90,
        "pole,pole",
        "periodic,periodic",
    )
    turned = WeatherBench(paths=path, latitude="descending").open()
    np.testing.assert_array_equal(turned.temperature, ds.temperature[..., ::-1, :])
    assert float(turned.y[0]) == 90


def test_arco_is_cut_to_its_valid_times(tmp_path: Path) -> None:
    given = coarse(times=12).transpose(..., "latitude", "longitude").isel(latitude=slice(None, None, -1))
    given["2m_temperature"][:2] = np.nan
    given.attrs = {"valid_time_start": "2020-01-01T12", "valid_time_stop": "2020-01-02"}
    ds = WeatherBench(paths=save(given, tmp_path / "a.zarr")).open()
    np.testing.assert_array_equal(ds.time, given.time[2:8])
    assert np.isfinite(ds["2m_temperature"]).all()
    given.attrs["valid_time_start"] = "2021-01-01"
    with pytest.raises(DataError, match=r"b\.zarr: no time is within its valid ones"):
        WeatherBench(paths=save(given, tmp_path / "b.zarr")).open()


def test_each_start_of_a_forecast_is_a_trajectory_over_lead_times(tmp_path: Path) -> None:
    leads = np.arange(3) * SIX_HOURS
    given = coarse(times=4).expand_dims(prediction_timedelta=leads, axis=1)
    given = given + xr.DataArray(np.arange(3.0, dtype="f4"), dims="prediction_timedelta")
    given.prediction_timedelta.encoding = {"units": "hours", "dtype": "i8"}
    path = save(given[["2m_temperature", "temperature"]], tmp_path / "a.zarr")
    ds = WeatherBench(paths=path).open()
    assert dict(ds.sizes) == {"trajectory": 4, "time": 3, "level": 2, "y": 5, "x": 8}
    np.testing.assert_array_equal(ds.time, [0, 6, 12])
    assert (ds.time.attrs["units"], str(ds.trajectory.values[1])) == ("h", "2020-01-01T06:00")
    expected = given.temperature.transpose("time", "prediction_timedelta", "level", "latitude", "longitude")
    np.testing.assert_array_equal(ds.temperature, expected)


def test_members_of_an_ensemble_are_asked_about(tmp_path: Path) -> None:
    given = coarse()[["2m_temperature"]].expand_dims(number=[0, 1])
    with pytest.raises(DataError, match="2m_temperature has 2 values along number"):
        WeatherBench(paths=save(given, tmp_path / "a.zarr")).open()
    ds = WeatherBench(paths=str(tmp_path / "a.zarr"), axes={"trajectory": "number"}).open()
    np.testing.assert_array_equal(ds.trajectory, [0, 1])


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


# ---------------------------------------------------------------- GRIB

needs_cfgrib = pytest.mark.skipif(not find_spec("cfgrib"), reason="needs cfgrib: pip install 'pelagos[grib]'")


def messages(path: Path, steps: tuple[int, ...] = (0,), kinds: tuple[str, ...] = ("isobaricInhPa",)) -> str:
    """Two days of t and z at two levels, on 5 x 6 points; values tell messages apart."""
    import eccodes

    keys = {
        "Ni": 6,
        "Nj": 5,
        "latitudeOfFirstGridPointInDegrees": 60.0,
        "latitudeOfLastGridPointInDegrees": 50.0,
        "longitudeOfFirstGridPointInDegrees": 0.0,
        "longitudeOfLastGridPointInDegrees": 12.5,
        "iDirectionIncrementInDegrees": 2.5,
        "jDirectionIncrementInDegrees": 2.5,
        "bitsPerValue": 16,
    }
    with path.open("wb") as file:
        for layer, day, step, name, level in [
            (kind, day, step, name, level)
            for kind in kinds
            for day in (1, 2)
            for step in steps
            for name in "tz"
            for level in ((500, 850) if kind == "isobaricInhPa" else (1,))
        ]:
            handle = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
            own = {"dataDate": 20200100 + day, "dataTime": 0, "stepRange": step}
            own |= {"shortName": name, "typeOfLevel": layer, "level": level}
            for key, value in (keys | own).items():
                eccodes.codes_set(handle, key, value)
            base = 1000 * day + 100 * step + level + ord(name)
            eccodes.codes_set_values(handle, base + np.arange(30.0))
            eccodes.codes_write(handle, file)
            eccodes.codes_release(handle)
    return str(path)


@needs_cfgrib
class TestGRIB(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> Files:
        return GRIB(paths=messages(tmp_path_factory.mktemp("grib") / "era.grib"))


@needs_cfgrib
def test_grib_is_read_by_standard_names_with_levels_as_stored(tmp_path: Path) -> None:
    ds = GRIB(paths=messages(tmp_path / "a.grib")).open()
    assert set(ds) == {"air_temperature", "geopotential"}
    np.testing.assert_array_equal(ds.time, np.array(["2020-01-01", "2020-01-02"], "M8[ns]"))
    level = int(np.flatnonzero(ds.level == 500)[0])
    expected = 1000 + 500 + ord("t") + np.arange(30.0).reshape(5, 6)
    np.testing.assert_allclose(ds.air_temperature[0, 0, level], expected, atol=0.01)
    assert (float(ds.y[0]), ds.level.attrs["units"]) == (60, "hPa")
    assert [path.name for path in tmp_path.iterdir()] == ["a.grib"]


@needs_cfgrib
def test_steps_of_grib_are_lead_times(tmp_path: Path) -> None:
    ds = GRIB(paths=messages(tmp_path / "a.grib", steps=(0, 6, 12))).open()
    np.testing.assert_array_equal(ds.time, [0, 6, 12])
    assert list(ds.trajectory.values) == ["2020-01-01T00:00", "2020-01-02T00:00"]
    difference = ds.geopotential[1, 2] - ds.geopotential[0, 0]
    np.testing.assert_allclose(difference, 1000 + 1200, atol=0.1)


@needs_cfgrib
def test_grib_of_several_kinds_of_level_is_refused(tmp_path: Path) -> None:
    path = messages(tmp_path / "a.grib", kinds=("isobaricInhPa", "hybrid"))
    with pytest.raises(DataError, match=r"a\.grib: its messages are no single set of fields"):
        GRIB(paths=path).open()


@pytest.mark.skipif(bool(find_spec("cfgrib")), reason="cfgrib is installed")
def test_grib_without_cfgrib_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.grib").write_bytes(b"GRIB" + bytes(100))
    with pytest.raises(
        ConfigError, match=r"a\.grib is a GRIB file, which needs cfgrib: pip install 'pelagos\[grib\]'"
    ):
        GRIB(paths=str(tmp_path / "a.grib")).open()
