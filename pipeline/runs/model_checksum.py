"""Model checksum: one digest for all files of a model's folder, which every load compares."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.files.durable import sha256
from pelagos.preprocessing.store import checksum_list
from pelagos.preprocessing.store.checksum_list import CHECKSUM_LIST

DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"


def model_checksum(folder: Path) -> str:
    """The digest that stands for all files of a model, the same wherever the folder lies.

    Raises:
        MissingFileError: there is no model in the folder.
        DamagedFileError: a file fails its checksum.
    """
    listed = checksum_list.verify_list(folder)
    if listed is not None:
        return listed
    require_files(folder)
    # Folders of earlier versions have no list, but the same digest as if they had one.
    return checksum_list.digest(checksum_list.list_files(folder, [DESCRIPTION, WEIGHTS]))


def require_files(folder: Path, *names: str) -> None:
    """Refuse a folder that is no model's; of a run's folder it says where the model is.

    Args:
        folder: that should be a model's.
        names: the files to look for; by default the description and the weights.

    Raises:
        MissingFileError: one is missing.
    """
    for name in names or (DESCRIPTION, WEIGHTS):
        if (folder / name).is_file():
            continue
        # Of a run, or of runs of several seeds, whose folders are what people have in mind.
        found = sorted(
            one for path in ("model", "seed*/model") for one in folder.glob(f"{path}/{DESCRIPTION}")
        )
        beneath = f"; give {' or '.join(str(one.parent) for one in found)}" if found else ""
        raise MissingFileError(f"{folder} holds no model: {name} is missing{beneath}")


def check_without_list(folder: Path, description: Mapping[str, Any]) -> None:
    """Check the weights of a folder of an earlier version, and say what is not checked.

    Args:
        folder: the model's folder, which has no list of checksums.
        description: what its `model.json` says.

    Raises:
        DamagedFileError: the weights fail their checksum, or the list was left behind.
    """
    if "checksums" in description:
        raise DamagedFileError(
            f"{folder / CHECKSUM_LIST}: missing, though {DESCRIPTION} names it; copy the folder again, whole"
        )
    weights = folder / WEIGHTS
    if sha256(weights) != description["sha256"][WEIGHTS]:
        raise DamagedFileError(f"{weights} fails its checksum: it was changed or copied incompletely")
    print(
        f"WARNING: {folder} is of an earlier version, without {CHECKSUM_LIST}: its weights are checked, {DESCRIPTION}"
        " (variables, units, scales) is not",
        file=sys.stderr,
        flush=True,
    )
