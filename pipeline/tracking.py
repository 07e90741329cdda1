"""What a run reports: a file of its own always, and MLflow."""

import json
import math
import os
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import field_validator

from pelagos.preprocessing.config import Config


class TrackingConfig(Config):
    """Where MLflow keeps runs and the registry.

    Attributes:
        uri: a tracking server, or a local SQLite file.
        experiment: the experiment's name.
    """

    uri: str = "sqlite:///runs/mlflow.db"
    experiment: str = "pelagos"

    @field_validator("uri")
    @classmethod
    def _known(cls, uri: str) -> str:
        if not re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?:///?|https?://|databricks", uri):
            raise ValueError("MLflow takes sqlite:///FILE, http(s)://HOST:PORT or the address of a database")
        return uri

    def build(self, name: str, folder: Path, active: bool = True) -> "Tracker":
        """A tracker of the run with this name and folder; an inactive one, for all ranks but 0, is silent."""
        return MlflowTracker(self, name, folder) if active else Tracker()

    def client(self) -> Any:
        """An MLflow client of this server."""
        return _client(self.uri)

    def experiment_id(self) -> str:
        """The experiment of this name, created if need be; artifacts of a SQLite file lie beside it."""
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
    """The silent tracker."""

    run_id = ""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record what the run was given, nested mappings by dotted keys."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers at a step."""

    def artifacts(self, folder: Path, name: str) -> None:
        """Record a folder of files."""

    def close(self, status: str = "FINISHED") -> None:
        """End the run."""


class MlflowTracker(Tracker):
    """Writes `metrics.jsonl` in the run's folder, and to MLflow as long as that answers.

    A run of weeks must not end because a server did: after a failure MLflow is left alone with one
    warning, and the file stays complete.
    """

    def __init__(self, config: TrackingConfig, name: str, folder: Path) -> None:
        self._file = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._alive = True
        self._client: Any = None
        self._call(lambda: self._start(config, name, folder))

    def _start(self, config: TrackingConfig, name: str, folder: Path) -> None:
        """Continue the run that an earlier process of the same folder began, or begin one."""
        self._client = config.client()
        marker = folder / "mlflow_run"
        if marker.is_file():
            self.run_id = marker.read_text().strip()
            self._client.update_run(self.run_id, status="RUNNING")
            return
        run = self._client.create_run(config.experiment_id(), run_name=name)
        self.run_id = str(run.info.run_id)
        marker.write_text(self.run_id)

    def params(self, values: Mapping[str, Any]) -> None:
        """See Tracker.params."""
        from mlflow.entities import Param

        # MLflow refuses to change a parameter, which those without an effect on the result may do when a
        # run is continued, and takes at most 100 at once.
        known: set[str] = set()
        self._call(lambda: known.update(self._client.get_run(self.run_id).data.params))
        flat = [Param(key, str(value)[:6000]) for key, value in flatten(values).items() if key not in known]
        for start in range(0, len(flat), 100):
            chunk = flat[start : start + 100]
            self._call(lambda chunk=chunk: self._client.log_batch(self.run_id, params=chunk))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker.metrics."""
        from mlflow.entities import Metric

        now = time.time()
        record = {"step": step, "time": now, **values}
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        batch = [Metric(k, float(v), int(now * 1000), step) for k, v in values.items() if math.isfinite(v)]
        self._call(lambda: self._client.log_batch(self.run_id, metrics=batch))

    def artifacts(self, folder: Path, name: str) -> None:
        """See Tracker.artifacts."""
        self._call(lambda: self._client.log_artifacts(self.run_id, str(folder), name))

    def close(self, status: str = "FINISHED") -> None:
        """See Tracker.close."""
        self._call(lambda: self._client.set_terminated(self.run_id, status=status))

    def _call(self, action: Any) -> None:
        if not self._alive:
            return
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            action()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._alive = False
            warnings.warn(f"MLflow does not answer, metrics go on to {self._file}: {error}", stacklevel=3)


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


def history(folder: Path) -> list[dict[str, float]]:
    """The records of a run's `metrics.jsonl`; of a step reported twice after a restart the last counts."""
    file = folder / "metrics.jsonl"
    if not file.is_file():
        return []
    records = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    merged: dict[int, dict[str, float]] = {}
    for record in records:
        merged.setdefault(record["step"], {}).update(record)
    return [merged[step] for step in sorted(merged)]
