"""Version files: what a registered version consists of, and whether it still is what was registered.

A version is a model's files alone, or, since it is a model of MLflow too, these below `model/` and beside them what
MLflow, a reader and a server need. One list, `SHA256SUMS`, covers all of it.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.durable import sha256
from pelagos.preprocessing.store import checksum_list
from pelagos.preprocessing.store.checksum_list import CHECKSUM_LIST

CHECKSUM_TAG = "pelagos.checksum"
"""The tag of a version that holds the digest of its model's files."""
FILES_TAG = "pelagos.files"
"""The tag that holds the digest of all of its files."""
MODEL_PART = "model"
"""Where the model's files are in a version that holds others beside them."""


@dataclass(frozen=True)
class VersionFiles:
    """The files of a version that is about to be made.

    Attributes:
        files: where each file of the model is now, by its name in the version.
        wrapping: the folder of what stands beside the model; None where nothing does.
        lists: lists of checksums that no file holds yet, by their names in the version.
        model: the digest of the model's files.
        digest: of all files.
    """

    files: Mapping[str, Path]
    wrapping: Path | None
    lists: Mapping[str, str]
    model: str
    digest: str

    def upload(self, client: Any, run_id: str, place: str) -> None:
        """Make them artifacts of a run."""
        for name, source in self.files.items():
            client.log_artifact(run_id, str(source), str(Path(place, name).parent))
        if self.wrapping is not None:
            client.log_artifacts(run_id, str(self.wrapping), place)
        with tempfile.TemporaryDirectory() as scratch:
            for name, text in self.lists.items():
                checksum_list.write_list(Path(scratch), text)
                client.log_artifact(run_id, str(Path(scratch, CHECKSUM_LIST)), str(Path(place, name).parent))


def version_files(folder: Path, wrapping: Path | None = None) -> VersionFiles:
    """The files of a version of a model.

    Args:
        folder: the model's.
        wrapping: a folder of the files that stand beside the model; None where there are none.
    """
    listed = checksum_list.listed_files(folder)
    # Folders of earlier versions have no list; their versions get one.
    names = checksum_list.all_files(folder) if listed is None else list(listed)
    text = checksum_list.list_files(folder, names)
    digest = checksum_list.digest(text)
    if wrapping is None:
        files = {name: folder / name for name in names}
        return VersionFiles(files, None, {CHECKSUM_LIST: text}, digest, digest)
    # One line stands for all files of the model: its own list, which is one of the version's files.
    inner = f"{MODEL_PART}/{CHECKSUM_LIST}"
    around = {name: sha256(wrapping / name) for name in checksum_list.all_files(wrapping)}
    outer = checksum_list.checksum_text({**around, inner: digest})
    files = {f"{MODEL_PART}/{name}": folder / name for name in names}
    return VersionFiles(
        files, wrapping, {inner: text, CHECKSUM_LIST: outer}, digest, checksum_list.digest(outer)
    )


def model_part(folder: Path) -> Path:
    """The folder of the model among the files of a version."""
    inner = folder / MODEL_PART
    return inner if inner.is_dir() else folder


def check_version(folder: Path, reference: str, tags: Mapping[str, str]) -> None:
    """Compare the files of a version with what was registered, but for those that loading the model compares.

    Args:
        folder: of the version's files.
        reference: of the version, for messages.
        tags: of the version.

    Raises:
        DamagedFileError: a file or a list is not the one that was registered.
    """
    # Versions of before have no tag of either kind.
    for part, tag in ((folder, FILES_TAG), (model_part(folder), CHECKSUM_TAG)):
        if (expected := tags.get(tag)) is not None:
            _check_list(part, reference, expected)
    if FILES_TAG in tags:
        checksum_list.verify_list(folder)


def _check_list(folder: Path, reference: str, expected: str) -> None:
    listed = checksum_list.listed_files(folder)
    if listed is None or checksum_list.digest(checksum_list.checksum_text(listed)) != expected:
        raise DamagedFileError(
            f"{folder}: {reference} was registered with the checksum {expected[:12]}..., and {CHECKSUM_LIST} there is"
            f" {'missing' if listed is None else 'another one'}: restore the artifact, or register the model again"
        )
