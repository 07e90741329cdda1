"""Tracking: the file of metrics is complete whatever becomes of the server, which gets all of it in the end."""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pelagos.pipeline.tracking import tracker as tracker_module
from pelagos.pipeline.tracking.tracker import MlflowTracker, TrackingConfig, read_metrics


class Server:
    """A tracking server that can be switched off; or one that loses the answer to what it has done."""

    def __init__(self, client: Any) -> None:
        self._client, self.down, self.deaf, self.asked = client, False, False, threading.Event()

    def __getattr__(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.down:
                self.asked.set()
                raise MlflowException("connection refused")
            result = getattr(self._client, name)(*args, **kwargs)
            if self.deaf:
                self.down = True
                raise MlflowException("connection lost")
            return result

        return call


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs, which takes a while to make."""
    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    TrackingConfig(uri=f"sqlite:///{file}").client()
    return file


@pytest.fixture
def config(tmp_path: Path, database: Path) -> TrackingConfig:
    """Of a server in a file, which is asked again soon."""
    shutil.copy(database, tmp_path)
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", retry_seconds=0.02)


@pytest.fixture
def server(config: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server that trackers of this test meet."""
    found = Server(config.client())
    monkeypatch.setattr(TrackingConfig, "client", lambda self: found)
    return found


def sent(config: TrackingConfig, server: Any, run: Path, key: str = "loss") -> list[tuple[int, float]]:
    """Steps and values of a metric at the server."""
    run_id = (run / "mlflow_run").read_text()
    return [(metric.step, metric.value) for metric in server._client.get_metric_history(run_id, key)]


def test_metrics_reach_the_file_and_the_server(tmp_path: Path, config: TrackingConfig) -> None:
    tracker = config.build("run", tmp_path / "run")
    tracker.params({"loop": {"steps": 3}})
    tracker.metrics({"loss": 0.5}, 1)
    tracker.metrics({"loss": 0.25}, 2)
    tracker.close()
    assert [(r["step"], r["loss"]) for r in read_metrics(tmp_path / "run")] == [(1, 0.5), (2, 0.25)]
    run = config.client().get_run(tracker.run_id)
    assert run.data.metrics["loss"] == 0.25
    assert run.data.params["loop.steps"] == "3"
    assert run.info.status == "FINISHED"


def test_a_restarted_run_goes_on_in_the_same_mlflow_run(tmp_path: Path, config: TrackingConfig) -> None:
    ids = []
    for _ in range(2):
        tracker = config.build("run", tmp_path / "run")
        tracker.close()
        ids.append(tracker.run_id)
    assert ids[0] == ids[1] != ""


def test_a_server_that_dies_and_comes_back_has_everything_once(
    tmp_path: Path, config: TrackingConfig, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = config.build("run", tmp_path / "run")
    tracker.metrics({"loss": 1.0}, 1)
    server.down = True
    for step in range(2, 200):
        tracker.metrics({"loss": 1 / step, "other": 0.0}, step)
    assert server.asked.wait(10)
    time.sleep(0.1)
    server.down = False
    tracker.metrics({"loss": 0.0}, 200)
    tracker.close()
    expected = [(step, 1 / step) for step in range(1, 200)] + [(200, 0.0)]
    assert sent(config, server, tmp_path / "run") == expected
    assert capfd.readouterr().err.count("does not answer") == 1


def test_what_a_server_took_without_saying_so_is_there_once(
    tmp_path: Path, config: TrackingConfig, server: Server
) -> None:
    tracker = config.build("run", tmp_path / "run")
    while not (tmp_path / "run" / "mlflow_run").is_file():
        time.sleep(0.01)
    server.deaf = True
    tracker.metrics({"loss": 0.5}, 1)
    assert server.asked.wait(10)
    server.deaf = server.down = False
    tracker.close()
    assert sent(config, server, tmp_path / "run") == [(1, 0.5)]


def test_what_a_dead_server_missed_is_sent_by_the_next_process(
    tmp_path: Path, config: TrackingConfig, server: Server
) -> None:
    server.down = True
    tracker = config.build("run", tmp_path / "run")
    for step in (1, 2, 3):
        tracker.metrics({"loss": float(step)}, step)
    tracker.close("KILLED")
    server.down = False
    # The run goes on from a checkpoint after step 2, and so repeats step 3.
    tracker = config.build("run", tmp_path / "run")
    for step in (3, 4):
        tracker.metrics({"loss": float(step)}, step)
    tracker.close()
    assert sent(config, server, tmp_path / "run") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_a_run_that_has_ended_catches_up(tmp_path: Path, config: TrackingConfig, server: Server) -> None:
    server.down = True
    tracker = config.build("run", tmp_path / "run")
    tracker.metrics({"loss": 1.0}, 1)
    tracker.close()
    server.down = False
    config.catch_up("run", tmp_path / "run")
    assert sent(config, server, tmp_path / "run") == [(1, 1.0)]
    assert server._client.get_run((tmp_path / "run" / "mlflow_run").read_text()).info.status == "FINISHED"
    server.down = True
    config.catch_up("run", tmp_path / "run")  # nothing to send: the server is not asked


def test_a_line_that_a_kill_left_unfinished_is_dropped(tmp_path: Path, config: TrackingConfig) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"step": 1, "time": 0.0, "loss": 0.5}\n{"step": 2, "ti')
    tracker = config.build("run", run)
    tracker.metrics({"loss": 0.25}, 2)
    tracker.close()
    assert [(r["step"], r["loss"]) for r in read_metrics(run)] == [(1, 0.5), (2, 0.25)]


def test_a_server_that_cannot_be_reached_leaves_a_complete_file(
    tmp_path: Path, config: TrackingConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").write_text("not a database")
    tracker = config.build("run", tmp_path / "run")
    assert isinstance(tracker, MlflowTracker)
    tracker.metrics({"loss": 0.5}, 1)
    tracker.close()
    assert read_metrics(tmp_path / "run")[0]["loss"] == 0.5
    assert "does not answer; metrics are kept in" in capfd.readouterr().err


def test_parameters_that_a_dead_server_missed_are_sent_when_the_run_catches_up(
    tmp_path: Path, config: TrackingConfig, server: Server
) -> None:
    server.down = True
    tracker = config.build("run", tmp_path / "run")
    tracker.params({"loop": {"steps": 3}})
    tracker.params({"peak_flops": 1e12})
    tracker.close()
    server.down = False
    config.catch_up("run", tmp_path / "run")
    run = server._client.get_run((tmp_path / "run" / "mlflow_run").read_text())
    assert run.data.params == {"loop.steps": "3", "peak_flops": "1000000000000.0"}
    server.down, server.asked = True, threading.Event()
    config.catch_up("run", tmp_path / "run")
    assert not server.asked.is_set()


class HangingServer:
    """A server that takes a request and never ends it."""

    def __init__(self, client: Any) -> None:
        self._client, self.hangs, self.asked = client, True, threading.Event()

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.hangs:
                self.asked.set()
                time.sleep(3600)
            return getattr(self._client, name)(*args, **kwargs)

        return call


@pytest.fixture
def hanging(config: TrackingConfig, monkeypatch: pytest.MonkeyPatch) -> HangingServer:
    found = HangingServer(config.client())
    monkeypatch.setattr(TrackingConfig, "client", lambda self: found)
    return found


@pytest.mark.parametrize("status", ["KILLED", "FINISHED"])
def test_a_server_that_hangs_does_not_hold_up_the_end_of_a_run(
    tmp_path: Path,
    config: TrackingConfig,
    hanging: HangingServer,
    status: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert tracker_module.PATIENCE_WHEN_KILLED < 30 < tracker_module.PATIENCE < 120, "what SLURM leaves a job"
    tracker = config.build("run", tmp_path / "run")
    tracker.metrics({"loss": 0.5}, 1)
    assert hanging.asked.wait(10)
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(tracker_module, "PATIENCE", 0.1)
        patch.setattr(tracker_module, "PATIENCE_WHEN_KILLED", 0.1)
        tracker.close(status)
    assert time.monotonic() - began < 5
    assert "has not answered for 0.1 s" in capfd.readouterr().err
    hanging.hangs = False
    config.catch_up("run", tmp_path / "run")
    assert sent(config, hanging, tmp_path / "run") == [(1, 0.5)]


def test_a_request_without_an_end_is_left_to_itself(
    tmp_path: Path, config: TrackingConfig, hanging: HangingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "_ENDLESS", 0.05)
    tracker = config.build("run", tmp_path / "run")
    assert hanging.asked.wait(10)
    hanging.hangs = False
    time.sleep(0.1)
    tracker.metrics({"loss": 0.5}, 1)
    tracker.close()
    assert sent(config, hanging, tmp_path / "run") == [(1, 0.5)]


@pytest.mark.parametrize(
    "answer", [KeyError("run"), ValueError("<html>"), AttributeError("text"), TypeError("None")]
)
def test_one_wrong_answer_does_not_silence_a_server_for_good(
    tmp_path: Path, config: TrackingConfig, server: Server, monkeypatch: pytest.MonkeyPatch, answer: Exception
) -> None:
    answers: list[Exception] = [answer]
    log_batch = server._client.log_batch

    def wrong_once(*args: Any, **kwargs: Any) -> None:
        if answers:
            raise answers.pop()
        log_batch(*args, **kwargs)

    monkeypatch.setattr(server._client, "log_batch", wrong_once)
    tracker = config.build("run", tmp_path / "run")
    for step in (1, 2):
        tracker.metrics({"loss": float(step)}, step)
        time.sleep(0.1)
    tracker.close()
    assert sent(config, server, tmp_path / "run") == [(1, 1.0), (2, 2.0)]


def test_what_a_server_refuses_again_and_again_is_said_and_does_not_hold_up_the_rest(
    tmp_path: Path, config: TrackingConfig, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = config.build("run", tmp_path / "run")
    names = [str(number) for number in range(200)]
    for place in (3, 150):
        names.insert(place, f"{place}, a name longer than MLflow takes, " * 10)
    tracker.params(dict.fromkeys(names, 1))
    tracker.metrics({"loss": 0.5}, 1)
    limit = time.monotonic() + 20
    while "refuses parameters" not in capfd.readouterr().err:
        assert time.monotonic() < limit
        time.sleep(0.05)
    tracker.close()
    assert sent(config, server, tmp_path / "run") == [(1, 0.5)]
    params = server._client.get_run(tracker.run_id).data.params
    assert sorted(params) == sorted(name for name in names if len(name) < 4)


def test_a_server_that_has_lost_the_run_gets_all_of_it_as_another(
    tmp_path: Path, config: TrackingConfig, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = config.build("run", tmp_path / "run")
    tracker.metrics({"loss": 1.0}, 1)
    tracker.close()
    (tmp_path / "run" / "mlflow_run").write_text("0" * 32)
    tracker = config.build("run", tmp_path / "run")
    tracker.metrics({"loss": 2.0}, 2)
    tracker.close()
    assert sent(config, server, tmp_path / "run") == [(1, 1.0), (2, 2.0)]
    assert "has no run 0000" in capfd.readouterr().err


def test_files_and_datasets_wait_on_disk_until_a_server_takes_them(
    tmp_path: Path, config: TrackingConfig, server: Server
) -> None:
    report = tmp_path / "report.html"
    report.write_text("scores")
    server.down = True
    tracker = config.build("run", tmp_path / "run")
    tracker.files(report)
    tracker.datasets({"stores/waves.zarr": "5" * 64}, "evaluation")
    server.asked.wait(5)
    tracker.close()
    server.down = False
    config.catch_up("run", tmp_path / "run")
    [run] = server._client.search_runs([config.experiment_id()])
    [dataset] = [one.dataset for one in run.inputs.dataset_inputs]
    assert (dataset.name, dataset.digest) == ("waves.zarr", "5" * 36)
    assert [file.path for file in server._client.list_artifacts(run.info.run_id)] == ["report.html"]
    assert not (tmp_path / "run" / tracker_module.WANTED).exists()
