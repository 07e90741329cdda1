"""Model registry: versions and aliases of models in MLflow.

A version is immutable: its files lie under the digest of their content, so that none is ever written over another.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.pipeline.tracking.tracking_server import in_turn, server_errors
from pelagos.preprocessing.errors import DamagedFileError, DataError, MissingFileError
from pelagos.preprocessing.store import checksum_list
from pelagos.preprocessing.store.checksum_list import CHECKSUM_LIST

CHECKSUM_TAG = "pelagos.checksum"
"""The tag of a version that holds the digest of its files."""


@dataclass(frozen=True)
class ModelVersion:
    """A registered version of a model, the alias that points to it, and the digest of its files."""

    name: str
    version: int
    alias: str
    checksum: str = ""


class _Content(NamedTuple):
    """The files of a model, and the list and the digest of their checksums."""

    names: list[str]
    text: str
    checksum: str


def _content(folder: Path) -> _Content:
    listed = checksum_list.listed_files(folder)
    # Folders of earlier versions have no list; their versions get one.
    names = checksum_list.all_files(folder) if listed is None else list(listed)
    text = checksum_list.list_files(folder, names)
    return _Content(names, text, checksum_list.digest(text))


def registered(tracking: TrackingConfig, folder: Path, name: str, alias: str) -> ModelVersion | None:
    """The version of `name` that has the very files of a folder, with `alias` pointed to it; None where there is none.

    Args:
        tracking: where the registry is.
        folder: the model's folder.
        name: the registered model's name.
        alias: the alias.
    """
    client, checksum = tracking.client(), _content(folder).checksum
    for version in _versions(client, name):
        if version.tags.get(CHECKSUM_TAG) == checksum:
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


def register(tracking: TrackingConfig, folder: Path, name: str, alias: str, run_id: str) -> ModelVersion:
    """Make the model in a folder the newest version of `name`, and point `alias` at it.

    Where a version has the same files already, that one gets the alias, and no other is made.

    Args:
        tracking: where the registry is.
        folder: the model's folder, whose files become artifacts of the run.
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
        if (known := registered(tracking, folder, name, alias)) is not None:
            return known
        content = _content(folder)
        # Another content has another place: what a version points to is never written over.
        place = f"models/{content.checksum}"
        _upload(client, run_id, folder, content, place)
        source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
        tags = {CHECKSUM_TAG: content.checksum}
        version = client.create_model_version(name, source=source, run_id=run_id, tags=tags)
        client.set_registered_model_alias(name, alias, version.version)
    return ModelVersion(name, int(version.version), alias, content.checksum)


def _upload(client: Any, run_id: str, folder: Path, content: _Content, place: str) -> None:
    """Make the files of a model artifacts of a run, with the list of their checksums."""
    # Plain artifacts: the default of MLflow's own model flavour is a pickle.
    for name in content.names:
        below = Path(place, name).parent
        client.log_artifact(run_id, str(folder / name), str(below))
    with tempfile.TemporaryDirectory() as scratch:
        checksum_list.write_list(Path(scratch), content.text)
        client.log_artifact(run_id, str(Path(scratch, CHECKSUM_LIST)), place)


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
    return _download(*_version_of(reference, tracking), tracking)


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
    return name, label


def _download(name: str, label: str, tracking: TrackingConfig) -> Path:
    """The folder of a version, fetched where it is not on this machine."""
    from mlflow.artifacts import download_artifacts

    with server_errors(tracking.uri):
        client = tracking.client()
        version = _found(lambda: client.get_model_version(name, label))
        if version is None:
            raise MissingFileError(f"model {name!r} has no version {label!r} in {tracking.uri}")
        folder = Path(download_artifacts(artifact_uri=version.source, tracking_uri=tracking.uri))
    _check_version(folder, f"models:/{name}/{label}", version.tags.get(CHECKSUM_TAG))
    return folder


def _check_version(folder: Path, reference: str, expected: str | None) -> None:
    """Raise DamagedFileError where a folder has another list of checksums than the version that was registered."""
    # What the list says of the files is compared by whoever loads the model; versions of before have no checksum.
    if expected is None:
        return
    listed = checksum_list.listed_files(folder)
    if listed is None or checksum_list.digest(checksum_list.checksum_text(listed)) != expected:
        raise DamagedFileError(
            f"{folder}: {reference} was registered with the checksum {expected[:12]}..., and {CHECKSUM_LIST} there is"
            f" {'missing' if listed is None else 'another one'}: restore the artifact, or register the model again"
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


def _names(client: Any) -> Iterator[str]:
    """The names of all registered models; the server gives a hundred at a time."""
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        yield from (model.name for model in page)
        token = page.token
        if not token:
            return
