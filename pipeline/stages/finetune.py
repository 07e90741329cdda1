"""Fine-tuning: a model is adapted to a dataset, which may have new variables and few trajectories."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import NonNegativeInt, model_validator
from torch import nn

from pelagos.models.adapt import Adaptation
from pelagos.models.constraints.constrained_step import Constraint, check_order
from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import noise_names
from pelagos.models.networks.network import NetworkConfig, check_grid
from pelagos.models.networks.scot.scot import ScOTConfig
from pelagos.models.networks.scot.upsampling import Upsampling
from pelagos.pipeline.engine import distributed
from pelagos.pipeline.runs import run_inputs
from pelagos.pipeline.runs.domain_fit import fit, learnt_time_scales, unit_text
from pelagos.pipeline.runs.model_checksum import model_checksum
from pelagos.pipeline.runs.model_folder import Domain, Model, VariableScale, load, signature_of, union
from pelagos.pipeline.runs.remarks import say
from pelagos.pipeline.runs.run_inputs import RunInput
from pelagos.pipeline.runs.trained_grid import TrainedGrid
from pelagos.pipeline.stages.adaptation_facts import adaptation_facts, record_lines, write_record
from pelagos.pipeline.stages.inherited_weights import FreshParts, NewSlices, inherit
from pelagos.pipeline.stages.seed_runs import run_seeds, seed_folders
from pelagos.pipeline.tracking import model_registry
from pelagos.pipeline.training import training_run
from pelagos.pipeline.training.equation_labels import EquationLabels, EquationLabelsConfig
from pelagos.pipeline.training.informed_objective import InformedObjective
from pelagos.pipeline.training.lora import LoraConfig
from pelagos.pipeline.training.objective import Objective
from pelagos.pipeline.training.training_data import (
    build_mixture,
    check_constraints,
    domains_of,
    open_stores,
)
from pelagos.pipeline.training.training_run import TrainingStage
from pelagos.preprocessing.errors import ConfigError, DataError, MissingFileError
from pelagos.preprocessing.online.online_dataset import DataConfig
from pelagos.preprocessing.samples.data_concerns import foreign_scales
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.samples.normalize import Normalizer
from pelagos.preprocessing.store.sample_store import SampleStore


class FinetuneStage(TrainingStage):
    """A model, the data that it is adapted to, and how.

    Attributes:
        seeds: several in place of `seed`: one run each, in the folders seed0, seed1, ... of `output`.
        model: a folder, or models:/NAME@ALIAS of the registry.
        data: the store or simulation; `num_trajectories` limits the training split of a store, and `time_scale` is
            the model's by default: of this dataset, or of all its datasets where they share one.
        scratch: whether to start the same network from fresh weights, for comparison.
        equation_labels: makes part of the samples of states of the network's own, labelled by the data's equation.
        constraints: what each forecast step is made to obey; the model's own by default.
        network: with `scratch`, a network of another kind in place of the model's, for the data's variables alone.
        fresh: parts of the network that begin from fresh weights, by the names that `optimizer.parts` knows.
        upsampling: with `recovery` among `fresh`, the one that a network of kind scot is given in place of the model's.
        lora: adapters that are trained in place of the body's weights; they are merged into the model at the end.
        scales: `model` keeps the scales of variables that the model knows, so that its weights keep their meaning;
            `store` takes all scales from the store.
    """

    command: Literal["finetune"] = "finetune"
    seeds: tuple[NonNegativeInt, ...] = ()
    model: str
    data: DataConfig
    scratch: bool = False
    network: NetworkConfig | None = None
    fresh: tuple[str, ...] = ()
    upsampling: Upsampling | None = None
    lora: LoraConfig | None = None
    equation_labels: EquationLabelsConfig | None = None
    constraints: tuple[Constraint, ...] | None = None
    scales: Literal["model", "store"] = "model"

    @model_validator(mode="after")
    def _constraints_in_order(self) -> Self:
        check_order(self.constraints or ())
        return self

    @model_validator(mode="after")
    def _fresh_where_it_must_be(self) -> Self:
        if self.network is not None and not self.scratch:
            raise ValueError("network: another network cannot take the model's weights; add scratch: true")
        if self.lora is not None and self.scratch:
            raise ValueError("lora: adapters belong to weights that have learnt; leave out scratch, or lora")
        if self.fresh and self.scratch:
            raise ValueError("fresh: with scratch: true all weights are fresh; leave out one of them")
        if self.upsampling is not None and self.network is not None:
            raise ValueError("upsampling: the network is given; set network.upsampling")
        if self.upsampling is not None and not self.scratch and "recovery" not in self.fresh:
            raise ValueError("upsampling: another recovery has weights of its own; add fresh: [recovery]")
        return self

    @model_validator(mode="after")
    def _fresh_and_trained(self) -> Self:
        frozen = {key for key, rate in self.optimizer.parts.items() if rate == "frozen"}
        if lost := [key for key in self.fresh if key in frozen]:
            raise ValueError(f"fresh: {lost[0]} would stay as it was drawn: optimizer.parts freezes it")
        if self.lora is not None and (lost := [key for key in self.fresh if key in ("body", "last")]):
            raise ValueError(f"fresh: {lost[0]} would stay as it was drawn: lora freezes it")
        return self

    @model_validator(mode="after")
    def _one_run_for_each_seed(self) -> Self:
        if self.seeds and "seed" in self.model_fields_set:
            raise ValueError("seeds: there is a seed as well; leave out one of them")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names one twice")
        return self

    @model_validator(mode="after")
    def _nothing_frozen_in_parts(self) -> Self:
        frozen = [key for key, rate in self.optimizer.parts.items() if rate == "frozen"]
        what = (
            "lora freezes all else"
            if self.lora is not None
            else f"optimizer.parts freezes {', '.join(frozen)}"
        )
        if self.engine.zero_stage == 3 and (frozen or self.lora is not None):
            raise ValueError(
                f"engine.zero_stage: 3 cannot train a network with frozen weights, and {what}; take 2"
            )
        return self

    @model_validator(mode="after")
    def _two_samples_to_mix(self) -> Self:
        labels = self.equation_labels
        if labels is not None and labels.mixes and labels.labelled(self.loop.micro_batch) < 2:
            raise ValueError(
                f"equation_labels: one sample of a micro-batch of {self.loop.micro_batch} is labelled, and there is"
                " nothing to mix it with: a larger loop.micro_batch or share"
            )
        return self

    @model_validator(mode="after")
    def _whole_network_for_states(self) -> Self:
        if self.equation_labels is not None and self.engine.zero_stage == 3:
            raise ValueError(
                "equation_labels: rollouts in training need whole weights: engine.zero_stage up to 2"
            )
        if self.equation_labels is not None and self.engine.domain > 1:
            raise ValueError("equation_labels: an equation needs all rows of its states: engine.domain: 1")
        return self

    @property
    def data_configs(self) -> tuple[DataConfig, ...]:
        """See TrainingStage."""
        return (self.data,)

    @property
    def title(self) -> str:
        """See TrainingStage."""
        return "scratch" if self.scratch else "finetune"

    def runs(self) -> tuple[Self, ...]:
        """See TrainingStage: one for each seed."""
        name = self.name or self.output.name
        return tuple(
            self.model_copy(
                update={
                    "seeds": (),
                    "seed": seed,
                    "output": self.output / f"seed{seed}",
                    "name": f"{name}-seed{seed}",
                }
            )
            for seed in self.seeds
        ) or (self,)

    def inputs(self) -> list[RunInput]:
        """See TrainingStage; the model too, at the version that the run began with."""
        reference = self._pinned()
        folder = model_registry.resolve(reference, self.tracking)
        if model_registry.is_registered(reference):
            _say_if_moved(self, reference)
        return [*super().inputs(), RunInput("model", self.model, reference, model_checksum(folder))]

    def _pinned(self) -> str:
        """The model by its version: the one that the run began with where it has begun, though an alias has moved."""
        begun = run_inputs.recorded(self.output, "model")
        if begun is None or begun.reference != self.model:
            return model_registry.pinned(self.model, self.tracking)
        return begun.found

    def assemble(self) -> tuple[Model, Mixture]:
        """See TrainingStage; says in the run's folder which weights are new.

        Raises:
            MissingFileError: there is no such model.
            DataError: the model cannot be trained, or not on this store.
        """
        # Weights that are loaded need memory, even where the caller builds networks without any.
        with torch.device("cpu"):
            # Building the source draws weights: forked, new ones do not depend on what it was made of.
            with torch.random.fork_rng(devices=[]):
                source = self._source()
            return _adapted(self, source)

    def completed(self, objective: Objective, mixture: Mixture) -> Objective:
        """See TrainingStage: states that the equation labels."""
        if self.equation_labels is None:
            return objective
        return InformedObjective(objective, self.equation_labels.build(mixture.datasets[0]))

    def opening_lines(self) -> list[str]:
        """See TrainingStage: what is copied, what is new and what differs."""
        return [f"adapted: {line}" for line in record_lines(self.output)]

    def available(self) -> tuple[Self | None, list[str]]:
        """See TrainingStage; all of the run, or nothing."""
        missing, config = self.missing_stores(), self
        try:
            # A registered model is fetched once.
            config = self.model_copy(update={"model": str(model_registry.resolve(self.model, self.tracking))})
        except MissingFileError as error:
            missing.append(str(error))
        return (None if missing else config), missing

    def _source(self) -> Model:
        source = load(model_registry.resolve(self._pinned(), self.tracking))
        needed = {domain.ages for domain in source.domains.values() if domain.frames > 1} - {
            self.data.history
        }
        if needed:
            raise DataError(
                f"{self.model} is of a network of several frames, one step apart: give data.history:"
                f" {list(min(needed))} and a store whose frames are the steps"
            )
        return source


def run(config: FinetuneStage) -> Path:
    """Fine-tune, or continue where an interrupted run was; returns the model's folder, of several seeds that of all."""
    if not config.seeds:
        return training_run.run(config)
    others = tuple(seed for seed in seed_folders(config.output) if seed not in config.seeds)
    everything = config.model_copy(update={"seeds": (*config.seeds, *others)}).runs()
    number = len(config.seeds)
    return run_seeds(everything[:number], config.output, kept=everything[number:])


