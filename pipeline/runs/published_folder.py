"""Published folder: a model in the layout of Hugging Face, whose files are those of the model's folder renamed.

`config.json` is `model.json`, `model.safetensors` is `weights.safetensors`, and `README.md` is the card, so that
nothing is converted and a model comes back with the checksum that it left with.
"""

import json
import shutil
from pathlib import Path

from pelagos.pipeline.runs.model_card import CARD
from pelagos.pipeline.runs.model_checksum import DESCRIPTION, WEIGHTS, model_checksum
from pelagos.preprocessing.errors import ConfigError, DamagedFileError, MissingFileError
from pelagos.preprocessing.files.durable import sync_tree, write_bytes
from pelagos.preprocessing.store import checksum_list
from pelagos.preprocessing.store.checksum_list import CHECKSUM_LIST

NAMES = {DESCRIPTION: "config.json", WEIGHTS: "model.safetensors"}
"""What the files of a model are called where it is published."""


def publish(model: Path, folder: Path, card: str) -> str:
    """Write a model in the layout of Hugging Face; returns the checksum of all its files.

    Args:
        model: the model's folder.
        folder: to write; it must not exist.
        card: what `README.md` says.

    Raises:
        ConfigError: the folder exists.
        DamagedFileError: the model is damaged.
    """
    model_checksum(model)
    require_new(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, published in NAMES.items():
        shutil.copyfile(model / name, partial / published)
    write_bytes(partial / CARD, card.encode())
    digest = checksum_list.write_list(partial, checksum_list.list_files(partial, [*NAMES.values(), CARD]))
    sync_tree(partial)
    partial.rename(folder)
    return digest


def require_new(folder: Path) -> None:
    """Refuse to write into a folder that holds something.

    Raises:
        ConfigError: it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists: give another folder, or delete it")


def is_published(folder: Path) -> bool:
    """Whether a folder is a model of Pelagos in the layout of Hugging Face, whatever its state."""
    file = folder / NAMES[DESCRIPTION]
    if not file.is_file():
        return False
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        # Of Pelagos or not, nobody can tell; the list of checksums is written by Pelagos alone.
        return (folder / CHECKSUM_LIST).is_file()
    return isinstance(values, dict) and "pelagos" in values


def restore(published: Path, folder: Path, *, link: bool = False) -> None:
    """Write the folder of the model that a published folder holds.

    Args:
        published: in the layout of Hugging Face.
        folder: to write; it must not hold anything.
        link: whether the files are links to the published ones, for a folder that is used once.

    Raises:
        MissingFileError: a file is missing.
        DamagedFileError: one is not as it was written, or the list of checksums is missing.
        ConfigError: the folder holds something.
    """
    for name in NAMES.values():
        if not (published / name).is_file():
            raise MissingFileError(f"{published} holds no published model: {name} is missing")
    if checksum_list.verify_list(published) is None:
        raise DamagedFileError(f"{published / CHECKSUM_LIST}: missing; fetch the model again, whole")
    require_new(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in NAMES.items():
        if link:
            (folder / name).symlink_to((published / source).resolve())
        else:
            shutil.copyfile(published / source, folder / name)
    checksum_list.write_list(folder, checksum_list.list_files(folder, list(NAMES)))
    if not link:
        sync_tree(folder)
