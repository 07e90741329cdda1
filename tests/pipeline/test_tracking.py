"""Tracking: the file of metrics is complete whatever becomes of the server."""

from pathlib import Path

import pytest

from pelagos.pipeline.tracking import TrackingConfig, history


def test_metrics_reach_the_file_and_the_server(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    tracker = config.build("run", tmp_path / "run")
    tracker.params({"loop": {"steps": 3}})
    tracker.metrics({"loss": 0.5}, 1)
    tracker.metrics({"loss": 0.25}, 2)
    tracker.close()
    assert [(r["step"], r["loss"]) for r in history(tmp_path / "run")] == [(1, 0.5), (2, 0.25)]
    run = config.client().get_run(tracker.run_id)
    assert run.data.metrics["loss"] == 0.25
    assert run.data.params["loop.steps"] == "3"


def test_a_restarted_run_goes_on_in_the_same_mlflow_run(tmp_path: Path) -> None:
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    first, second = (config.build("run", tmp_path / "run").run_id for _ in range(2))
    assert first == second


def test_a_server_that_cannot_be_reached_leaves_a_complete_file(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database")
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.warns(UserWarning, match="MLflow does not answer"):
        tracker = config.build("run", tmp_path / "run")
    tracker.metrics({"loss": 0.5}, 1)
    tracker.close()
    assert history(tmp_path / "run")[0]["loss"] == 0.5
