"""LoRA: fine-tuning by low-rank adapters, of which nothing is left in the published model."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from pelagos.models.layers.low_rank import add_adapters
from pelagos.pipeline.training.parameter_parts import ParameterParts
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError


class LoraConfig(Config):
    """Low-rank adapters (arXiv 2106.09685), trained in place of the weights that they are added to.

    Attributes:
        rank: of what is added to a weight.
        alpha: the factor of what is added, times the rank.
        layers: which get adapters: those of `attention`, of an `mlp`, or linear ones by a pattern of their names.
    """

    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    layers: tuple[str, ...] = Field(default=("attention", "mlp"), min_length=1)

    def apply(self, network: nn.Module) -> None:
        """Add adapters to a network and freeze its body, in place.

        What reads and writes variables goes on learning, as do norms: they are small, and may be new.

        Raises:
            ConfigError: it has no such layers.
        """
        add_adapters(network, self.layers, self.rank, self.alpha)
        parts = ParameterParts(network).parts
        for name, parameter in network.named_parameters():
            if parts[name] in ("body", "last"):
                parameter.requires_grad_(False)

    def check_rates(self, network: nn.Module, chosen: Mapping[str, float | Literal["frozen"]]) -> None:
        """Refuse rates that no weight is left to learn with.

        Args:
            network: with its adapters.
            chosen: `optimizer.parts`.

        Raises:
            ConfigError: the adapters have frozen all the weights that a rate is for.
        """
        parts = ParameterParts(network)
        learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        for key, rate in chosen.items():
            meant = parts.meant_by(key)
            if rate != "frozen" and meant and not meant & learning:
                raise ConfigError(
                    f"optimizer.parts.{key}: {rate:g} is for weights that lora freezes; leave it out: the rate of"
                    " adapters is optimizer.parts.adapter"
                )
