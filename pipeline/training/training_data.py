"""The data of a training run: its stores and simulations, opened, mixed, and described for the model."""

from collections.abc import Sequence

from pelagos.pipeline.engine import distributed
from pelagos.pipeline.runs.model_folder import Domain, VariableScale
from pelagos.pipeline.training.training_run import TrainingStage
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.sample_store import SampleStore


def open_stores(config: TrainingStage) -> list[SampleStore]:
    """The stores of a run, and what stands for them of its simulations.

    Raises:
        ConfigError: a simulation has the name of another dataset.
        PelagosError: a store cannot be opened, or a trajectory not be simulated.
    """
    config.loop.accumulation(distributed.world())
    # Stores first: a simulation takes time.
    opened = {n: data.store() for n, data in enumerate(config.data_configs) if data.kind == "store"}
    names = [
        opened[n].dataset if data.kind == "store" else data.name for n, data in enumerate(config.data_configs)
    ]
    for data, name in zip(config.data_configs, names, strict=True):
        if data.kind == "online" and names.count(name) > 1:
            raise ConfigError(
                f"data: two datasets are called {name}: give the simulation another name by simulation.dataset"
            )
    return [opened[n] if n in opened else data.store() for n, data in enumerate(config.data_configs)]


def build_mixture(
    config: TrainingStage,
    stores: Sequence[SampleStore],
    normalizer: Normalizer | None,
    temperature: float = 1.0,
) -> Mixture:
    """The order of the training samples of opened stores, by their own statistics without a normaliser."""
    loop = config.loop
    return Mixture(
        [
            data.samples(store, normalizer or Normalizer.of(store))
            for data, store in zip(config.data_configs, stores, strict=True)
        ],
        weights=[data.weight for data in config.data_configs],
        batch_size=loop.batch_size,
        micro_batch=loop.micro_batch,
        temperature=temperature,
        seed=config.seed,
    )


def domain_of(dataset: Dataset) -> Domain:
    """What a model has to know of a dataset that it was trained on."""
    scales = {}
    # Both: static and forcing variables are inputs alone, diagnostic ones outputs alone.
    for normalizer in (dataset.input_normalizer, dataset.output_normalizer):
        for key, mean, std in zip(normalizer.keys, normalizer.mean, normalizer.std, strict=True):
            scales[key] = VariableScale(mean=float(mean), std=float(std))
    layout = dataset.layout
    return Domain(
        inputs=layout.inputs,
        outputs=layout.outputs,
        scales=scales,
        scalars=layout.scalars,
        time_scale=layout.time_scale,
    )