def _say_if_moved(config: FinetuneStage, reference: str) -> None:
    """Say where the alias of the configuration has come to point to another version than the run's."""
    try:
        now = model_registry.pinned(config.model, config.tracking)
    except MissingFileError as error:
        now = f"nothing ({error})"
    if now != reference:
        print(f"note: {config.model} is now {now}; this run began with {reference} and keeps it", flush=True)


def _adapted(config: FinetuneStage, source: Model) -> tuple[Model, Mixture]:
    """The network that continues from a model, and the samples of the run."""
    [store] = open_stores(config)
    if not config.scratch:
        _check_grid(source, store)
    data = _seeing(_timed(config.data, source, store), source, store)
    if config.equation_labels is not None:
        config.equation_labels.check(store)
        data = data.model_copy(update={"augment": config.equation_labels.augment(data.augment, store)})
    timed = config.model_copy(update={"data": data})
    mixture = build_mixture(timed, [store], [_normalizer(config, source, store)])
    [dataset] = mixture.datasets
    built = _network_config(config, source)
    check_grid(built, dataset.layout.grid, dataset.layout.dataset)
    _warn(list(foreign_scales(store, dataset.normalizer)))
    signature = _signature(config, source, dataset)
    network = built.build(signature)
    facts: dict[str, str] = {}
    fresh, adaptation = FreshParts(), None
    if not config.scratch:
        _warn(_differences(source, dataset))
        fresh = FreshParts.of(network, config.fresh)
        facts = adaptation_facts(source, dataset, signature, fresh)
        adaptation = inherit(source, network, signature, fresh)
        if distributed.rank() == 0:
            write_record(config.output, adaptation, fresh, facts)
    if config.equation_labels is not None:
        _say_remarks(config.equation_labels.build(dataset), config.loop.micro_batch)
    _add_adapters(config, network, fresh, adaptation)
    domains = domains_of([dataset], config.loop.steps, config.loss)
    if not config.scratch:
        domains = {**source.domains, **domains}
    constraints = source.constraints if config.constraints is None else config.constraints
    check_constraints(constraints, domains, mixture)
    history = {**({} if config.scratch else source.history), "finetuned": config.model_dump(mode="json")}
    if facts:
        history["finetuned"] |= {"adapted": facts}
    return Model(built, network, signature, domains, history, constraints), mixture


