import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.streaming.batch_archive import BatchArchive
from pelagos.evaluation.truth import read_truth
from pelagos.models.networks.fourier.fno import FNOConfig
from pelagos.pipeline.runs import configuration
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.stages.evaluate import EvaluateStage, forecast_path, run
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import ConfigError, PelagosError
from pelagos.preprocessing.store.store import Store, open_store
from tests.fresh_model import fresh_model

VALUES = {"models": {"net": "model"}, "store": "store.zarr", "output": "runs/evaluation"}


def test_a_model_named_like_a_baseline_is_refused_with_the_configuration() -> None:
    values = {**VALUES, "models": {"persistence": "model"}}
    with pytest.raises(ConfigError, match="persistence is the name of a baseline"):
        configuration.validate(values, EvaluateStage, "evaluate.yaml")
    configuration.validate({**values, "baselines": ["stencil"]}, EvaluateStage, "evaluate.yaml")


def test_forecasts_of_different_models_have_different_places() -> None:
    config = configuration.validate(VALUES, EvaluateStage, "evaluate.yaml")
    first, second = forecast_path(config, "net"), forecast_path(config, "other")
    assert first != second
    assert first.parent == second.parent == config.output / "forecasts"


def model(store: Store, names: tuple[str, ...]) -> Model:
    """A network with fresh weights for some of the waves' variables, trained for one frame."""
    leads = dict.fromkeys(("min_lead", "max_lead", "horizon"), store.dt)
    return fresh_model(store, FNOConfig(width=4, modes=(2, 2), num_layers=1), names=names, leads=leads)


def refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_models_of_different_variables_are_scored_side_by_side(
    waves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(waves)
    model(store, ("displacement",)).save(tmp_path / "narrow")
    model(store, ("displacement", "displacement_rate")).save(tmp_path / "wide")
    values = {
        "models": {"narrow": str(tmp_path / "narrow"), "wide": str(tmp_path / "wide")},
        "store": waves,
        "output": tmp_path / "scores",
        "starts": {"split": "valid", "steps": 2},
        "mode": "direct",
        "log": False,
    }
    run(configuration.validate(values, EvaluateStage, "evaluate.yaml"))
    printed = capsys.readouterr()
    assert "displacement_rate  -  " in printed.out
    assert "0 of 2" in printed.out
    for name in ("narrow", "wide"):
        assert printed.err.count(f"WARNING: model {name}: asked for a lead time of 0.04") == 1
    found = json.loads((tmp_path / "scores" / "scores.json").read_text(), parse_constant=refused)
    assert list(found["methods"]["narrow"]["groups"]) == ["displacement"]
    assert found["models"]["wide"] == {"model": str(tmp_path / "wide"), "horizon": pytest.approx(0.02)}
    page = (tmp_path / "scores" / "report.html").read_text()
    for text in ("scored by", "licence", "not stated", "trained by the code"):
        assert text in page


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, but for those that claim it and name the output or a part."""
    claims = ("config.yaml", "run.json")
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in claims)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def values(waves: Path, tmp_path: Path) -> dict[str, Any]:
    store = open_store(waves)
    model(store, ("displacement", "displacement_rate")).save(tmp_path / "model")
    return {
        "models": {"net": str(tmp_path / "model")},
        "store": waves,
        "output": tmp_path / "whole",
        "starts": {"split": "train", "every": 2, "steps": 2},
        "regions": [{"name": "left", "x": [0, 0.5]}],
        "batch": 2,
        "log": False,
    }


def evaluate(values: dict[str, Any], **changes: Any) -> Any:
    return run(configuration.validate({**values, **changes}, EvaluateStage, "evaluate.yaml"))


def test_parts_give_what_one_process_gives(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = evaluate(values)
    assert list(whole.scores["methods"]["net"]["regions"]) == ["left"]
    parted = tmp_path / "parted"
    for part in ("2/3", "3/3"):
        assert evaluate(values, output=parted, part=part) is None
    assert "batches of forecasts are left to other parts" in capsys.readouterr().err
    assert not (parted / "scores.json").exists()
    assert evaluate(values, output=parted, part="1/3").scores == whole.scores
    assert contents(tmp_path / "whole") == contents(parted)
    with pytest.raises(ConfigError, match="part: 4/3 must be one of 1/3 to 3/3"):
        configuration.validate({**values, "part": "4/3"}, EvaluateStage, "evaluate.yaml")


def test_processes_of_a_launcher_give_what_one_process_gives(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(values)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        found = evaluate(values, output=tmp_path / "dealt")
    assert found.scores == whole.scores
    assert contents(tmp_path / "whole") == contents(tmp_path / "dealt")
    second = configuration.validate({**values, "part": "2/3"}, EvaluateStage, "evaluate.yaml")
    assert second.share == (2, 6)


def test_a_refused_evaluation_leaves_its_folder_to_the_corrected_one(values: dict[str, Any]) -> None:
    with pytest.raises(PelagosError, match="linear_extrapolation needs the frame 1 before each start"):
        evaluate(values, baselines=("linear_extrapolation",))
    assert evaluate(values) is not None


class KilledError(Exception):
    """Stands for a process that ends."""


def test_an_evaluation_goes_on_after_the_last_finished_batch(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(values)
    expected = contents(tmp_path / "whole")
    for name in ("scores.zarr", "forecasts", "scores.json", "report.html"):
        # As if it had never ended.
        (tmp_path / "whole" / name).rename(tmp_path / f"first-{name}")
    write = BatchArchive.write
    written: list[int] = []

    def dying(self: BatchArchive, batch: Any, windows: Iterator[Any]) -> None:
        if len(written) == 2:
            next(windows)
            raise KilledError
        written.append(batch.number)
        write(self, batch, windows)

    monkeypatch.setattr(BatchArchive, "write", dying)
    with pytest.raises(KilledError):
        evaluate(values)

    def noting(self: BatchArchive, batch: Any, windows: Iterator[Any]) -> None:
        written.append(batch.number)
        write(self, batch, windows)

    monkeypatch.setattr(BatchArchive, "write", noting)
    # As if it had been killed again while it wrote the numbers.
    (tmp_path / "whole" / ".numbers.csv.0d7ea5f5.partial").write_text("method,region")
    evaluate(values)
    assert len(written) == len(set(written)) > 2
    assert contents(tmp_path / "whole") == expected


def test_a_finished_evaluation_is_not_made_again(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(values)
    report = values["output"] / "report.html"
    content = report.read_bytes()
    report.unlink()
    monkeypatch.setattr(BatchArchive, "write", None)
    assert evaluate(values).scores == first.scores
    assert report.read_bytes() == content


def test_an_evaluation_is_logged_with_its_scores_store_and_report(
    values: dict[str, Any], tmp_path: Path
) -> None:
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    scores = evaluate(values, log=True, tracking={"uri": tracking.uri}).scores
    client = tracking.client()
    [logged] = client.search_runs([tracking.experiment_id()])
    assert logged.info.status == "FINISHED"
    assert logged.data.metrics["net/rollout"] == scores["methods"]["net"]["rollout"]
    assert logged.data.params["models.net"] == values["models"]["net"]
    assert [one.dataset.name for one in logged.inputs.dataset_inputs] == [values["store"].name]
    assert {file.path for file in client.list_artifacts(logged.info.run_id)} == {"report.html", "scores.json"}


def test_a_convention_and_scores_by_name_stand_beside_the_headline(
    values: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(
        values,
        convention="pdebench",
        scores=["band_rmse", "correlation_time", "drift", "acc"],
        solver={"equation": {"kind": "wave"}, "coarsen": 2},
    ).scores
    assert set(found["convention"]["methods"]) == {"net", "solver", "persistence"}
    assert found["models"]["solver"]["model"].startswith("wave solved on 4 x 4 points")
    net = found["methods"]["net"]
    assert set(net["scores"]) == {"band_rmse_0_3", "band_rmse_4_11"} | {"band_rmse_12_on"}
    assert net["without"] == ["acc"]
    assert net["intervals"]["rollout"]["value"] == pytest.approx(net["rollout"], rel=1e-12)
    printed = capsys.readouterr().out
    assert "convention pdebench: physical fields, equal weights" in printed
    assert "  nrmse: √(⟨e²⟩ / (⟨t²⟩ + eps))" in printed
    assert "net: correlation_time" in printed
    assert "95 % intervals over" in printed


def test_a_model_named_like_the_solver_is_refused_where_there_is_one() -> None:
    values = {**VALUES, "models": {"solver": "model"}}
    configuration.validate(values, EvaluateStage, "evaluate.yaml")
    with pytest.raises(ConfigError, match="solver is the name of a baseline"):
        configuration.validate(
            {**values, "solver": {"equation": {"kind": "wave"}}}, EvaluateStage, "evaluate.yaml"
        )


def test_an_ensemble_has_a_spread_and_fits_into_a_batch(values: dict[str, Any]) -> None:
    ensemble = {"members": 3, "starts": {"kind": "noise", "scale": 0.1}}
    found = evaluate(
        values, ensemble=ensemble, batch=4, scores=["fair_crps", "spread", "rank_histogram"], regions=[]
    ).scores["methods"]
    net, persistence = found["net"], found["persistence"]
    assert net["without"] == []
    for group in net["scores"]["spread"]["groups"].values():
        assert group["value"] > 0
    # All members of persistence are one forecast.
    assert all(group["value"] == 0 for group in persistence["scores"]["spread"]["groups"].values())
    assert sum(net["rank_histogram"]["displacement"]) == pytest.approx(1)
    with pytest.raises(ConfigError, match="batch: 2 is less than the 3 members"):
        evaluate(values, ensemble=ensemble, output=values["output"].with_name("small"))


RAIN = {"variable": "displacement", "thresholds": [0.0], "window": 1, "dry": 0.01}


def test_rain_is_scored_by_category_and_by_neighbourhood(values: dict[str, Any]) -> None:
    pytest.importorskip("scores.categorical")
    found = evaluate(values, scores=["seeps", "fss"], rain=RAIN).scores["methods"]["net"]["scores"]
    assert list(found) == ["seeps", "fss_0"]
    assert list(found["seeps"]["groups"]) == ["displacement"]
    store = open_store(values["store"])
    plan = StartsConfig.model_validate(values["starts"]).plan(store)
    truth = read_truth(store, plan, store.variables)["displacement"]
    forecast = xr.open_zarr(values["output"] / "forecasts/net.zarr", decode_timedelta=False)["displacement"]
    said, happened = (one.transpose("lead_time", ...).values.reshape(2, -1) > 0 for one in (forecast, truth))
    # In windows of one point the shares are 0 and 1.
    expected = 1 - (said ^ happened).sum(axis=1) / (said.sum(axis=1) + happened.sum(axis=1))
    assert found["fss_0"]["groups"]["displacement"]["value"] == pytest.approx(expected.mean(), rel=1e-12)


@pytest.mark.skipif(importlib.util.find_spec("scores") is not None, reason="the package scores is installed")
def test_scores_of_rain_name_the_extra_that_they_need(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"pelagos\[scores\]"):
        evaluate(values, scores=["fss"], rain=RAIN)


@pytest.mark.parametrize(
    ("rain", "message"),
    [(None, "need `rain: {variable: KEY}`"), ({"variable": "displacement"}, "fss needs one amount or more")],
)
def test_scores_of_rain_say_what_they_have_to_know(
    values: dict[str, Any], rain: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(values, scores=["fss"], rain=rain)
