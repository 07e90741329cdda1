"""Plots: pictures of what a store and a forecast hold, and a word where that is not there."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread
from typer.testing import CliRunner, Result

from pelagos.evaluation.forecast_zarr import write_forecast
from pelagos.pipeline.cli import app
from pelagos.preprocessing.store.store import open_store


def plot(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["plot", *map(str, arguments)])
    assert "Traceback" not in result.output, result.output
    return result


@pytest.fixture
def forecast(tmp_path: Path) -> Path:
    """A forecast that falls from 1 to -1 over x, the same at both lead times."""
    values = np.broadcast_to(np.linspace(1, -1, 8), (1, 1, 2, 6, 8)).astype("f4")
    dims = ("trajectory", "start", "lead_time", "y", "x")
    coords = {
        "trajectory": [3],
        "start": [0],
        "lead_time": [0.5, 1.0],
        "y": np.arange(6.0),
        "x": np.arange(8.0),
    }
    field = xr.DataArray(values, coords, dims, attrs={"units": "K"})
    write_forecast(xr.Dataset({"temperature": field}, attrs={"dataset": "made"}), tmp_path / "made.zarr")
    return tmp_path / "made.zarr"


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_store_is_drawn_in_each_kind_of_picture(tmp_path: Path, waves: Path, kind: str) -> None:
    file = tmp_path / f"picture.{kind}"
    result = plot(waves, "--output", file, "--time", "0,-1", "--trajectory", 2)
    assert result.output == f"wrote {file}\n"
    assert file.stat().st_size > 1000


def test_labels_say_what_is_drawn(tmp_path: Path, waves: Path, forecast: Path) -> None:
    store, file = open_store(waves), tmp_path / "waves.svg"
    plot(waves, "--output", file, "--variable", store.variables[0].key, "--time", "0,5")
    text = file.read_text()
    assert store.variables[0].key in text
    assert store.variables[1].key not in text
    assert "time 0.1" in text
    assert "trajectory 0" in text
    plot(forecast, "--output", file)
    text = file.read_text()
    assert "temperature [K]" in text
    assert "lead time 0.5" in text
    assert "forecast of made: trajectory 3" in text


def test_equal_values_give_equal_pictures_and_others_do_not(tmp_path: Path, waves: Path) -> None:
    for name, trajectory in (("a", 0), ("b", 0), ("c", 1)):
        plot(waves, "--output", tmp_path / f"{name}.png", "--trajectory", trajectory)
    one, same, other = (imread(tmp_path / f"{name}.png") for name in "abc")
    assert np.array_equal(one, same)
    assert one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variable", "nonsense"), "has no variable nonsense; it has "),
        (("--trajectory", "8"), "trajectory 8 does not exist; there are 0 to 7"),
        (("--time", "6"), "frame 6 does not exist; there are 0 to 5"),
        (("--time", "first"), "whole numbers between commas would be right"),
        (("--output", "picture.gif"), "a picture's name ends in one of .png, .svg, .pdf"),
        (("--output", "nowhere/a.png"), "nowhere does not exist"),
    ],
)
def test_what_is_not_there_is_told(waves: Path, arguments: tuple[str, ...], message: str) -> None:
    result = plot(waves, *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    assert "no such store" in plot(tmp_path / "nothing.zarr", "--output", tmp_path / "a.png").output
