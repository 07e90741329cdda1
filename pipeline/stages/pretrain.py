"""Pretraining: one network on a mixture of stores and simulations, over any number of processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pelagos.models.constraints.constrained_step import Constraint, check_order
from pelagos.models.layers.conditioning import noise_names
from pelagos.models.networks.network import NetworkConfig, check_grid
from pelagos.pipeline.runs.model_folder import DerivedScalar, Model, signature_of
from pelagos.pipeline.training import training_run
from pelagos.pipeline.training.training_data import (
    build_mixture,
    check_constraints,
    domains_of,
    open_stores,
)
from pelagos.pipeline.training.training_run import TrainingStage
from pelagos.preprocessing.online.online_dataset import DataConfig
from pelagos.preprocessing.samples.mixture import Mixture
from pelagos.preprocessing.samples.normalize import Normalizer, scaled_by_increments
from pelagos.preprocessing.samples.pooled_scales import pooled_normalizer
from pelagos.preprocessing.store.sample_store import SampleStore


class PretrainStage(TrainingStage):
    """A network, the data that it learns from, and how.

    Attributes:
        network: what is trained.
        data: stores, or simulations that run beside training, with weights and what makes a sample.
        temperature: a dataset's share is its weight times its number of samples to the power 1 / temperature.
        normalization: whether every dataset has its own scales, or all share one scale a variable.
        scaling: `deviation` scales fields to unit deviation; `increment` scales prognostic ones further, so that all
            change as much from frame to frame, and errors of slow variables count more.
        conditions: scalars that the network gets with each sample, beside the stores' own.
        constraints: what each forecast step is made to obey, in training and wherever the model is used.
    """

    command: Literal["pretrain"] = "pretrain"
    network: NetworkConfig
    data: tuple[DataConfig, ...] = Field(min_length=1)
    temperature: float = Field(default=1.0, gt=0)
    normalization: Literal["dataset", "pooled"] = "pooled"
    scaling: Literal["deviation", "increment"] = "deviation"
    conditions: tuple[DerivedScalar, ...] = ()
    constraints: tuple[Constraint, ...] = ()

    @property
    def data_configs(self) -> tuple[DataConfig, ...]:
        """See TrainingStage."""
        return self.data

    @property
    def title(self) -> str:
        """See TrainingStage."""
        return "pretrain"

    @model_validator(mode="after")
    def _datasets_differ(self) -> Self:
        if len(set(self.stores)) < len(self.stores):
            raise ValueError("data: a store is named twice")
        return self

    @model_validator(mode="after")
    def _constraints_in_order(self) -> Self:
        check_order(self.constraints)
        return self

    def assemble(self) -> tuple[Model, Mixture]:
        """See TrainingStage; the network has fresh weights, on torch's default device."""
        stores = open_stores(self)
        mixture = build_mixture(self, stores, self._normalizers(stores), self.temperature)
        for dataset in mixture.datasets:
            check_grid(self.network, dataset.layout.grid, dataset.layout.dataset)
        conditions = (*self.conditions, *noise_names(self.loss.num_noise))
        signature = signature_of([dataset.layout for dataset in mixture.datasets], conditions)
        network = self.network.build(signature)
        domains = domains_of(mixture.datasets, self.loop.steps, self.loss)
        history = {"pretrained": self.model_dump(mode="json")}
        check_constraints(self.constraints, domains, mixture)
        return Model(self.network, network, signature, domains, history, self.constraints), mixture

    def _normalizers(self, stores: Sequence[SampleStore]) -> list[Normalizer]:
        """The scales of each store's samples."""
        together = self.normalization == "pooled"
        pooled = [pooled_normalizer(stores)] * len(stores) if together else None
        found = pooled or [Normalizer.of(store) for store in stores]
        if self.scaling == "deviation":
            return found
        return [
            scaled_by_increments(normalizer, stores if together else [store])
            for normalizer, store in zip(found, stores, strict=True)
        ]

    def available(self) -> tuple[Self | None, list[str]]:
        """See TrainingStage; the run on those of its stores that are built."""
        data = tuple(data for data in self.data if data.kind == "online" or data.path.exists())
        return (self.model_copy(update={"data": data}) if data else None), self.missing_stores()


def run(config: PretrainStage) -> Path:
    """Pretrain, or continue where an interrupted run of the same folder was; returns the model's folder."""
    return training_run.run(config)
