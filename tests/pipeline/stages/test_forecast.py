"""`pelagos forecast`: what people start from, what is written, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from pelagos.evaluation.forecast_writer import ForecastWriter
from pelagos.evaluation.forecast_zarr import read_forecasts
from pelagos.pipeline.forecasting.forecaster import Forecaster
from pelagos.pipeline.runs import configuration
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Model, load
from pelagos.pipeline.stages import forecast
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.store.manifest import read_manifest
from pelagos.preprocessing.store.store import open_store
from tests.fresh_model import SMALL, fresh_model


@pytest.fixture(scope="module")
def model(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with fresh weights that knows the waves."""
    folder, store = tmp_path_factory.mktemp("model") / "model", open_store(waves)
    fresh_model(store, SMALL, leads={"min_lead": store.dt, "max_lead": 4 * store.dt}).save(folder)
    return folder


def run(output: Path, **values: Any) -> Path:
    given = {"output": output, "threads": 1, "starts": {"at": "last", "steps": 3}, **values}
    return forecast.run(configuration.validate(given, forecast.ForecastStage, "forecast.yaml"))


def test_it_goes_beyond_the_data(waves: Path, model: Path, tmp_path: Path) -> None:
    store = open_store(waves)
    made = read_forecasts(run(tmp_path / "f.zarr", model=str(model), store=waves))
    assert made["start"].values.tolist() == [store.num_times - 1]
    assert made.sizes["trajectory"] == store.num_trajectories
    assert made["lead_time"].values == pytest.approx(store.dt * np.arange(1, 4))
    assert np.isfinite(made["displacement"].values).all()


def test_it_says_what_it_was_made_of(waves: Path, model: Path, tmp_path: Path) -> None:
    attrs = xr.open_zarr(run(tmp_path / "f.zarr", model=str(model), store=waves), chunks=None).attrs
    assert attrs["model_checksum"] == model_checksum(model)
    assert attrs["initial_data_checksum"] == read_manifest(waves).checksum
    assert json.loads(attrs["configuration"])["starts"] == {"at": ["last"], "steps": 3}
    assert all(isinstance(value, str) for value in attrs.values())  # as netCDF has them


def test_an_archive_gives_the_forecasts_of_its_store(waves: Path, model: Path, tmp_path: Path) -> None:
    of_store = read_forecasts(run(tmp_path / "store.zarr", model=str(model), store=waves)).load()
    archive = str(waves.parent.parent / "waves.hdf5")
    of_archive = read_forecasts(run(tmp_path / "archive.zarr", model=str(model), archive=archive)).load()
    xr.testing.assert_equal(of_archive, of_store)


def test_several_models_take_turns(waves: Path, model: Path, tmp_path: Path) -> None:
    first = load(model)
    torch.manual_seed(1)
    other = Model(first.config, first.config.build(first.signature), first.signature, first.domains)
    other.save(tmp_path / "other")
    models = [str(model), str(tmp_path / "other")]
    made = read_forecasts(run(tmp_path / "f.zarr", model=models, store=waves, ensemble={}, batch=3)).load()
    assert made["displacement"].dims[:3] == ("trajectory", "start", "member")
    for number, one in enumerate(models):
        alone = read_forecasts(run(tmp_path / f"{number}.zarr", model=one, store=waves)).load()
        for name in alone.data_vars:
            np.testing.assert_allclose(made[name].isel(member=number), alone[name], rtol=1e-5, atol=1e-6)


def test_a_killed_forecast_goes_on_and_ends_with_the_same_bytes(
    waves: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"model": str(model), "store": waves, "batch": 2}
    whole = run(tmp_path / "whole.zarr", **values)
    frames, calls = Forecaster.frames, []

    def dying(*arguments: Any) -> Any:
        calls.append(arguments)
        yield from list(frames(*arguments))[: 2 if len(calls) == 3 else None]
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Forecaster, "frames", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed.zarr", **values)
    assert not (tmp_path / "killed.zarr").exists()
    killed = run(tmp_path / "killed.zarr", **values)
    assert len(calls) == 3 + 2  # of four batches two were finished
    assert contents(killed) == contents(whole)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_forecast_that_cannot_be_finished_keeps_its_batches(
    waves: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: ForecastWriter) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(ForecastWriter, "finish", full)
    with pytest.raises(OSError, match="no space"):
        run(tmp_path / "f.zarr", model=str(model), store=waves)
    monkeypatch.undo()
    monkeypatch.setattr(Forecaster, "frames", lambda *arguments: pytest.fail("nothing is made again"))
    assert read_forecasts(run(tmp_path / "f.zarr", model=str(model), store=waves)).sizes["start"] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"store": "absent.zarr", "archive": "a.nc"}, "give one of store, archive and source"),
        ({}, "say what to start from"),
        ({"archive": "a.nc", "starts": {}}, r"say by starts.at which frames"),
        ({"store": "a.zarr", "model": ["a", "b"]}, "several models make an ensemble"),
        ({"store": "a.zarr", "mode": {"kind": "composite", "lengths": [4, 2]}}, "1 one of them"),
    ],
)
def test_a_configuration_says_what_is_missing(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "f.zarr", **{"model": "m", **values})


def test_a_date_is_refused_where_there_are_none(waves: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"times without dates, so starts\.at=2020-01-01 means nothing"):
        run(tmp_path / "f.zarr", model=str(model), store=waves, starts={"at": "2020-01-01"})
