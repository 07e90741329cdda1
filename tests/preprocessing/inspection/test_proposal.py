import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
import yaml

from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.inspection.proposal import proposal_of, propose
from pelagos.preprocessing.store.manifest import verify
from pelagos.preprocessing.store.store import open_store


def weather(path: Path, times: int, missing: bool = False) -> Path:
    """A CF file of one field on latitudes and longitudes."""
    latitude, longitude = np.linspace(80, -80, 5), np.arange(0, 360, 60.0)
    values = np.random.default_rng(0).normal(280, 5, (times, 5, 6)).astype(np.float32)
    values[:, 2, 3] = np.nan if missing else 1
    days = np.datetime64("2001-01-01", "ns") + np.arange(times) * np.timedelta64(1, "D")
    ds = xr.Dataset(
        {
            "t2m": (
                ("time", "latitude", "longitude"),
                values,
                {"units": "K", "standard_name": "air_temperature"},
            )
        },
        {
            "time": days,
            "latitude": ("latitude", latitude, {"units": "degrees_north", "standard_name": "latitude"}),
            "longitude": ("longitude", longitude, {"units": "degrees_east", "standard_name": "longitude"}),
        },
        {"Conventions": "CF-1.8"},
    )
    ds.to_netcdf(path, engine="h5netcdf")
    return path


def configured(text: str, root: Path) -> BuildConfig:
    values: dict[str, Any] = yaml.safe_load(text)
    assert values.pop("command") == "build"
    return BuildConfig.model_validate(values | {"root": root})


@pytest.mark.parametrize("missing", [False, True])
def test_what_is_proposed_can_be_built(tmp_path: Path, missing: bool) -> None:
    text = propose(weather(tmp_path / "t2m daily.nc", 20, missing))
    assert "pelagos build accepts this as it is" in text
    config = configured(text, tmp_path / "stores")
    assert config.dataset == "t2m_daily"
    assert config.missing == ("keep" if missing else "error")
    assert verify(build(config)) == []


def test_values_that_only_later_frames_lack_are_proposed_to_be_kept(tmp_path: Path) -> None:
    path = weather(tmp_path / "late.nc", 20)
    with h5py.File(path, "r+") as file:
        file["t2m"][7, 2, 3] = np.nan
    config = configured(propose(path), tmp_path / "stores")
    assert config.missing == "keep"
    assert np.isnan(open_store(build(config)).read(0, 0, 20)).sum() == 1


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3.7e39])
def test_what_a_build_would_refuse_is_not_called_accepted(tmp_path: Path, value: float) -> None:
    path = weather(tmp_path / "a.nc", 5)
    with xr.open_dataset(path, engine="h5netcdf") as held:
        wide = held.load().astype(np.float64)
    wide.t2m[3, 1, 2] = value
    wide.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    text = propose(tmp_path / "b.nc")
    assert "accepts this" not in text
    assert re.search("has to be settled:\n#   air_temperature has values that are infinite in float32", text)
    with pytest.raises(DataError, match="air_temperature, trajectory 0, time 3"):
        build(configured(text, tmp_path / "stores"))


def test_what_is_met_while_reading_is_told_once_and_in_the_comments(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with xr.open_dataset(weather(tmp_path / "a.nc", 5), engine="h5netcdf") as held:
        wide = held.load()
    wide.t2m.attrs["valid_range"] = np.array([200, 285], np.float32)
    wide.t2m[0, 1, 2] = 400
    wide.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    assert propose(tmp_path / "b.nc").count("outside its valid_range") == 1
    assert not caplog.records


def test_missing_values_that_the_user_refuses_are_not_called_accepted(tmp_path: Path) -> None:
    path = weather(tmp_path / "a.nc", 5, missing=True)
    text = proposal_of(path, {"missing": "error"}).text()
    assert "accepts this" not in text
    assert "air_temperature has missing values, 3.33% in all frames: set missing: keep" in text


def test_long_series_are_split_by_dates_and_short_ones_all_train(tmp_path: Path) -> None:
    found = configured(propose(weather(tmp_path / "a.nc", 20)), tmp_path).splits
    assert found.kind == "time"
    assert found.train == (None, "2001-01-17T00:00:00")
    assert found.test == ("2001-01-19T00:00:00", None)
    assert configured(propose(weather(tmp_path / "b.nc", 5)), tmp_path).splits.kind == "trajectories"


def test_all_that_is_no_configuration_is_a_comment(tmp_path: Path) -> None:
    lines = propose(weather(tmp_path / "a.nc", 20)).splitlines()
    assert lines[0].startswith("# ")
    assert not any(line != line.rstrip() for line in lines)
    assert yaml.safe_load("\n".join(lines))["source"]["kind"] == "cf"


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    with pytest.raises(DataError, match=r"a\.h5: the file is empty; download or create it again"):
        propose(tmp_path / "a.h5")