def _add_adapters(
    config: FinetuneStage, network: nn.Module, fresh: FreshParts, adaptation: Adaptation | None
) -> None:
    """Add adapters where they are asked for, and refuse rates and fresh weights that come to nothing."""
    drawn, new = fresh.weights(network), NewSlices.of(network, adaptation)
    if config.lora is not None:
        config.lora.apply(network)
        config.lora.check_rates(network, config.optimizer.parts)
    if drawn:
        fresh.check_trained(drawn, config.optimizer.parameter_groups(network))
    if new.weights:
        new.check_trained(config.optimizer.parameter_groups(network))


def _network_config(config: FinetuneStage, source: Model) -> NetworkConfig:
    """The network: the one that is given, or the model's, with another recovery where one is asked for."""
    built = config.network or source.config
    if config.upsampling is None:
        return built
    if not isinstance(built, ScOTConfig):
        raise ConfigError(
            f"upsampling: {config.upsampling} is for networks of kind scot, and the model is of kind {built.kind}"
        )
    return built.model_copy(update={"upsampling": config.upsampling})


def _timed(data: DataConfig, source: Model, store: SampleStore) -> DataConfig:
    """The data with the model's duration of lead time 1, where they state none and there is one."""
    known = learnt_time_scales(source.domains, store)
    if data.time_scale is not None or store.num_times == 1 or not known:
        return data
    unit = unit_text(store.time_units)
    if len(known) > 1:
        scales = ", ".join(f"{scale:g}" for scale in known)
        _warn(
            [
                f"lead time 1 was {scales}{unit} on the model's datasets, and is one frame now, {store.dt:g}{unit}:"
                " choose data.time_scale"
            ]
        )
        return data
    if math.isclose(known[0], store.dt, rel_tol=1e-6):
        return data
    if distributed.rank() == 0:
        say(f"note: fine-tuning: lead time 1 is {known[0]:g}{unit}, as in the model's training")
    return data.model_copy(update={"time_scale": known[0], "time_unit": "physical"})


