"""The road of a newcomer: inspect an archive, build what was printed, inspect the store."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from pelagos.pipeline.cli import app


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_what_inspect_prints_builds_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    times = np.datetime64("2020-01-01", "ns") + np.arange(20) * np.timedelta64(6, "h")
    coords = {"time": times, "lat": np.linspace(60, 50, 5), "lon": np.arange(6) * 2.5}
    field = (("time", "lat", "lon"), np.random.default_rng(0).normal(size=(20, 5, 6)).astype("f4"))
    xr.Dataset({"t": field}, coords).to_netcdf("weather.nc", engine="h5netcdf")
    (tmp_path / "mine.yaml").write_text(run("inspect", "weather.nc"))
    run("build", "mine.yaml")
    text = run("inspect", "stores/weather/weather-1.zarr")
    assert "1 trajectories of 20 frames, 1 channels, 5 x 6 points" in text
