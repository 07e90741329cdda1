"""Parameter parts: what each weight does in a network, and the learning rate that it is given for that."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal, get_args

from torch import nn

from pelagos.models.layers.conditioning import ConditionalLayerNorm
from pelagos.models.layers.low_rank import is_adapter
from pelagos.models.layers.network_layers import layer_numbers, layers_of
from pelagos.models.networks.credit.crossformer import ChannelNorm, PositionBias
from pelagos.models.networks.credit.swin import CosineAttention
from pelagos.models.networks.fourier.fno import ConditionalScale
from pelagos.models.networks.scot.attention import OffsetNetwork
from pelagos.preprocessing.errors import ConfigError

Part = Literal["embedding", "recovery", "last", "norm", "adapter", "body"]
PARTS: tuple[Part, ...] = get_args(Part)
_NORMS = (
    ConditionalLayerNorm,
    ConditionalScale,
    ChannelNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._BatchNorm,
)


def norm_weights(network: nn.Module) -> set[nn.Parameter]:
    """The weights of norms and of what conditions them."""
    return {p for module in network.modules() if isinstance(module, _NORMS) for p in module.parameters()}


def body_matrices(network: nn.Module) -> set[nn.Parameter]:
    """The weights of linear layers in a network's body, without those that make position biases."""
    # A layer with a spectral norm divides what it keeps under another name.
    linear = {
        layer._parameters.get(key)
        for layer in network.modules()
        if isinstance(layer, nn.Linear)
        for key in ("weight", "weight_orig")
    }
    linear -= _position_bias_weights(network)
    parts = ParameterParts(network).parts
    return {p for name, p in network.named_parameters() if p in linear and parts[name] in ("body", "last")}


def _position_bias_weights(network: nn.Module) -> set[nn.Parameter]:
    makers: list[nn.Module] = [m for m in network.modules() if isinstance(m, OffsetNetwork | PositionBias)]
    makers += [m.cpb_mlp for m in network.modules() if isinstance(m, CosineAttention)]
    return {weight for maker in makers for weight in maker.parameters()}


class ParameterParts:
    """What each weight of a network does in it.

    Attributes:
        parts: what each weight does, by its name.
        numbers: the layer of each weight, by its name; empty where the network does not tell its layers.
        last: the number of the last layer.
    """

    def __init__(self, network: nn.Module) -> None:
        """Find the parts of a network."""
        names, layers = [name for name, _ in network.named_parameters()], layers_of(network)
        self._kind, self._layered = type(network).__name__, layers is not None
        self.last = 0 if layers is None else len(layers) - 1
        self.numbers = {} if layers is None else layer_numbers(layers, names)
        norms = norm_weights(network)
        self.parts = {name: self._part(name, p in norms) for name, p in network.named_parameters()}

    def meant_by(self, key: str) -> set[str]:
        """The names of the weights that a part, or a pattern of names, stands for."""
        return {name for name, part in self.parts.items() if fnmatchcase(part if key in PARTS else name, key)}

    def check(self, key: str, option: str) -> None:
        """Refuse a part or pattern that stands for no weight.

        Raises:
            ConfigError: it does, or the network does not tell its layers, which the part is about.
        """
        if key in ("embedding", "recovery", "last"):
            self.check_layered(f"{option}{key}")
        if not self.meant_by(key):
            begins = ", ".join(dict.fromkeys(f"{name.partition('.')[0]}.*" for name in self.parts))
            raise ConfigError(
                f"{option}{key}: a {self._kind} has no such weights; parts are"
                f" {', '.join(dict.fromkeys(self.parts.values()))}, and names match {begins}"
            )

    def check_layered(self, option: str) -> None:
        """Refuse an option that needs the order of the layers.

        Raises:
            ConfigError: the network does not tell it.
        """
        if not self._layered:
            raise ConfigError(
                f"{option}: a {self._kind} does not tell the order of its layers: choose its weights by patterns of"
                " their names, such as 'head.*', or give it a method layer_names()"
            )

    def _part(self, name: str, norm: bool) -> Part:
        number = self.numbers.get(name)
        if is_adapter(name):
            return "adapter"
        if number == 0 or (number == self.last and number is not None):
            return "embedding" if number == 0 else "recovery"
        if norm or "norm" in name:
            return "norm"
        return "last" if number is not None and number == self.last - 1 else "body"


class PartRates:
    """The learning rates of the weights of a network, where some of its parts have their own.

    Attributes:
        parts: what each weight does, by its name.
    """

    def __init__(
        self, network: nn.Module, chosen: Mapping[str, float | Literal["frozen"]], layer_decay: float
    ) -> None:
        """Find the parts of a network.

        Args:
            network: whose weights are trained.
            chosen: the rate of a part, or of weights by a pattern of their names.
            layer_decay: the factor from each layer to the one before it.

        Raises:
            ConfigError: no weight is meant by one of these, or the network does not tell its layers.
        """
        self._chosen, self._decay, self._known = dict(chosen), layer_decay, ParameterParts(network)
        self.parts = self._known.parts
        for key in self._chosen:
            self._known.check(key, "optimizer.parts.")
        if layer_decay < 1:
            self._known.check_layered("optimizer.layer_decay")

    def rate(self, name: str, default: float) -> float:
        """The rate of a weight whose part has none of its own; 0 where it is frozen."""
        patterns = [key for key in self._chosen if key not in PARTS and fnmatchcase(name, key)]
        key = patterns[-1] if patterns else self.parts[name]
        chosen = self._chosen.get(key)
        if chosen is None:
            last = self._known.last
            return default * self._decay ** (last - self._known.numbers.get(name, last))
        return 0.0 if chosen == "frozen" else chosen
