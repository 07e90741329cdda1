"""The command `init`: configurations to begin with, for a store and perhaps a model."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from pelagos.pipeline.checking.starter_configs import (
    Choice,
    about,
    configuration_text,
    evaluate_choices,
    finetune_choices,
    pretrain_choices,
)
from pelagos.pipeline.runs import model_folder
from pelagos.pipeline.runs.commands import config_class
from pelagos.pipeline.runs.configuration import validate
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.tracking.tracker import TrackingConfig
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.files.durable import write_bytes
from pelagos.preprocessing.store.store import open_store


def write_configurations(
    store_path: str, model: str, folder: Path, tracking: TrackingConfig, *, overwrite: bool = False
) -> dict[str, Path]:
    """Write configurations that train on a store and score the result; returns their paths by command, in order.

    Args:
        store_path: of the store.
        model: to fine-tune, a folder or `models:/NAME@ALIAS`; empty for none.
        folder: where they are written.
        tracking: where the registry is.
        overwrite: whether files of the same names may be replaced.

    Raises:
        ConfigError: one of the files exists.
        PelagosError: the store or the model cannot be used.
    """
    store = open_store(store_path)
    name = store.dataset
    choices = {"pretrain": pretrain_choices(store, name)}
    models = {"pretrained": f"runs/{name}/pretrain/model"}
    if model:
        known = model_folder.load(model_registry.resolve(model, tracking))
        choices["finetune"] = finetune_choices(store, name, model, known)
        models |= {"finetuned": f"runs/{name}/finetune/model"}
    choices["evaluate"] = evaluate_choices(store, name, models)
    files = {command: folder / f"{name}-{command}.yaml" for command in choices}
    if not overwrite and (there := [file for file in files.values() if file.exists()]):
        raise ConfigError(f"{there[0]} exists: give another --folder, or --overwrite")
    head = about(store)
    for command, file in files.items():
        text = configuration_text(choices[command], head)
        _validate(command, choices[command], file)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, text.encode())
    return files


def _validate(command: str, choices: Sequence[Choice], file: Path) -> None:
    values = yaml.safe_load(configuration_text(choices, []))
    validate(values, config_class(command), str(file))
