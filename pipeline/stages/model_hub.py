"""Model hub: models published on Hugging Face and fetched from there, with the checksums that they were saved with."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from pelagos.pipeline.runs import published_folder
from pelagos.pipeline.runs.model_card import CARD
from pelagos.pipeline.stages.export_weights import export
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import ConfigError, DataError, TemporaryError
from pelagos.preprocessing.store.checksum_list import CHECKSUM_LIST

FILES = (*published_folder.NAMES.values(), CARD, CHECKSUM_LIST)
"""The files of a published model; others of its repository are not fetched."""


def push(
    reference: str, repository: str, revision: str, tracking: TrackingConfig, *, public: bool = False
) -> str:
    """Publish a model in a repository of Hugging Face, which is created where it is missing; returns its address.

    Args:
        reference: a folder, or `models:/NAME@ALIAS`.
        repository: OWNER/NAME.
        revision: the branch to write to.
        tracking: where the registry is.
        public: whether a repository that is created can be read by all.

    Raises:
        ConfigError: the extra `hub` is not installed.
        DataError: the hub refuses, as without a token.
        TemporaryError: it does not answer.
    """
    hub = _hub()
    with tempfile.TemporaryDirectory() as scratch, _hub_errors(hub, repository):
        folder = export(reference, Path(scratch, "model"), "huggingface", tracking)
        api = hub.HfApi()
        api.create_repo(repository, private=not public, exist_ok=True)
        if revision != "main":
            api.create_branch(repository, branch=revision, exist_ok=True)
        # One commit, so that no reader sees new weights beside an old description; `upload_folder` may make several.
        files = [hub.CommitOperationAdd(name, folder / name) for name in FILES]
        commit = api.create_commit(
            repository, files, commit_message=f"Publish {reference}", revision=revision
        )
    return str(commit.commit_url)


def pull(repository: str, folder: Path, revision: str = "main") -> Path:
    """Write the folder of a model that was published on Hugging Face, or in its layout; returns it.

    Args:
        repository: OWNER/NAME, or a published folder on this machine.
        folder: to write; it must not hold anything.
        revision: a branch, tag or commit.

    Raises:
        ConfigError: the extra `hub` is not installed, or the folder holds something.
        MissingFileError: the repository holds no model of Pelagos.
        DamagedFileError: a file is not as it was published.
        DataError: the hub refuses.
        TemporaryError: it does not answer.
    """
    published_folder.require_new(folder)
    if published_folder.is_published(Path(repository)):
        published_folder.restore(Path(repository), folder)
        return folder
    hub = _hub()
    with tempfile.TemporaryDirectory() as scratch:
        with _hub_errors(hub, repository):
            hub.snapshot_download(
                repository, revision=revision, local_dir=scratch, allow_patterns=list(FILES)
            )
        published_folder.restore(Path(scratch), folder)
    return folder


def _hub() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError("models on Hugging Face need the extra: pip install 'pelagos[hub]'") from error
    return huggingface_hub


@contextmanager
def _hub_errors(hub: ModuleType, repository: str) -> Iterator[None]:
    """Turn what the hub's client raises into errors that say whether trying again helps."""
    try:
        yield
    except (hub.errors.HFValidationError, hub.errors.LocalTokenNotFoundError) as error:
        raise DataError(f"Hugging Face refuses {repository}: {error}") from error
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError) as error:
        # A refusal by the server comes as the cause of a file that is not in the client's cache.
        answer = error if isinstance(error, hub.errors.HfHubHTTPError) else error.__cause__
        status = getattr(getattr(answer, "response", None), "status_code", 500)
        if status >= 500 or status == 429:
            raise TemporaryError(f"Hugging Face does not answer: {error}") from error
        raise DataError(f"Hugging Face refuses {repository}: {error}") from error
