"""GRIB: standard names, levels, starts and lead times, read through cfgrib."""

import sys
from pathlib import Path
from typing import Any

import eccodes
import numpy as np
import pytest
import xarray as xr
import zarr

from pelagos.preprocessing.assumptions import collect
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, DataError
from pelagos.preprocessing.fields.field_options import FieldOptions
from pelagos.preprocessing.fields.select_fields import select_fields
from pelagos.preprocessing.fields.solar_forcing import FORCINGS, ForcingName
from pelagos.preprocessing.sources.arrays import grib_file
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.cf import CF
from pelagos.preprocessing.sources.formats.grib import GRIB
from pelagos.preprocessing.sources.formats.recognition import recognise
from pelagos.preprocessing.store.store import open_store
from tests.preprocessing.sources.contracts import SourceContract

GRID: dict[str, Any] = {
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


def messages(path: Path, steps: tuple[int, ...] = (0,), kinds: tuple[str, ...] = ("isobaricInhPa",)) -> str:
    """Two days of t and z at two levels, on 5 x 6 points; values tell messages apart."""
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
            own: dict[str, int | str] = {"dataDate": 20200100 + day, "dataTime": 0, "stepRange": step}
            own |= {"shortName": name, "typeOfLevel": layer, "level": level}
            for key, value in (GRID | own).items():
                eccodes.codes_set(handle, key, value)
            base = 1000 * day + 100 * step + level + ord(name)
            eccodes.codes_set_values(handle, base + np.arange(30.0))
            eccodes.codes_write(handle, file)
            eccodes.codes_release(handle)
    return str(path)


class TestGRIB(SourceContract):
    @pytest.fixture
    def source(self, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
        return GRIB(paths=messages(tmp_path_factory.mktemp("grib") / "era.grib"))


def test_grib_is_read_by_standard_names_with_levels_as_stored(tmp_path: Path) -> None:
    ds = GRIB(paths=messages(tmp_path / "a.grib")).open()
    assert set(ds) == {"air_temperature", "geopotential"}
    np.testing.assert_array_equal(ds.time, np.array(["2020-01-01", "2020-01-02"], "M8[ns]"))
    level = int(np.flatnonzero(ds.level == 500)[0])
    expected = 1000 + 500 + ord("t") + np.arange(30.0).reshape(5, 6)
    np.testing.assert_allclose(ds.air_temperature[0, 0, level], expected, atol=0.01)
    assert (float(ds.y[0]), ds.level.attrs["units"]) == (60, "hPa")
    assert [path.name for path in tmp_path.iterdir()] == ["a.grib"]


def test_steps_of_grib_are_lead_times(tmp_path: Path) -> None:
    ds = GRIB(paths=messages(tmp_path / "a.grib", steps=(0, 6, 12))).open()
    np.testing.assert_array_equal(ds.time, [0, 6, 12])
    assert list(ds.trajectory.values) == ["2020-01-01T00:00", "2020-01-02T00:00"]
    difference = ds.geopotential[1, 2] - ds.geopotential[0, 0]
    np.testing.assert_allclose(difference, 1000 + 1200, atol=0.1)


def test_grib_of_several_kinds_of_level_is_refused(tmp_path: Path) -> None:
    path = messages(tmp_path / "a.grib", kinds=("isobaricInhPa", "hybrid"))
    with pytest.raises(DataError, match=r"a\.grib: its messages are no single set of fields"):
        GRIB(paths=path).open()


def test_grib_without_cfgrib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cfgrib", None)
    (tmp_path / "a.grib").write_bytes(b"GRIB" + bytes(100))
    with pytest.raises(
        ConfigError, match=r"a\.grib is a GRIB file, which needs cfgrib: pip install 'pelagos\[grib\]'"
    ):
        GRIB(paths=str(tmp_path / "a.grib")).open()


def write(path: Path, *written: dict[str, Any], values: Any = None) -> str:
    """Messages of the keys given, each of one value that tells it apart, or of `values`."""
    with path.open("wb") as file:
        for number, own in enumerate(written):
            handle = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
            for key, value in (GRID | {"dataDate": 20200101, "dataTime": 0} | own).items():
                eccodes.codes_set(handle, key, value)
            eccodes.codes_set_values(handle, values if values is not None else np.full(30, 1.0 + number))
            eccodes.codes_write(handle, file)
            eccodes.codes_release(handle)
    return str(path)


def surface(name: str, hour: int = 0, step: int | str = 0, **more: Any) -> dict[str, Any]:
    """The keys of a field at the surface."""
    return {"shortName": name, "dataTime": 100 * hour, "stepRange": step} | more


def test_fields_of_one_fixed_step_are_dated_by_when_they_are_valid(tmp_path: Path) -> None:
    path = write(tmp_path / "fc.grib", *(surface("skt", hour, 6) for hour in (0, 6, 12)))
    ds = GRIB(paths=path).open()
    np.testing.assert_array_equal(
        ds.time, np.array(["2020-01-01T06", "2020-01-01T12", "2020-01-01T18"], "M8[ns]")
    )
    assert ds.skt[0, :, 0, 0].values.tolist() == [1, 2, 3]
    analyses = write(tmp_path / "an.grib", *(surface("2t", hour) for hour in (0, 6, 12)))
    joined = GRIB(paths=(analyses, path)).open()
    with pytest.raises(DataError, match=r"fc\.grib: skt: \w+ has no frame at 2020-01-01T00:00:00"):
        select_fields(joined, FieldOptions())


def test_a_grib_file_with_one_message_a_step_is_one_forecast(tmp_path: Path) -> None:
    ds = GRIB(paths=write(tmp_path / "a.grib", *(surface("2t", 12, step) for step in (0, 6, 12)))).open()
    assert ds.trajectory.values.tolist() == ["2020-01-01T12:00"]
    np.testing.assert_array_equal(ds.time, [0, 6, 12])
    np.testing.assert_array_equal(ds.start, [np.datetime64("2020-01-01T12", "ns")])


def test_what_cfgrib_makes_of_a_fixed_step_is_read_alike(tmp_path: Path) -> None:
    path = write(tmp_path / "fc.grib", *(surface("skt", hour, 6) for hour in (0, 6, 12)))
    with xr.open_dataset(path, engine="cfgrib", backend_kwargs={"indexpath": ""}) as made:
        made.to_netcdf(tmp_path / "all.nc", engine="h5netcdf")
        made.drop_vars("valid_time").to_netcdf(tmp_path / "without.nc", engine="h5netcdf")
        made.isel(time=0).drop_vars("valid_time").to_netcdf(tmp_path / "single.nc", engine="h5netcdf")
    for name, number in (("all", 3), ("without", 3), ("single", 1)):
        ds = CF(paths=str(tmp_path / f"{name}.nc")).open()
        np.testing.assert_array_equal(ds.time, GRIB(paths=path).open().time[:number])


def test_kinds_of_level_are_chosen_by_select(tmp_path: Path) -> None:
    path = messages(tmp_path / "a.grib", kinds=("isobaricInhPa", "hybrid"))
    with pytest.raises(
        DataError,
        match=r"a\.grib: .* t is given for typeOfLevel isobaricInhPa, hybrid; .* {typeOfLevel: isobaric",
    ):
        GRIB(paths=path).open()
    ds = GRIB(paths=path, select={"typeOfLevel": "isobaricInhPa", "shortName": "t", "level": 850}).open()
    assert set(ds) == {"air_temperature"}
    np.testing.assert_allclose(
        ds.air_temperature[0, 1], 2000 + 850 + ord("t") + np.arange(30.0).reshape(5, 6), atol=0.1
    )
    assert set(GRIB(paths=path, select={"typeOfLevel": "hybrid", "shortName": ("t", "z")}).open()) == {
        "air_temperature",
        "geopotential",
    }


def test_fields_of_several_kinds_of_level_that_share_no_name_need_no_choice(tmp_path: Path) -> None:
    """cfgrib refuses 2t at 2 m beside 10u at 10 m, and fields at the surface beside those on pressures."""
    levels = [
        {"shortName": "t", "typeOfLevel": "isobaricInhPa", "level": level, "dataTime": 600 * i}
        for i in (0, 1)
        for level in (500, 850)
    ]
    others = [surface(name, 6 * i) for i in (0, 1) for name in ("2t", "10u", "sp")]
    ds = GRIB(paths=write(tmp_path / "a.grib", *levels, *others), standard_names=False).open()
    assert {name: ds[name].dims[2:-2] for name in ds} == {"t": ("level",), "t2m": (), "u10": (), "sp": ()}
    assert ds.sp[0, :, 0, 0].values.tolist() == [7, 10]


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (
            {"typeOfLevel": "isobaric"},
            r"select\.typeOfLevel: .*a\.grib has no message with isobaric; it has isobaricIn",
        ),
        ({"shortName": ("t", "q")}, r"select\.shortName: .* no message with q; it has t, z"),
        ({"nonsense": 1}, r"select\.nonsense: .* no message has this key"),
        (
            {"level": 500, "typeOfLevel": "hybrid"},
            r"select\.typeOfLevel: .*a\.grib has no message with hybrid",
        ),
    ],
)
def test_what_no_message_has_is_named(tmp_path: Path, select: dict[str, Any], message: str) -> None:
    path = messages(tmp_path / "a.grib")
    with pytest.raises(ConfigError, match=message):
        GRIB(paths=path, select=select).open()