def _seeing(data: DataConfig, source: Model, store: SampleStore) -> DataConfig:
    """The data with the history and valid forcing of the model's dataset of this name, where they state neither."""
    domain = source.domains.get(store.dataset)
    if domain is None or {"history", "valid_forcing"} & data.model_fields_set:
        return data
    seen = {"history": domain.history, "valid_forcing": domain.sees_valid_forcing}
    if seen == {"history": data.history, "valid_forcing": data.valid_forcing}:
        return data
    if domain.history and not math.isclose(domain.frame_time, store.dt, rel_tol=1e-6):
        _warn(["frames are another time apart than in the model's training: choose data.history"])
        return data
    if distributed.rank() == 0:
        say(
            f"note: fine-tuning: the network sees frames {list(domain.history)} before the initial one"
            f"{', and forcings at the valid time' if domain.sees_valid_forcing else ''}, as in the model's training"
        )
    return data.model_copy(update=seen)


def _signature(config: FinetuneStage, source: Model, dataset: Dataset) -> Signature:
    """What the network is built for: the model's variables and scalars, the data's, and the noise of the loss."""
    noise = noise_names(config.loss.num_noise)
    built, own = config.network or source.config, signature_of([dataset.layout], noise)
    signature = union(source.signature, own) if config.network is None else own
    # scOT says so by a switch; WXFormer and FuXi in the form of miles-credit have no input for scalars.
    plain = getattr(built, "form", "pelagos") == "credit"
    if getattr(built, "use_conditioning", True) and not plain:
        return signature
    if ignored := dataset.layout.scalars:
        _warn([f"the network has no conditioning and ignores {', '.join(ignored)} of {dataset.store.label}"])
    return replace(signature, scalars=())


