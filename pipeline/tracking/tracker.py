"""Tracker: where a run reports its metrics, always a file, and MLflow when it answers."""

import json
import math
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from pelagos.pipeline.tracking.spool import Spool
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.durable import write_json

PARAMS = "mlflow_params.json"
"""Parameters of a run that the server has not received yet."""


class TrackingConfig(Config):
    """Where MLflow keeps runs and the registry.

    Attributes:
        uri: a tracking server, or a local SQLite file.
        experiment: the experiment's name.
        retry_seconds: how long to wait before a server that did not answer is tried again [s].
    """

    uri: str = "sqlite:///runs/mlflow.db"
    experiment: str = "pelagos"
    retry_seconds: float = Field(default=30.0, gt=0)

    @field_validator("uri")
    @classmethod
    def _known(cls, uri: str) -> str:
        if not re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?:///?|https?://|databricks", uri):
            raise ValueError("MLflow takes sqlite:///FILE, http(s)://HOST:PORT or the address of a database")
        return uri

    def build(self, name: str, folder: Path, active: bool = True) -> "Tracker":
        """A tracker for the run of this name and folder; a silent one if not active, as on all ranks but 0."""
        return MlflowTracker(self, name, folder) if active else Tracker()

    def catch_up(self, name: str, folder: Path) -> None:
        """Send the records that an ended run could not send, if there are any."""
        if Spool(folder).waiting or (folder / PARAMS).is_file():
            MlflowTracker(self, name, folder).close()

    def client(self) -> Any:
        """An MLflow client of this server."""
        return _client(self.uri)

    def experiment_id(self) -> str:
        """The id of the experiment, which is created if need be; with SQLite, artifacts are kept beside its file."""
        client = self.client()
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is not None:
            return str(experiment.experiment_id)
        location = None
        if self.uri.startswith("sqlite:///"):
            location = (
                Path(self.uri.removeprefix("sqlite:///")).resolve().parent.joinpath("artifacts").as_uri()
            )
        return str(client.create_experiment(self.experiment, artifact_location=location))


