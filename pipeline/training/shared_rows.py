"""Shared rows: several processes train on a sample together, each on some of its rows."""

from collections.abc import Mapping

from torch import nn

from pelagos.models.layers.row_layout import RowLayout, RowSharing, dealt_rows
from pelagos.pipeline.engine.row_processes import row_processes
from pelagos.pipeline.runs.model_folder import Model
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.samples.dataset import Dataset
from pelagos.preprocessing.samples.mixture import Mixture


def share_rows(model: Model, mixture: Mixture, domain: int) -> Mapping[str, RowLayout]:
    """The layout of each dataset's rows over so many processes; its samples have this process's alone from now on.

    Empty where each process has samples of its own.

    Raises:
        ConfigError: see `shared_units`.
    """
    if domain == 1:
        return {}
    units, group = shared_units(model, mixture, domain), row_processes(domain)
    layouts = {}
    for dataset in mixture.datasets:
        name = dataset.layout.dataset
        layouts[name] = dealt_rows(dataset.layout.grid.shape[0], units[name], group)
        dataset.share(layouts[name].own)
    return layouts


def shared_units(model: Model, mixture: Mixture, domain: int) -> Mapping[str, int]:
    """How many rows of each dataset are dealt together.

    Raises:
        ConfigError: the network, a grid or a constraint cannot be shared by so many processes.
    """
    if domain > 1 and model.constraints:
        kinds = ", ".join(one.kind for one in model.constraints)
        raise ConfigError(
            f"engine.domain: {domain} processes cannot share samples under constraints ({kinds}), which look at all"
            " rows; engine.domain: 1 is right"
        )
    return {dataset.layout.dataset: _unit(model.network, dataset, domain) for dataset in mixture.datasets}


def _unit(network: nn.Module, dataset: Dataset, domain: int) -> int:
    if domain == 1:
        return 1
    if not isinstance(network, RowSharing):
        raise ConfigError(
            f"engine.domain: {domain} processes cannot share a sample of a {type(network).__name__}: the networks scot"
            " and wxformer can be shared; engine.domain: 1 is right for others"
        )
    height, width = dataset.layout.grid.shape
    try:
        return network.shared_unit((height, width), domain)
    except ConfigError as error:
        raise ConfigError(
            f"engine.domain: {domain} processes cannot share the grid of {dataset.layout.dataset}, {height} x {width}:"
            f" {error}"
        ) from error
