"""Pelagos: a foundation-model pipeline for partial differential equations and weather.

store = pelagos.open_store("stores/waves.zarr")
samples = pelagos.Samples("stores/waves.zarr", split="train")
model = pelagos.load("models:/waves@champion")
forecast = model.forecast(dataset, steps=10)
scores = pelagos.score(forecast, truth, convention="the_well")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pelagos.evaluation.dataset_scores import score
    from pelagos.pipeline.forecasting.loaded_model import LoadedModel, load
    from pelagos.preprocessing.loading.torch_samples import Samples, SampleStream, TorchSample
    from pelagos.preprocessing.store.store import Store, open_store

__version__ = "0.1.0"
__all__ = [
    "LoadedModel",
    "SampleStream",
    "Samples",
    "Store",
    "TorchSample",
    "__version__",
    "load",
    "open_store",
    "score",
]

_PLACES = {
    "LoadedModel": "pelagos.pipeline.forecasting.loaded_model",
    "load": "pelagos.pipeline.forecasting.loaded_model",
    "TorchSample": "pelagos.preprocessing.loading.torch_samples",
    "SampleStream": "pelagos.preprocessing.loading.torch_samples",
    "Samples": "pelagos.preprocessing.loading.torch_samples",
    "Store": "pelagos.preprocessing.store.store",
    "open_store": "pelagos.preprocessing.store.store",
    "score": "pelagos.evaluation.dataset_scores",
}


def __getattr__(name: str) -> Any:
    # Imported when first asked for: `pelagos --help` loads neither torch nor zarr.
    if name not in _PLACES:
        raise AttributeError(f"module 'pelagos' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