def test_messages_that_are_there_twice_are_asked_about_where_they_differ(tmp_path: Path) -> None:
    times = [surface("2t", hour, setLocalDefinition=1, expver="0001") for hour in (0, 6)]
    path = write(
        tmp_path / "a.grib",
        *times,
        surface("2t", 6, setLocalDefinition=1, expver="0005"),
        surface("2t", 12, setLocalDefinition=1, expver="0005"),
    )
    with pytest.raises(
        DataError,
        match=r"a\.grib: 2t: there are 2 messages for 2020-01-01T06:00, .* expver 0001, 0005; .*'0001'",
    ):
        GRIB(paths=path).open()
    assert GRIB(paths=path, select={"expver": 5}, standard_names=False).open().t2m[
        0, :, 0, 0
    ].values.tolist() == [3, 4]
    same = write(tmp_path / "b.grib", *times, times[0], values=np.ones(30))
    assert GRIB(paths=same).open().sizes["time"] == 2
    other = write(tmp_path / "c.grib", *times, times[0])
    with pytest.raises(
        DataError, match=r"c\.grib: 2t: there are 2 messages for .*, and they differ; keep one"
    ):
        GRIB(paths=other).open()


def test_versions_that_follow_one_another_are_joined(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.grib",
        *(
            surface("2t", hour, setLocalDefinition=1, expver=f"000{1 + 4 * (hour > 6)}")
            for hour in (0, 6, 12)
        ),
    )
    assert GRIB(paths=path).open().sizes["time"] == 3


