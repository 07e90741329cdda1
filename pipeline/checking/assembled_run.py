"""Assembled run: a training run as it is before its first step."""

from dataclasses import dataclass

from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.training.network_cost import NetworkCost
from pelagos.pipeline.training.optimizer import ParameterGroup
from pelagos.preprocessing.samples.mixture import Mixture


@dataclass(frozen=True)
class AssembledRun:
    """What a check looks at.

    Attributes:
        model: its network may be on the meta device.
        mixture: the samples, which the caller closes.
        cost: of the network on each dataset.
        groups: of the optimiser, and what is frozen.
        opening: what the run says before its first step.
    """

    model: Model
    mixture: Mixture
    cost: NetworkCost
    groups: tuple[ParameterGroup, ...]
    opening: tuple[str, ...]
