"""Served model: a version of the registry as MLflow's pyfunc flavour calls it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from mlflow.pyfunc import PythonModel

from pelagos.pipeline.forecasting.loaded_model import LoadedModel
from pelagos.pipeline.runs import model_folder
from pelagos.preprocessing.errors import DataError
from pelagos.preprocessing.safety.trust import trusting
from pelagos.preprocessing.store import checksum_list

DEFAULTS: Mapping[str, Any] = {"steps": 1, "dataset": "", "step": 0.0, "scalars": []}
"""What MLflow passes on as `params`, and what is taken where it is not given."""


class ServedModel(PythonModel):  # type: ignore[misc]  # MLflow has no types
    """What `mlflow.pyfunc.load_model` and `mlflow models serve` call.

    Attributes:
        trusted: the class of the model's network, where it is one that the version carries (`kind: external`).
    """

    # MLflow takes annotations for a schema, has none for an xr.Dataset, and warns of methods without any.
    _skip_type_hint_validation = True

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        self.trusted = trusted

    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Compare every file of the version with its list, and load the model."""
        folder = Path(context.artifacts["model"])
        checksum_list.verify_list(folder.parent)
        # Whoever registered the version trusted the class, and MLflow runs the version's code in any case.
        with trusting(self.trusted):
            self._loaded = LoadedModel(model_folder.load(folder), folder.parent.name)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Forecasts of an `xr.Dataset` as one, or of an array (samples, channels, rows, columns) as an array.

        An array of forecasts is (samples, steps, channels, rows, columns). Parameters: `steps`; `dataset`, the name by
        which the model knows the data; `step`, the time between frames; `scalars`, the parameters of the samples of an
        array.
        """
        given = {**DEFAULTS, **(params or {})}
        options = {"step": float(given["step"])} if given["step"] else {}
        steps, dataset = int(given["steps"]), str(given["dataset"])
        if isinstance(model_input, xr.Dataset):
            return self._loaded.forecast(model_input, steps, dataset=dataset, **options)
        # A server passes on lists.
        values = np.asarray(model_input, np.float32) if isinstance(model_input, list | np.ndarray) else None
        if values is None:
            raise DataError(f"an xr.Dataset or an array is wanted, not {type(model_input).__name__}")
        return self._loaded.forecast_array(values, steps, list(given["scalars"]), dataset, **options)