def test_messages_that_are_missing_are_named(tmp_path: Path) -> None:
    wanted = [surface("2t", hour, step) for hour in (0, 12) for step in (0, 6)]
    path = write(tmp_path / "a.grib", *wanted[:3])
    with pytest.raises(
        DamagedFileError, match=r"a\.grib: 2t: 1 of 4 messages are missing, .* 2020-01-01T12:00, step 6"
    ):
        GRIB(paths=path).open()
    ds = GRIB(paths=path, absent="missing", standard_names=False).open()
    assert np.isnan(ds.t2m[1, 1]).all()
    assert float(ds.t2m[1, 0, 0, 0]) == 3
    assert GRIB(paths=path, select={"step": 0}).open().sizes["time"] == 2


def test_members_are_proposed_as_trajectories(tmp_path: Path) -> None:
    keys = {"productDefinitionTemplateNumber": 1, "numberOfForecastsInEnsemble": 2}
    path = write(
        tmp_path / "a.grib",
        *(
            keys | surface("2t", hour) | {"perturbationNumber": number}
            for hour in (0, 6)
            for number in (1, 2)
        ),
    )
    with pytest.raises(
        DataError, match=r"a\.grib: t2m has 2 values along number, .* as in axes: {trajectory: number}"
    ):
        GRIB(paths=path).open()
    ds = GRIB(paths=path, axes={"trajectory": "number"}, standard_names=False).open()
    assert ds.t2m[:, :, 0, 0].values.tolist() == [[1, 3], [2, 4]]