def _client(uri: str) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow would retry for minutes; the tracker itself tries again later.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    import logging

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).resolve().parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient
    for logger in ("mlflow.store.db.utils", "alembic", "alembic.runtime.migration"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


class Tracker:
    """A tracker that reports nothing."""

    run_id = ""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record the run's parameters, nested mappings by dotted keys."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record the metrics of a step."""

    def artifacts(self, folder: Path, name: str) -> None:
        """Record a folder of files."""

    def close(self, status: str = "FINISHED") -> None:
        """End the run."""


class MlflowTracker(Tracker):
    """Writes `metrics.jsonl` in the run's folder, and sends it on to MLflow in a thread.

    A run of weeks must neither stop nor wait because a server does. After a failure the thread tries again from time
    to time, and catches up when the server is back, in this process or the next one of the same folder.
    """

    def __init__(self, config: TrackingConfig, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._config, self._name, self._folder = config, name, folder
        self._spool = Spool(folder)
        self._client: Any = None
        # Those that an earlier process of this folder could not send.
        self._params = _read_params(folder / PARAMS)
        self._pending: list[Callable[[], None]] = [self._begin]
        if self._params:
            self._pending.append(self._send_params)
        self._warned, self._closed, self._status = False, False, "FINISHED"
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def params(self, values: Mapping[str, Any]) -> None:
        """See Tracker.params."""
        # MLflow takes no longer values.
        flat = {key: str(value)[:6000] for key, value in flatten(values).items()}
        with self._changed:
            self._params |= flat
            # Kept on disk until they are sent: this process may end while the server is away.
            write_json(self._folder / PARAMS, self._params)
        self._later(self._send_params)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker.metrics."""
        self._spool.append({"step": step, "time": time.time(), **values})
        with self._changed:
            self._changed.notify()

    def artifacts(self, folder: Path, name: str) -> None:
        """See Tracker.artifacts."""
        self._later(lambda: self._client.log_artifacts(self.run_id, str(folder), name))

    def close(self, status: str = "FINISHED") -> None:
        """See Tracker.close; returns once MLflow has everything, or has failed once more."""
        with self._changed:
            self._status, self._closed = status, True
            self._changed.notify()
        self._thread.join()

    def _later(self, action: Callable[[], None]) -> None:
        with self._changed:
            self._pending.append(action)
            self._changed.notify()

    def _work(self) -> None:
        """Send until closed, and once more after that; pause after a failure."""
        succeeded = True
        while not self._closed:
            with self._changed:
                if succeeded:
                    self._changed.wait_for(lambda: self._closed or bool(self._pending) or self._spool.waiting)
                else:
                    self._changed.wait_for(lambda: self._closed, self._config.retry_seconds)
            if not self._closed:
                succeeded = self._attempt()
        if self._attempt():
            self._attempt(self._end)

    def _attempt(self, *last: Callable[[], None]) -> bool:
        """Do everything pending, and send all records; returns whether that succeeded."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            while self._pending:
                # Removed once it is done, so that a failure repeats it.
                self._pending[0]()
                self._pending.pop(0)
            # MLflow keeps one of several records of the same key, step and time: sending one twice does no harm.
            for batch in self._spool.batches():
                self._client.log_batch(self.run_id, metrics=list(_metrics(batch)))
            for action in last:
                action()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._warn(error)
            return False
        return True

    def _end(self) -> None:
        self._client.set_terminated(self.run_id, status=self._status)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            print(
                f"WARNING: MLflow at {self._config.uri} does not answer; metrics are kept in {self._spool.file}"
                f" and sent when it is back: {error}",
                file=sys.stderr,
                flush=True,
            )

    def _begin(self) -> None:
        """Continue the MLflow run that an earlier process of the same folder began, or begin one."""
        self._client = self._config.client()
        marker = self._folder / "mlflow_run"
        if marker.is_file():
            run_id = marker.read_text().strip()
            self._client.update_run(run_id, status="RUNNING")
        else:
            run = self._client.create_run(self._config.experiment_id(), run_name=self._name)
            run_id = str(run.info.run_id)
            marker.write_text(run_id)
        self.run_id = run_id

    def _send_params(self) -> None:
        from mlflow.entities import Param

        with self._changed:
            flat = dict(self._params)
        # MLflow refuses to change a parameter, and fields that are Changeable may differ when a run is continued. It
        # takes at most 100 parameters at once.
        known = self._client.get_run(self.run_id).data.params
        new = [Param(key, value) for key, value in flat.items() if key not in known]
        for start in range(0, len(new), 100):
            self._client.log_batch(self.run_id, params=new[start : start + 100])
        with self._changed:
            if flat == self._params:
                (self._folder / PARAMS).unlink(missing_ok=True)


def _read_params(file: Path) -> dict[str, str]:
    """The parameters that wait in a file, none where there is no such file."""
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        # No run ends because of what MLflow would have shown.
        print(f"WARNING: {file} is damaged, its parameters are not sent to MLflow: {error}", file=sys.stderr)
        return {}


def _metrics(records: Iterable[Mapping[str, float]]) -> Iterator[Any]:
    from mlflow.entities import Metric

    for record in records:
        for key, value in record.items():
            if key not in ("step", "time") and math.isfinite(value):
                yield Metric(key, float(value), int(record["time"] * 1000), int(record["step"]))


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as one mapping with dotted keys.

    >>> flatten({"a": {"b": 1}, "c": [2, 3]})
    {'a.b': 1, 'c.0': 2, 'c.1': 3}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, list | tuple):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """The records in a run's `metrics.jsonl`, by step; if one was repeated after a restart, the last counts."""
    file = folder / "metrics.jsonl"
    if not file.is_file():
        return []
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    merged: dict[int, dict[str, float]] = {}
    for record in records:
        merged.setdefault(record["step"], {}).update(record)
    return [merged[step] for step in sorted(merged)]
