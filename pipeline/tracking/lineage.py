"""Lineage: what a model was made from, as its run's folder records it, or the version that it was registered as."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pelagos.pipeline.runs import run_folder, run_inputs
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.tracking.logged_dataset import dataset_inputs
from pelagos.preprocessing.errors import DamagedFileError
from pelagos.preprocessing.files.durable import write_json

LINEAGE = "lineage.json"
"""The file of it in a registered version, beside the model."""


@dataclass(frozen=True)
class Lineage:
    """What a model was made from.

    Attributes:
        stage: the last one that changed it: `pretrained`, `finetuned`, `imported`; empty where none is recorded.
        commit: of the code that trained it; empty where none is recorded, as by an installed package.
        registered_by: the commit of the code that registered it, empty as well for an installed package.
        parent: the model that it continues: its version or folder; empty where it continues none.
        parent_checksum: of that model's files.
        licence: of the weights; empty where it is not stated.
        stores: the checksum of each store, by its path.
    """

    stage: str = ""
    commit: str = ""
    registered_by: str = ""
    parent: str = ""
    parent_checksum: str = ""
    licence: str = ""
    stores: Mapping[str, str] = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """The tags of a version, those that are known."""
        values = {f"pelagos.{name}": value for name, value in asdict(self).items() if name != "stores"}
        values |= {f"pelagos.data.{Path(store).name}": digest for store, digest in self.stores.items()}
        return {name: value for name, value in values.items() if value}

    def dataset_inputs(self, context: str) -> list[Any]:
        """The stores as MLflow logs datasets."""
        return dataset_inputs(self.stores, context)

    def write(self, folder: Path) -> None:
        """Write it beside the model of a version."""
        write_json(folder / LINEAGE, asdict(self))


def lineage_of(folder: Path, stages: Iterable[str]) -> Lineage:
    """What the model in a folder was made from.

    Args:
        folder: of the model.
        stages: that made it, in their order.
    """
    known = Lineage(stage=next(reversed([*stages]), ""))
    try:
        if (file := folder.parent / LINEAGE).is_file():
            return _read(file)
        record = run_folder.record(folder.parent)
        inputs, stores = record.get("inputs", {}), run_inputs.recorded_stores(folder.parent)
    except DamagedFileError as error:
        # It says what the model was made from, not whether the model is whole.
        say(f"note: what {folder} was made from is not known: {error}")
        return known
    parent = inputs.get("model", {})
    return replace(
        known,
        commit=next((one["revision"] or "" for one in reversed(record.get("code", []))), ""),
        parent=parent.get("found", ""),
        parent_checksum=parent.get("checksum", ""),
        stores=stores,
    )


def _read(file: Path) -> Lineage:
    try:
        return Lineage(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DamagedFileError(f"{file} is damaged: {error}") from error