def test_forcings_follow_the_valid_dates_of_forecasts(tmp_path: Path) -> None:
    ds = GRIB(paths=messages(tmp_path / "a.grib", steps=(0, 6, 12))).open()
    options = FieldOptions(
        variables=("geopotential",), levels=(500,), forcings=("cos_local_time", "sin_year")
    )
    fields = select_fields(ds, options)
    read = fields.read(slice(0, 2), slice(1, 3))
    for row, day in enumerate((1, 2)):
        valid = np.array([f"2020-01-0{day}T06", f"2020-01-0{day}T12"], "M8[s]")
        names: tuple[ForcingName, ...] = ("cos_local_time", "sin_year")
        for column, name in enumerate(names, start=1):
            expected = FORCINGS[name](valid, fields.grid, 0.0).astype(np.float32)
            np.testing.assert_array_equal(read[row, :, column], expected)


def test_one_forecast_keeps_its_start_and_the_dates_at_which_its_frames_are_valid(tmp_path: Path) -> None:
    path = write(tmp_path / "run.grib", *(surface("2t", 12, step) for step in range(0, 43, 6)))
    values = {"source": {"kind": "grib", "paths": path}, "dataset": "run", "root": tmp_path}
    store = open_store(build(BuildConfig.model_validate(values)))
    assert store.assumptions is not None
    (said,) = (one for one in store.assumptions if one.code == "times")
    assert "the forecast from 2020-01-01T12:00 became a trajectory over the lead times 0 to 42 h" in said.text
    valid: Any = zarr.open_group(store.path, mode="r")["date"]
    starts = np.datetime64("2020-01-01T12", "s") + np.arange(0, 43, 6) * np.timedelta64(1, "h")
    np.testing.assert_array_equal(valid[...], [starts.astype(int)])


def over(first: int, last: int) -> dict[str, Any]:
    """The keys of a sum over steps of a forecast."""
    return surface("tp", step=f"{first}-{last}", productDefinitionTemplateNumber=8)


def test_sums_over_steps_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """GFS sums from its last reset: 0-3, 0-6, 6-9, 6-12."""
    buckets = [over(0, 3), over(0, 6), over(6, 9), over(6, 12)]
    one = write(tmp_path / "one.grib", *buckets)
    message = r"tp is over the steps 0-3, 0-6, 6-9, 6-12, which .*, as in select: {stepRange: \[0-3, 6-9\]}"
    with pytest.raises(DataError, match=message):
        GRIB(paths=one).open()
    files = tuple(write(tmp_path / f"{number}.grib", keys) for number, keys in enumerate(buckets))
    with pytest.raises(DataError, match=r"0\.grib.*" + message):
        GRIB(paths=files).open()
    chosen = GRIB(paths=one, select={"stepRange": ("0-6", "6-12")}).open()
    assert chosen.tp[0, :, 0, 0].values.tolist() == [2, 4]
    assert chosen.tp.attrs["step_ranges"] == "6 h"
    with pytest.raises(ConfigError, match=r"deaccumulate\.tp: its messages are over 6 h each"):
        select_fields(chosen, FieldOptions.model_validate({"deaccumulate": {"tp": "start"}}))
    twice = write(tmp_path / "twice.grib", over(0, 6), over(0, 12), over(6, 12))
    with pytest.raises(DataError, match=r"2 messages for .* stepRange 0-12, 6-12; .* {stepRange: '0-12'}"):
        GRIB(paths=twice).open()


