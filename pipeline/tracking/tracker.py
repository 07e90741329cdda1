"""Tracker: where a run reports its metrics, always a file, and MLflow when it answers."""

import json
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from pelagos.pipeline.tracking.logged_dataset import dataset_inputs
from pelagos.pipeline.tracking.spool import Spool, records
from pelagos.pipeline.tracking.tracking_server import client_of, database_file
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.files.durable import write_bytes, write_json
from pelagos.preprocessing.safety.credentials import TRACKING_ADVICE, fault_of, redacted

PARAMS = "mlflow_params.json"
"""Parameters of a run that the server has not received yet."""
WANTED = "mlflow_wanted.json"
"""Files and datasets of a run that the server has not received yet."""
PATIENCE = 60.0
"""How long the end of a run waits for MLflow [s]."""
PATIENCE_WHEN_KILLED = 10.0
"""The same of a run that was told to stop, or that failed [s]; the system may kill it after 30 s."""
_ENDLESS = 600.0  # seconds after which a request is left to itself; MLflow's own limits are on silence
_PARAMS_AT_ONCE = 100  # more are refused
_REFUSALS = 3  # in a row; a single one may be the mistake of a proxy


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
        # It is written to config.yaml, checkpoints, models and MLflow's own parameters.
        if fault := fault_of(uri):
            raise ValueError(f"the URL has {fault}; credentials belong in {TRACKING_ADVICE}")
        return uri

    def build(self, name: str, folder: Path, active: bool = True) -> "Tracker":
        """A tracker for the run of this name and folder; a silent one if not active, as on all ranks but 0."""
        return MlflowTracker(self, name, folder) if active else Tracker()

    def catch_up(self, name: str, folder: Path) -> None:
        """Send the records that an ended run could not send, if there are any."""
        if Spool(folder).waiting or any((folder / left).is_file() for left in (PARAMS, WANTED)):
            MlflowTracker(self, name, folder).close()

    def client(self) -> Any:
        """An MLflow client of this server."""
        return client_of(self.uri)

    def experiment_id(self) -> str:
        """The id of the experiment, which is created if need be; with SQLite, artifacts are kept beside its file."""
        client = self.client()
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is not None:
            return str(experiment.experiment_id)
        file = database_file(self.uri)
        location = file.parent.joinpath("artifacts").as_uri() if file else None
        from mlflow.exceptions import MlflowException

        try:
            return str(client.create_experiment(self.experiment, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            # Another process was quicker.
            return str(client.get_experiment_by_name(self.experiment).experiment_id)


class _LeftError(Exception):
    """A thread finds that it was left to itself."""


class Tracker:
    """A tracker that reports nothing."""

    run_id = ""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record the run's parameters, nested mappings by dotted keys."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record the metrics of a step."""

    def artifacts(self, folder: Path, name: str) -> None:
        """Record a folder of files."""

    def files(self, *paths: Path) -> None:
        """Record files, as they are when they are sent."""

    def datasets(self, stores: Mapping[str, str], context: str) -> None:
        """Record which stores the run has read: the checksum of each, by its path.

        Args:
            stores: the checksums.
            context: what the stores are to the run: `training`, `evaluation`.
        """

    def close(self, status: str = "FINISHED") -> None:
        """End the run."""


class MlflowTracker(Tracker):
    """Writes `metrics.jsonl` in the run's folder, and sends it on to MLflow in a thread.

    A run of weeks must neither stop nor wait because a server does. After a failure the thread tries again from time
    to time, and catches up when the server is back, in this process or the next one of the same folder. A thread whose
    request does not end is left to itself, and another one takes its place.
    """

    def __init__(self, config: TrackingConfig, name: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._config, self._name, self._folder = config, name, folder
        self._spool = Spool(folder)
        self._client: Any = None
        # Those that an earlier process of this folder could not send.
        self._params = _read_params(folder / PARAMS)
        self._pending: list[Callable[[], None]] = [self._send_params] if self._params else []
        self._wanted = _read_wanted(folder / WANTED)
        if self._wanted:
            self._pending.append(self._send_wanted)
        self._warned, self._closed, self._status = False, False, "FINISHED"
        self._changed = threading.Condition()
        self._refusals = 0  # in a row, of the same thing
        self._start()

    def params(self, values: Mapping[str, Any]) -> None:
        """See Tracker.params."""
        # MLflow takes no longer values.
        flat = {_param_name(key): redacted(str(value))[:6000] for key, value in flatten(values).items()}
        with self._changed:
            self._params |= flat
            # Kept on disk until they are sent: this process may end while the server is away.
            write_json(self._folder / PARAMS, self._params)
        self._later(self._send_params)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker.metrics."""
        self._spool.append({"step": step, "time": time.time(), **values})
        if self._asked is not None and time.monotonic() - self._asked > _ENDLESS:
            self._left.set()
            self._warn(TimeoutError(f"a request has not ended in {_ENDLESS:g} s"))
            self._start()
        with self._changed:
            self._changed.notify()

    def artifacts(self, folder: Path, name: str) -> None:
        """See Tracker.artifacts."""
        self._later(lambda: self._client.log_artifacts(self.run_id, str(folder), name))

    def files(self, *paths: Path) -> None:
        """See Tracker.files."""
        self._want([{"file": str(path.resolve())} for path in paths])

    def datasets(self, stores: Mapping[str, str], context: str) -> None:
        """See Tracker.datasets."""
        self._want([{"dataset": store, "digest": stores[store], "context": context} for store in stores])

    def _want(self, wanted: list[dict[str, str]]) -> None:
        with self._changed:
            self._wanted += [one for one in wanted if one not in self._wanted]
            # As for parameters: this process may end while the server is away.
            write_json(self._folder / WANTED, self._wanted)
        self._later(self._send_wanted)

    def close(self, status: str = "FINISHED") -> None:
        """See Tracker.close; returns once MLflow has everything, has failed once more, or does not answer for long."""
        with self._changed:
            self._status, self._closed = status, True
            self._changed.notify()
        patience = PATIENCE if status == "FINISHED" else PATIENCE_WHEN_KILLED
        self._thread.join(patience)
        if self._thread.is_alive():
            self._left.set()
            print(
                f"WARNING: MLflow at {self._config.uri} has not answered for {patience:g} s; what it lacks is kept in"
                f" {self._spool.file}, and the same command sends it",
                file=sys.stderr,
                flush=True,
            )

    def _later(self, action: Callable[[], None]) -> None:
        with self._changed:
            self._pending.append(action)
            self._changed.notify()

    def _start(self) -> None:
        """Begin to send, in a new thread."""
        self._left = threading.Event()
        self._asked: float | None = None  # when the request that is under way began
        self._thread = threading.Thread(target=self._work, args=(self._left,), name="tracking", daemon=True)
        self._thread.start()

    def _work(self, left: threading.Event) -> None:
        """Send until closed, and once more after that; pause after a failure."""
        succeeded = True
        while not self._closed and not left.is_set():
            with self._changed:
                if succeeded:
                    self._changed.wait_for(lambda: self._closed or self._has_work())
                else:
                    self._changed.wait_for(lambda: self._closed, self._config.retry_seconds)
            if not self._closed:
                succeeded = self._attempt(left)
        if self._attempt(left):
            self._attempt(left, self._end)

    def _has_work(self) -> bool:
        return not self.run_id or bool(self._pending) or self._spool.waiting

    def _attempt(self, left: threading.Event, *last: Callable[[], None]) -> bool:
        """Do everything pending, and send all records; returns whether that succeeded."""
        try:
            self._send(left, *last)
        except _LeftError:
            return False
        # Of any class: a server in trouble answers anything, and whatever it is must not silence the run for good.
        except Exception as error:
            if not left.is_set():
                self._warn(error)
            return False
        self._warned = False
        return True

    def _send(self, left: threading.Event, *last: Callable[[], None]) -> None:
        if not self.run_id:
            self._request(left, partial(self._begin, left))
        while self._pending:
            # Removed once it is done, so that a failure repeats it.
            self._request(left, self._pending[0], "parameters or files")
            self._pending.pop(0)
        # MLflow keeps one of several records of the same key, step and time: sending one twice does no harm.
        for batch in self._spool.batches():
            metrics = list(_metrics(batch))
            self._request(left, partial(self._log, metrics), f"the records of {len(batch)} steps")
        for action in last:
            self._request(left, action)

    def _request(self, left: threading.Event, action: Callable[[], None], what: str = "") -> None:
        """Ask the server for something; what it refuses again and again is said, and left out.

        Raises:
            _LeftError: meanwhile this thread was left to itself, and must not touch anything.
        """
        if left.is_set():
            raise _LeftError
        self._asked = time.monotonic()
        try:
            action()
        except Exception as error:
            self._refusals += 1
            if not what or not _is_refusal(error) or self._refusals < _REFUSALS:
                raise
            self._say(f"refuses {what}, which {self._folder} alone keeps: {error}")
        finally:
            if left.is_set():
                raise _LeftError
            self._asked = None
        self._refusals = 0

    def _log(self, metrics: list[Any]) -> None:
        self._client.log_batch(self.run_id, metrics=metrics)

    def _end(self) -> None:
        self._client.set_terminated(self.run_id, status=self._status)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            self._say(
                f"does not answer; metrics are kept in {self._spool.file} and sent when it is back: {error}"
            )

    def _say(self, what: str) -> None:
        print(f"WARNING: MLflow at {self._config.uri} {redacted(what)}", file=sys.stderr, flush=True)

    def _begin(self, left: threading.Event) -> None:
        """Continue the MLflow run that an earlier process of the same folder began, or begin one."""
        from mlflow.exceptions import MlflowException

        self._client = self._config.client()
        marker = self._folder / "mlflow_run"
        # A killed process may have left an empty one.
        run_id = marker.read_text().strip() if marker.is_file() else ""
        if run_id:
            try:
                self._client.update_run(run_id, status="RUNNING")
            except MlflowException as error:
                if left.is_set() or error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                self._say(f"has no run {run_id}, which {marker} names; another begins, with all records")
                self._spool.rewind()
                run_id = ""
        if not run_id:
            run = self._client.create_run(self._config.experiment_id(), run_name=self._name)
            run_id = str(run.info.run_id)
            if left.is_set():  # another thread has begun one meanwhile
                raise _LeftError
            write_bytes(marker, run_id.encode())
        self.run_id = run_id

    def _send_params(self) -> None:
        from mlflow.entities import Param

        with self._changed:
            flat = dict(self._params)
        # MLflow refuses to change a parameter, and fields that are Changeable may differ when a run is continued.
        known = self._client.get_run(self.run_id).data.params
        new = [Param(key, value) for key, value in flat.items() if key not in known]
        self._log_params(new)
        with self._changed:
            if flat == self._params:
                (self._folder / PARAMS).unlink(missing_ok=True)

    def _log_params(self, params: list[Any]) -> None:
        """Send parameters; one that is refused, such as one of a name of over 250 characters, costs no other.

        Raises:
            Exception: the server refuses one, and has all others; or it does not answer.
        """
        if len(params) <= _PARAMS_AT_ONCE:
            try:
                self._client.log_batch(self.run_id, params=params)
                return
            except Exception as error:
                if len(params) < 2 or not _is_refusal(error):
                    raise
        refusal, middle = None, len(params) // 2
        for half in (params[:middle], params[middle:]):
            try:
                self._log_params(half)
            except Exception as error:
                if not _is_refusal(error):
                    raise
                refusal = error
        if refusal is not None:
            raise refusal

    def _send_wanted(self) -> None:
        with self._changed:
            wanted = list(self._wanted)
        for one in wanted:
            if "file" not in one:
                inputs = dataset_inputs({one["dataset"]: one["digest"]}, one["context"])
                self._client.log_inputs(self.run_id, inputs)
            elif Path(one["file"]).is_file():
                self._client.log_artifact(self.run_id, one["file"])
        with self._changed:
            self._wanted = [one for one in self._wanted if one not in wanted]
            if not self._wanted:
                (self._folder / WANTED).unlink(missing_ok=True)


def _is_refusal(error: Exception) -> bool:
    """Whether a server that answers will not take something."""
    return getattr(error, "error_code", "") in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


def _read_wanted(file: Path) -> list[dict[str, str]]:
    """What waits in a file, nothing where there is no such file."""
    if not file.is_file():
        return []
    try:
        return [dict(one) for one in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        # No run ends because of what MLflow would have shown.
        print(f"WARNING: {file} is damaged, what it names is not sent to MLflow: {error}", file=sys.stderr)
        return []


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
                yield Metric(key, float(value), int(record.get("time", 0.0) * 1000), int(record["step"]))


def _param_name(key: str) -> str:
    """A key in the letters that MLflow takes, which patterns of weights have others than.

    >>> _param_name("optimizer.parts.head.*")
    'optimizer.parts.head._'
    """
    return re.sub(r"[^\w\-. :/]", "_", key)


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
    merged: dict[int, dict[str, float]] = {}
    for record in records(file.read_bytes().splitlines(), file):
        merged.setdefault(int(record["step"]), {}).update(record)
    return [merged[step] for step in sorted(merged)]
