"""The data of a training run: its stores and simulations, opened, mixed, and described for the model."""

from collections.abc import Iterable, Mapping, Sequence

from pelagos.models.constraints.constrained_step import Constraint, check_use, unknown_names
from pelagos.models.losses import LossConfig
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.runs.domain_fit import level_units
from pelagos.pipeline.runs.model_folder import Domain, VariableScale, constrained_step
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.runs.trained_grid import TrainedGrid
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
    # A check of samples that several processes share may stand for more processes than it has.
    config.accumulation(max(distributed.world(), config.engine.domain))
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
    normalizers: Sequence[Normalizer],
    temperature: float = 1.0,
) -> Mixture:
    """The order of the training samples of opened stores, each scaled by its normaliser."""
    loop = config.loop
    return Mixture(
        [
            data.samples(store, normalizer)
            for data, store, normalizer in zip(config.data_configs, stores, normalizers, strict=True)
        ],
        weights=[data.weight for data in config.data_configs],
        batch_size=loop.batch_size,
        micro_batch=loop.micro_batch,
        temperature=temperature,
        seed=config.seed,
    )


def check_constraints(
    constraints: Sequence[Constraint], domains: Mapping[str, Domain], mixture: Mixture
) -> None:
    """Refuse constraints that would do nothing, or cannot be kept; say which of their variables are in no dataset.

    Raises:
        ConfigError: no dataset has the fields of one; or a dataset lacks a field, a unit or a grid that it needs.
    """
    layouts = [dataset.layout for dataset in mixture.datasets]
    steps = [constrained_step(constraints, domains[layout.dataset], layout) for layout in layouts]
    datasets = [step.dataset for step in steps]
    check_use(constraints, datasets)
    if distributed.rank() == 0:
        for name in unknown_names(constraints, datasets):
            say(f"WARNING: constraints: {name} is forecast of no dataset, and left out")


def domains_of(datasets: Iterable[Dataset], steps: int, loss: LossConfig) -> dict[str, Domain]:
    """What a model knows by dataset after so many steps; of two stores of one dataset, the last counts."""
    domains: dict[str, Domain] = {}
    for dataset in datasets:
        domain, before = domain_of(dataset, steps, loss), domains.get(dataset.layout.dataset)
        if before is not None and before.time_units == domain.time_units:
            leads = {
                "max_lead": max(before.max_lead, domain.max_lead),
                "min_lead": min(before.min_lead, domain.min_lead),
                "horizon": max(before.horizon, domain.horizon),
            }
            domain = domain.model_copy(update=leads)
        domains[dataset.layout.dataset] = domain
    return domains


def domain_of(dataset: Dataset, steps: int | None = None, loss: LossConfig | None = None) -> Domain:
    """What a model has to know of a dataset that it was trained on.

    Args:
        dataset: the samples of training.
        steps: of training, on which it depends how far a curriculum came; the end by default.
        loss: of training, on which it depends whether constant outputs were left out; none are by default.
    """
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
        time_units=dataset.store.time_units,
        level_units=level_units(dataset.store),
        grid=TrainedGrid.of(layout.grid),
        **_leads(dataset, steps),
        history=layout.history,
        frame_time=dataset.store.dt if layout.history else 0.0,
        sees_valid_forcing=layout.sees_valid_forcing,
        augmentation=dataset.augmentation.names if dataset.augmentation else (),
        held=() if loss is None else tuple(layout.outputs[n].key for n in loss.left_out(layout)),
    )


def _leads(dataset: Dataset, steps: int | None) -> dict[str, float]:
    """The lead times that the network is asked for, and the longest from an initial frame to a target."""
    sampling, (shortest, longest) = dataset.sampling, dataset.leads
    if sampling.kind == "pairs":
        return {"min_lead": shortest, "max_lead": longest, "horizon": longest}
    reached = sampling.steps if steps is None else sampling.steps_at(max(0, steps - 1))
    step = longest / sampling.steps
    horizon = step * reached
    # Frames of a window are each forecast from the initial one, those of a rollout from the forecast before.
    return {
        "min_lead": step,
        "max_lead": horizon if sampling.kind == "windows" else step,
        "horizon": horizon,
    }