def test_fields_of_forecasts_that_lack_some_lead_times_need_a_subset(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.grib", over(0, 6), over(0, 12), *(surface("10u", step=step) for step in (0, 6, 12))
    )
    ds = GRIB(paths=path).open()
    with pytest.raises(DataError, match=r"a\.grib.*tp has no frame at 0, .* subset: {times: \[6, 12\]}"):
        select_fields(ds, FieldOptions())
    fields = select_fields(ds, FieldOptions.model_validate({"subset": {"times": [6, 12]}}))
    assert fields.axis.tolist() == [6, 12]
    assert fields.read(slice(0, 1), slice(0, 2))[0, :, :, 0, 0].tolist() == [[1, 4], [2, 5]]


def test_a_heading_before_the_first_message_is_skipped_and_told(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.grib", surface("2t"), surface("2t", 6)))
    path.write_bytes(b"\r\r\n123\r\r\nHTXA85 ECMF 010000\r\r\n" + path.read_bytes())
    assert [found.kind for found in recognise(path)[1]] == ["grib"]
    with collect() as assumed:
        assert GRIB(paths=str(path)).open().sizes["time"] == 2
    assert [one.text for one in assumed.all] == [f"{path}: 30 bytes before its first message are skipped"]


def test_messages_that_a_selection_leaves_out_are_named(tmp_path: Path) -> None:
    path = messages(tmp_path / "a.grib", kinds=("isobaricInhPa", "hybrid"))
    for _ in range(2):  # a file is indexed once, but told of by each source
        with collect() as assumed:
            GRIB(paths=path, select={"typeOfLevel": "isobaricInhPa"}).open()
        (said,) = assumed.all
        assert (said.code, said.question) == ("fields_not_read", False)
        assert "leaves out 4 messages: 2 of t, 2 of z" in said.text
    with collect() as assumed:
        GRIB(paths=path, select={"typeOfLevel": "hybrid", "shortName": "t"}).open()
    assert assumed.all == ()


def test_a_parameter_that_no_table_names_has_no_units(tmp_path: Path) -> None:
    local = {"discipline": 0, "parameterCategory": 191}
    path = write(
        tmp_path / "a.grib", *(local | {"parameterNumber": 200, "dataTime": time} for time in (0, 600))
    )
    with collect() as assumed:
        GRIB(paths=path).open()
    assert [one.code for one in assumed.all] == ["units_missing"]
    both = write(tmp_path / "b.grib", *(local | {"parameterNumber": number} for number in (200, 201)))
    with pytest.raises(
        DataError, match=r"2 messages for .* parameterNumber 200, 201; .* {parameterNumber: 200}"
    ):
        GRIB(paths=both).open()


def test_levels_of_two_kinds_lead_to_select(tmp_path: Path) -> None:
    places = [("t", "isobaricInhPa", (500, 850)), ("u", "hybrid", (1, 2))]
    written = [
        {"shortName": name, "typeOfLevel": kind, "level": level, "dataTime": time}
        for time in (0, 600)
        for name, kind, levels in places
        for level in levels
    ]
    with pytest.raises(
        DataError, match=r"t has levels in 'hPa' and .*u in '1': .* select: {typeOfLevel: \.\.\.}"
    ):
        GRIB(paths=write(tmp_path / "a.grib", *written)).open()


def test_messages_that_are_missing_are_read_as_such_in_another_process(tmp_path: Path) -> None:
    wanted = [surface("2t", hour, step) for hour in (0, 12) for step in (0, 6)]
    source = GRIB(paths=write(tmp_path / "a.grib", *wanted[:3]), absent="missing")
    with collect() as assumed:
        ds = source.open()
    assert "chunks_absent" in [one.code for one in assumed.all]
    grib_file._opened.cache_clear()  # as in a worker, which has opened nothing yet
    assert np.isnan(ds.air_temperature[1, 1].values).all()
