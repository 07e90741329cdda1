"""Logged dataset: a store as MLflow lists it among what a run has read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DIGEST_LENGTH = 36  # MLflow takes no longer ones; the whole one is a tag of registered versions


def dataset_inputs(stores: Mapping[str, str], context: str) -> list[Any]:
    """Stores as MLflow logs datasets: name, digest and place.

    Args:
        stores: the checksum of each, by its path.
        context: what they are to the run: `training`, `evaluation`.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    return [
        DatasetInput(
            Dataset(Path(store).name, digest[:_DIGEST_LENGTH], "local", store),
            [InputTag(MLFLOW_DATASET_CONTEXT, context)],
        )
        for store, digest in stores.items()
    ]
