"""A model with fresh weights that knows a store, for tests and benchmarks of what models are used for."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

import torch
from torch import nn

from pelagos.models.context import Signature
from pelagos.models.networks.network import NetworkConfig
from pelagos.models.networks.unet import UNetConfig
from pelagos.pipeline.runs.model_folder import Domain, Model, VariableScale
from pelagos.pipeline.runs.trained_grid import TrainedGrid
from pelagos.preprocessing.store.store import Store
from pelagos.preprocessing.variables import Variable, keys


def fresh_model(
    store: Store,
    config: NetworkConfig,
    network: nn.Module | None = None,
    *,
    names: Collection[str] = (),
    leads: Mapping[str, float] = MappingProxyType({}),
) -> Model:
    """A model of a store's fields, in unscaled values.

    Args:
        store: that it knows.
        config: of its network.
        network: in place of the one that the configuration builds.
        names: the keys of the variables that it knows; all by default.
        leads: `min_lead`, `max_lead` and `horizon` of its training.
    """

    def known(*roles: str) -> tuple[Variable, ...]:
        variables = (*store.variables, *store.static_variables)
        return tuple(one for one in variables if one.role in roles and (not names or one.key in names))

    inputs = (*known("prognostic"), *known("static"), *known("forcing"))
    outputs = known("prognostic", "diagnostic")
    domain = Domain(
        inputs=inputs,
        outputs=outputs,
        scales={key: VariableScale(mean=0.0, std=1.0) for key in keys((*inputs, *outputs))},
        time_scale=store.dt,
        time_units=store.time_units,
        grid=TrainedGrid.of(store.grid),
        **leads,
    )
    signature = Signature(keys(inputs), keys(outputs), shape=store.grid.shape)
    torch.manual_seed(0)
    return Model(config, (network or config.build(signature)).eval(), signature, {store.dataset: domain})


SMALL = UNetConfig(dims=(8, 16), depth=1, kernel=3)
"""A network for fields of a few points."""
