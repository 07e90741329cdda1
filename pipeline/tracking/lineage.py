"""Lineage: what a model was made from, as the folder of its run records it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pelagos.pipeline.runs import run_folder, run_inputs
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.tracking.code_version import code_version
from pelagos.pipeline.tracking.logged_dataset import dataset_inputs
from pelagos.preprocessing.errors import DamagedFileError


@dataclass(frozen=True)
class Lineage:
    """What a model was made from.

    Attributes:
        stage: the last one that changed it: `pretrained`, `finetuned`, `imported`; empty where none is recorded.
        commit: of the code that registers it, empty for an installed package.
        parent: the model that it continues: its version or folder; empty where it continues none.
        parent_checksum: of that model's files.
        stores: the checksum of each store, by its path.
    """

    stage: str = ""
    commit: str = ""
    parent: str = ""
    parent_checksum: str = ""
    stores: Mapping[str, str] = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """The tags of a version, those that are known."""
        known = {
            "pelagos.stage": self.stage,
            "pelagos.commit": self.commit,
            "pelagos.parent": self.parent,
            "pelagos.parent_checksum": self.parent_checksum,
        }
        known |= {f"pelagos.data.{Path(store).name}": digest for store, digest in self.stores.items()}
        return {name: value for name, value in known.items() if value}

    def dataset_inputs(self, context: str) -> list[Any]:
        """The stores as MLflow logs datasets."""
        return dataset_inputs(self.stores, context)


def lineage_of(model: Model, folder: Path) -> Lineage:
    """What the model in a folder was made from."""
    try:
        inputs = run_folder.record(folder.parent).get("inputs", {})
        stores = run_inputs.recorded_stores(folder.parent)
    except DamagedFileError:
        # It says which run the folder beside is of, not whether this model is whole.
        inputs, stores = {}, {}
    parent = inputs.get("model", {})
    return Lineage(
        stage=list(model.history)[-1] if model.history else "",
        commit=code_version()["revision"] or "",
        parent=parent.get("found", ""),
        parent_checksum=parent.get("checksum", ""),
        stores=stores,
    )