def _check_grid(source: Model, store: SampleStore) -> None:
    """Refuse data of a dataset that the model knows with rows or columns the other way round."""
    domain = source.domains.get(store.dataset)
    if domain is None or domain.grid is None or not (flips := fit(domain, store, ()).flips):
        return
    lines = " and ".join({-2: "rows", -1: "columns"}[axis] for axis in flips)
    raise DataError(
        f"{store.label} has its {lines} the other way round than the {store.dataset} that the model was trained on:"
        " build it in the same order (regrid, with a negative step), give it another dataset name, or use"
        " scratch: true"
    )


def _differences(source: Model, dataset: Dataset) -> list[str]:
    """What the weights will take for something else than in the model's own training."""
    store, name = dataset.store, dataset.layout.dataset
    domain = source.domains.get(name)
    if domain is None:
        return _unseen_directions(source, store)
    found = fit(domain, store, source.signature.scalars)
    if found.time != 1 and distributed.rank() == 0:
        say(
            f"note: fine-tuning: {store.label} has times in {store.time_units}, the model in {domain.time_units}: lead"
            " times are converted"
        )
    lines = list(found.warnings)
    if found.grid.units != store.grid.units:
        lines.append(
            f"the grid is in {store.grid.units}, in the model's training it was in {found.grid.units}"
        )
    here = dataset.layout.time_scale * found.time
    if domain.time_units is not None and not math.isclose(here, domain.time_scale, rel_tol=1e-3):
        lines.append(
            f"lead time 1 was {domain.time_scale:g}{unit_text(domain.time_units)} in the model's training and is"
            f" {dataset.layout.time_scale:g}{unit_text(store.time_units)} now: data.time_scale:"
            f" {domain.time_scale / found.time:g} keeps its meaning"
        )
    return lines


def _unseen_directions(source: Model, store: SampleStore) -> list[str]:
    """Which axes of a new dataset run as in none that the model knows."""
    grids = [domain.grid for domain in source.domains.values() if domain.grid is not None]
    here, lines = TrainedGrid.of(store.grid), []
    for name, axis, known in (
        ("rows", here.y, [grid.y for grid in grids]),
        ("columns", here.x, [grid.x for grid in grids]),
    ):
        if axis.points > 1 and known and all(axis.ascending != other.ascending for other in known):
            lines.append(
                f"the {name} run from {axis.first:g} to {axis.last:g}, the other way round than in all data that the"
                " model was trained on"
            )
    return lines


def _say_remarks(labels: EquationLabels, micro_batch: int) -> None:
    """Say which numbers of the equation stand in for the store's, and which are not used; that it fits is checked."""
    if distributed.rank() == 0:
        number, share = labels.config.labelled(micro_batch), labels.config.share
        if number != share * micro_batch:
            say(
                f"note: equation_labels: {number} of {micro_batch} samples are labelled, for a share of {share:g}"
            )
        for line in labels.remarks:
            say(f"note: equation_labels: {line}")


def _warn(lines: Iterable[str]) -> None:
    if distributed.rank() == 0:
        for line in lines:
            say(f"WARNING: fine-tuning: {line}")


def _normalizer(config: FinetuneStage, source: Model, store: SampleStore) -> Normalizer:
    """The store's scales, replaced by the model's where all of its domains have the same."""
    own = Normalizer.of(store)
    if config.scales == "store":
        return own
    for domain in source.domains.values():
        _check_units(store, domain)
    mean, std = own.mean.copy(), own.std.copy()
    for position, key in enumerate(own.keys):
        known = _known_scales(source.domains.values(), key)
        if len(known) == 1:
            [(mean[position], std[position])] = known
    return Normalizer(own.keys, mean, std)


def _check_units(store: SampleStore, domain: Domain) -> None:
    known = {variable.key: variable for variable in (*domain.inputs, *domain.outputs)}
    for found in (*store.variables, *store.static_variables):
        wanted = known.get(found.key, found)
        if not found.same_values(wanted):
            raise DataError(
                f"{store.label} has {found.key} in {found.describe_values()}, the model's scale is in "
                f"{wanted.describe_values()}: build the store in the model's units, or use scales: store"
            )


def _known_scales(domains: Iterable[Domain], key: str) -> set[tuple[float, float]]:
    scales: list[VariableScale] = [domain.scales[key] for domain in domains if key in domain.scales]
    return {(scale.mean, scale.std) for scale in scales}
