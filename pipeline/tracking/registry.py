"""Versions and aliases of models in MLflow's registry."""

from dataclasses import dataclass
from pathlib import Path

from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import DataError, MissingFileError


@dataclass(frozen=True)
class Version:
    """One registered model: `name` and `version`, and the alias that it was given."""

    name: str
    version: int
    alias: str


def register(tracking: TrackingConfig, folder: Path, name: str, alias: str, run_id: str) -> Version:
    """Make the model in a folder the newest version of `name`, and point `alias` at it.

    The files become an artifact of the MLflow run `run_id`.
    """
    from mlflow.exceptions import MlflowException

    client = tracking.client()
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)
    client.log_artifacts(run_id, str(folder), "model")
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    version = client.create_model_version(name, source=source, run_id=run_id)
    client.set_registered_model_alias(name, alias, version.version)
    return Version(name, int(version.version), alias)


def resolve(reference: str, tracking: TrackingConfig) -> Path:
    """The folder of a model, given as a folder or as `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        MissingFileError: there is no such folder, name, alias or version; says which ones there are.
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
