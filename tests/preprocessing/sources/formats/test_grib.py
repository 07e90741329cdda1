"""GRIB: standard names, levels, starts and lead times, read through cfgrib."""

import sys
from pathlib import Path

import eccodes
import numpy as np
import pytest

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.sources.file_source import FileSource
from pelagos.preprocessing.sources.formats.grib import GRIB
from tests.preprocessing.sources.contracts import SourceContract


def messages(path: Path, steps: tuple[int, ...] = (0,), kinds: tuple[str, ...] = ("isobaricInhPa",)) -> str:
    """Two days of t and z at two levels, on 5 x 6 points; values tell messages apart."""
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
            own: dict[str, int | str] = {"dataDate": 20200100 + day, "dataTime": 0, "stepRange": step}
            own |= {"shortName": name, "typeOfLevel": layer, "level": level}
            for key, value in (keys | own).items():
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
