"""Model registry: versions and aliases of models in MLflow."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.pipeline.tracking.tracking_server import in_turn, server_errors
from pelagos.preprocessing.errors import DataError, MissingFileError


@dataclass(frozen=True)
class ModelVersion:
    """A registered version of a model, and the alias that points to it."""

    name: str
    version: int
    alias: str


def register(tracking: TrackingConfig, folder: Path, name: str, alias: str, run_id: str) -> ModelVersion:
    """Make the model in a folder the newest version of `name`, and point `alias` at it.

    Args:
        tracking: where the registry is.
        folder: the model's folder, whose files become an artifact of the run.
        name: the registered model's name; it is created where there is none.
        alias: the alias.
        run_id: the MLflow run that trained the model.

    Raises:
        TemporaryError: the server does not answer.
        DataError: it refuses.
    """
    # In a database in a file, one after the other: else the alias may stay on the version of a slower process.
    with server_errors(tracking.uri), in_turn(tracking.uri, "registry"):
        client = tracking.client()
        _ensure_model(client, name)
        # Plain artifacts: the default of MLflow's own model flavour is a pickle.
        client.log_artifacts(run_id, str(folder), "model")
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        version = client.create_model_version(name, source=source, run_id=run_id)
        client.set_registered_model_alias(name, alias, version.version)
    return ModelVersion(name, int(version.version), alias)


def _ensure_model(client: Any, name: str) -> None:
    """Create the registered model of this name where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def has_run(client: Any, run_id: str) -> bool:
    """Whether an MLflow server has a run, and has not deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return False


def resolve(reference: str, tracking: TrackingConfig) -> Path:
    """The folder of a model, given as such or as `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        MissingFileError: there is no such folder, name, alias or version; the message lists what there is.
        DataError: the reference names no version.
    """
    if not reference.startswith("models:/"):
        folder = Path(reference)
        if not folder.is_dir():
            raise MissingFileError(
                f"no model folder {folder}; a registered one has the form models:/NAME@ALIAS"
            )
        return folder
    name, separator, label = reference.removeprefix("models:/").replace("@", "/@", 1).partition("/")
    if not separator:
        raise DataError(
            f"{reference!r} names no version: write models:/{name}@ALIAS or models:/{name}/VERSION"
        )
    return _download(name, label, tracking)


def _download(name: str, label: str, tracking: TrackingConfig) -> Path:
    from mlflow.artifacts import download_artifacts

    with server_errors(tracking.uri):
        client = tracking.client()
        model = _found(lambda: client.get_registered_model(name))
        if model is None:
            raise MissingFileError(
                f"no model {name!r} in the registry {tracking.uri}; there are:"
                f" {', '.join(_names(client)) or 'none'}"
            )
        if label.startswith("@"):
            if label[1:] not in model.aliases:
                aliases = ", ".join(model.aliases) or "none"
                raise MissingFileError(
                    f"model {name!r} has no alias {label[1:]!r} in {tracking.uri}; it has: {aliases}"
                )
            label = str(model.aliases[label[1:]])
        version = _found(lambda: client.get_model_version(name, label))
        if version is None:
            raise MissingFileError(f"model {name!r} has no version {label!r} in {tracking.uri}")
        return Path(download_artifacts(artifact_uri=version.source, tracking_uri=tracking.uri))


def _found(ask: Callable[[], Any]) -> Any:
    """What a server answers, None where it knows no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        return ask()
    except MlflowException as error:
        # The second is for numbers of versions that are none.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _names(client: Any) -> Iterator[str]:
    """The names of all registered models; the server gives a hundred at a time."""
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        yield from (model.name for model in page)
        token = page.token
        if not token:
            return
