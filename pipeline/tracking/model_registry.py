"""Model registry: versions and aliases of models in MLflow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pelagos.pipeline.tracking.tracker import TrackingConfig
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
    """
    from mlflow.exceptions import MlflowException

    client = tracking.client()
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)
    # Plain artifacts: the default of MLflow's own model flavour is a pickle.
    client.log_artifacts(run_id, str(folder), "model")
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    version = client.create_model_version(name, source=source, run_id=run_id)
    client.set_registered_model_alias(name, alias, version.version)
    return ModelVersion(name, int(version.version), alias)


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
    from mlflow.exceptions import MlflowException

    client = tracking.client()
    known = {model.name: model.aliases for model in client.search_registered_models()}
    if name not in known:
        raise MissingFileError(
            f"no model {name!r} in the registry {tracking.uri}; there are: {', '.join(known) or 'none'}"
        )
    if label.startswith("@"):
        if label[1:] not in known[name]:
            aliases = ", ".join(known[name]) or "none"
            raise MissingFileError(
                f"model {name!r} has no alias {label[1:]!r} in {tracking.uri}; it has: {aliases}"
            )
        label = str(known[name][label[1:]])
    try:
        source = client.get_model_version(name, label).source
    except MlflowException as error:
        raise MissingFileError(
            f"model {name!r} has no version {label!r} in {tracking.uri}: {error}"
        ) from error
    return Path(download_artifacts(artifact_uri=source, tracking_uri=tracking.uri))
