"""Model registry: versions and aliases of models in MLflow.

A version is immutable: its files lie under the digest of their content, so that none is ever written over another.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.pipeline.tracking.tracking_server import in_turn, server_errors
from pelagos.pipeline.tracking.version_files import (
    CHECKSUM_TAG,
    FILES_TAG,
    check_version,
    model_part,
    version_files,
)
from pelagos.preprocessing.errors import DataError, MissingFileError


@dataclass(frozen=True)
class ModelVersion:
    """A registered version of a model, the alias that was pointed to it, and the digest of the model's files."""

    name: str
    version: int
    alias: str | None
    checksum: str = ""


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as the registry knows it.

    Attributes:
        name: of the model.
        version: its number.
        aliases: that point to it.
        tags: what is recorded of it: checksums, the commit, the parent, the stage.
        run_id: the run that made it.
        created: when it was registered [ms since 1970].
        source: where its files are.
    """

    name: str
    version: int
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""
    created: int = 0
    source: str = ""

    @property
    def reference(self) -> str:
        """The name that no alias can move: `models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.version}"


def registered(tracking: TrackingConfig, folder: Path, name: str, alias: str | None) -> ModelVersion | None:
    """The version of `name` that has the very files of a folder, with `alias` pointed to it; None where there is none.

    Args:
        tracking: where the registry is.
        folder: the model's folder.
        name: the registered model's name.
        alias: the alias; None for none.
    """
    client, checksum = tracking.client(), version_files(folder).model
    for version in _versions(client, name):
        if version.tags.get(CHECKSUM_TAG) == checksum:
            if alias is not None:
                client.set_registered_model_alias(name, alias, version.version)
            return ModelVersion(name, int(version.version), alias, checksum)
    return None


def _versions(client: Any, name: str) -> list[Any]:
    """All versions of a model, page by page."""
    quote = '"' if "'" in name else "'"
    found, token = [], None
    while True:
        page = client.search_model_versions(f"name = {quote}{name}{quote}", page_token=token)
        found += page
        if not (token := page.token):
            return found


def register(
    tracking: TrackingConfig,
    folder: Path,
    name: str,
    alias: str | None,
    run_id: str,
    wrapping: Path | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> ModelVersion:
    """Make the model in a folder the newest version of `name`, and point `alias` at it.

    Where a version has the same files already, that one gets the alias, and no other is made.

    Args:
        tracking: where the registry is.
        folder: the model's folder, whose files become artifacts of the run.
        name: the registered model's name; it is created where there is none.
        alias: the alias; None for none.
        run_id: the MLflow run that trained the model.
        wrapping: a folder of what else belongs to the version, beside the model.
        tags: what to record of the version, beside its checksums.

    Raises:
        TemporaryError: the server does not answer.
        DataError: it refuses.
    """
    # In a database in a file, one after the other: else the alias may stay on the version of a slower process.
    with server_errors(tracking.uri), in_turn(tracking.uri, "registry"):
        client = tracking.client()
        _ensure_model(client, name)
        if (known := registered(tracking, folder, name, alias)) is not None:
            return known
        files = version_files(folder, wrapping)
        # Another content has another place: what a version points to is never written over.
        place = f"models/{files.digest}"
        files.upload(client, run_id, place)
        source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
        recorded = {**tags, CHECKSUM_TAG: files.model}
        if wrapping is not None:
            recorded[FILES_TAG] = files.digest
        version = client.create_model_version(name, source=source, run_id=run_id, tags=recorded)
        # A process that is killed before this leaves a version without an alias; the next one finds it by its files.
        if alias is not None:
            client.set_registered_model_alias(name, alias, version.version)
    return ModelVersion(name, int(version.version), alias, files.model)


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
        DamagedFileError: the files of the version are not those that were registered.
        DataError: the reference names no version.
    """
    if not is_registered(reference):
        folder = Path(reference)
        if not folder.is_dir():
            raise MissingFileError(
                f"no model folder {folder}; a registered one has the form models:/NAME@ALIAS"
            )
        return folder
    return model_part(fetch(reference, tracking))


def is_registered(reference: str) -> bool:
    """Whether a reference is to the registry, not to a folder."""
    return reference.startswith("models:/")


def pinned(reference: str, tracking: TrackingConfig) -> str:
    """The same model by the number of its version, which no alias can move: `models:/NAME/VERSION`, or its folder.

    Raises:
        MissingFileError: as for `resolve`.
        DataError: as for `resolve`.
    """
    if not is_registered(reference):
        return reference
    name, version = _version_of(reference, tracking)
    return f"models:/{name}/{version}"


def _version_of(reference: str, tracking: TrackingConfig) -> tuple[str, str]:
    """The name and the number of the version that a reference stands for now."""
    name, separator, label = reference.removeprefix("models:/").replace("@", "/@", 1).partition("/")
    if not separator:
        raise DataError(
            f"{reference!r} names no version: write models:/{name}@ALIAS or models:/{name}/VERSION"
        )
    with server_errors(tracking.uri):
        client = tracking.client()
        model = _model(client, name, tracking)
        if label.startswith("@"):
            if label[1:] not in model.aliases:
                aliases = ", ".join(model.aliases) or "none"
                raise MissingFileError(
                    f"model {name!r} has no alias {label[1:]!r} in {tracking.uri}; it has: {aliases}"
                )
            label = str(model.aliases[label[1:]])
    return name, label


def fetch(reference: str, tracking: TrackingConfig) -> Path:
    """The folder of all files of a version, `models:/NAME@ALIAS` or `models:/NAME/VERSION`; fetched where need be.

    Raises:
        MissingFileError: there is no such name, alias or version.
        DamagedFileError: the files of the version are not those that were registered.
        DataError: the reference names no version.
    """
    from mlflow.artifacts import download_artifacts

    name, label = _version_of(reference, tracking)
    with server_errors(tracking.uri):
        client = tracking.client()
        version = _found(lambda: client.get_model_version(name, label))
        if version is None:
            numbers = ", ".join(sorted((str(one.version) for one in _versions(client, name)), key=int))
            raise MissingFileError(
                f"model {name!r} has no version {label!r} in {tracking.uri}; it has: {numbers or 'none'}"
            )
        folder = Path(download_artifacts(artifact_uri=version.source, tracking_uri=tracking.uri))
    check_version(folder, f"models:/{name}/{label}", version.tags)
    return folder


def names(tracking: TrackingConfig) -> list[str]:
    """The names of all registered models."""
    with server_errors(tracking.uri):
        return sorted(_names(tracking.client()))


def versions(tracking: TrackingConfig, name: str) -> list[RegisteredVersion]:
    """The versions of a model, the first one first.

    Raises:
        MissingFileError: there is no model of this name.
    """
    with server_errors(tracking.uri):
        client = tracking.client()
        model = _model(client, name, tracking)
        found = [_as_registered(version, model.aliases) for version in _versions(client, name)]
    return sorted(found, key=lambda version: version.version)


def version(reference: str, tracking: TrackingConfig) -> RegisteredVersion:
    """What the registry knows of the version that a reference stands for now; raises as `fetch` does."""
    name, label = _version_of(reference, tracking)
    found = {str(version.version): version for version in versions(tracking, name)}
    if label not in found:
        raise MissingFileError(
            f"model {name!r} has no version {label!r} in {tracking.uri}; it has: {', '.join(found) or 'none'}"
        )
    return found[label]


def point_alias(tracking: TrackingConfig, version: RegisteredVersion, alias: str) -> None:
    """Point an alias to a version.

    Raises:
        TemporaryError: the server does not answer.
        DataError: it refuses.
    """
    with server_errors(tracking.uri), in_turn(tracking.uri, "registry"):
        tracking.client().set_registered_model_alias(version.name, alias, str(version.version))


def _as_registered(version: Any, aliases: Mapping[str, Any]) -> RegisteredVersion:
    number = int(version.version)
    pointing = tuple(sorted(alias for alias, target in aliases.items() if int(target) == number))
    return RegisteredVersion(
        version.name,
        number,
        pointing,
        dict(version.tags),
        version.run_id or "",
        int(version.creation_timestamp or 0),
        version.source,
    )


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


def _model(client: Any, name: str, tracking: TrackingConfig) -> Any:
    """A registered model as the server knows it."""
    model = _found(lambda: client.get_registered_model(name))
    if model is None:
        raise MissingFileError(
            f"no model {name!r} in the registry {tracking.uri}; there are:"
            f" {', '.join(_names(client)) or 'none'}"
        )
    return model


def _names(client: Any) -> Iterator[str]:
    """The names of all registered models; the server gives a hundred at a time."""
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        yield from (model.name for model in page)
        token = page.token
        if not token:
            return
