"""The demo's report shows what its summary says, beside the evaluation."""

import json
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.forecast_zarr import write_forecast
from pelagos.evaluation.truth import read_truth
from pelagos.evaluation.verification import Evaluation, evaluate_forecasts
from pelagos.pipeline.runs import configuration
from pelagos.pipeline.stages import demo
from pelagos.pipeline.stages.demo_contract import DemoContract
from pelagos.pipeline.stages.demo_report import demo_report
from pelagos.preprocessing.store.store import open_store

REFINED = {"error_before": 0.081, "error_after": 0.043, "residual_before": 0.5, "residual_after": 0.02}
SUMMARY: dict[str, Any] = {
    "seconds": {"simulate": 3.0, "pretrain": 61.0, "total": 64.0},
    "peak_memory_bytes": 3 << 30,
    "refinement": {
        **REFINED,
        "refine_seconds": 1.5,
        "solver_seconds": 0.25,
        "solver_error": 0.007,
        "head_seconds": 0.03,
        "head_training_seconds": 6.0,
        "head_training_seconds_each": 0.75,
        "forecasts": [{**REFINED, "evaluations": 17}],
    },
    "registry": {"name": "pelagos-demo", "version": 12, "alias": "champion", "forecast_identical": True},
}


STARTS = StartsConfig(split="valid", steps=2)


@pytest.fixture(scope="module")
def forecasts(waves: Path) -> dict[str, xr.Dataset]:
    store = open_store(waves)
    truth = read_truth(store, STARTS.plan(store), store.variables)
    factors = {"finetuned": 1.1, "scratch": 1.3}
    return {name: (truth * factor).assign_attrs(truth.attrs) for name, factor in factors.items()}


@pytest.fixture(scope="module")
def evaluation(waves: Path, forecasts: dict[str, xr.Dataset]) -> Evaluation:
    store = open_store(waves)
    return evaluate_forecasts(forecasts, store, STARTS.plan(store), store.variables, ["persistence"])


@pytest.fixture(scope="module")
def contract(forecasts: dict[str, xr.Dataset], tmp_path_factory: pytest.TempPathFactory) -> DemoContract:
    folder = tmp_path_factory.mktemp("demo")
    config = configuration.load("demo", [f"output={folder}"], demo.DemoStage)
    found = DemoContract.of(step.config for step in demo.demo_steps(config))
    for name, method in (("forecast", "finetuned"), ("refined", "scratch")):
        write_forecast(forecasts[method], found.refine.output / f"{name}.zarr")
    return found


def page(
    contract: DemoContract, evaluation: Evaluation, summary: dict[str, Any], runs: dict[str, Path]
) -> str:
    return demo_report(summary, contract, evaluation, runs).html()


def test_the_result_comes_first_and_costs_last(contract: DemoContract, evaluation: Evaluation) -> None:
    html = page(contract, evaluation, SUMMARY, {})
    sections = ("Result", "Scores", "Spectra and conservation", "Pictures", "Refinement", "Registry and cost")
    places = [html.index(f">{section}</h2>") for section in sections]
    assert places == sorted(places)
    assert ">Training</h2>" not in html  # nothing was trained
    # The forecasts are 10 % and 30 % too large.
    for text in ("from scratch 0.3", "0.043", "before 0.081", "64 s", "peak 3.0 GiB"):
        assert text in html
    head = "Refining took 1.5 CPU s a forecast and 0.03 for the head, whose training took 6 (0.75 for each"
    for text in ('<td class="number">17</td>', head, "version 12 of", "the same to the last bit"):
        assert text in html


def test_a_forecast_from_the_registry_that_differs_is_said(
    contract: DemoContract, evaluation: Evaluation
) -> None:
    registry = {**SUMMARY["registry"], "forecast_identical": False}
    html = page(contract, evaluation, {**SUMMARY, "registry": registry}, {})
    assert "its forecasts were different" in html
    assert "the same to the last bit" not in html


def test_curves_are_of_the_runs_that_have_losses(
    contract: DemoContract, evaluation: Evaluation, tmp_path: Path
) -> None:
    records = [{"step": step, "train/loss": 1 / step} for step in (1, 2, 3)]
    for name, lines in (("first-run", records), ("empty-run", [{"step": 1, "valid/loss": 1.0}])):
        (tmp_path / name).mkdir()
        text = "".join(json.dumps(record) + "\n" for record in lines)
        (tmp_path / name / "metrics.jsonl").write_text(text)
    runs = {name: tmp_path / name for name in ("first-run", "empty-run", "no-run")}
    html = page(contract, evaluation, SUMMARY, runs)
    assert "first-run" in html
    assert "empty-run" not in html
    assert "no-run" not in html
