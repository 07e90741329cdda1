"""Inherited weights: what a network takes over from the model that it is adapted from, and what begins afresh."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self, cast

from torch import nn

from pelagos.models.adapt import Adaptable, Adaptation, adapt, copied_kinds
from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import AxisKind
from pelagos.pipeline.runs.model_folder import Model
from pelagos.pipeline.training.optimizer import ParameterGroup
from pelagos.pipeline.training.parameter_parts import ParameterParts
from pelagos.preprocessing.errors import ConfigError, DataError


@dataclass(frozen=True)
class FreshParts:
    """The parts of a network that begin from fresh weights because somebody asked for it.

    Attributes:
        keys: parts, and patterns of names, as the configuration has them.
        names: of their weights, and of the buffers beside these.
        kinds: what has slices in these weights alone: variables that are input or output, or parameters.
    """

    keys: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    kinds: frozenset[AxisKind] = frozenset()

    @classmethod
    def of(cls, network: nn.Module, keys: tuple[str, ...]) -> Self:
        """Find them in a network.

        Raises:
            ConfigError: a key stands for no weight of it.
        """
        if not keys:
            return cls()
        parts = ParameterParts(network)
        for key in keys:
            parts.check(key, "fresh: ")
        names = _fresh_names(network, keys)
        return cls(keys, names, frozenset(_fresh_kinds(network, keys, names)))

    def weights(self, network: nn.Module) -> dict[str, nn.Parameter]:
        """The weights of the network they were found in that can learn, by their names there."""
        return {
            name: weight
            for name, weight in network.named_parameters()
            if name in self.names and weight.requires_grad
        }

    def check_trained(self, weights: Mapping[str, nn.Parameter], groups: Iterable[ParameterGroup]) -> None:
        """Refuse weights that would be published as they were drawn.

        Args:
            weights: of `weights`, before adapters were added, which freeze some and change their names.
            groups: of the optimiser of the network as it is trained.

        Raises:
            ConfigError: some of them are frozen.
        """
        if lost := _frozen(weights, groups):
            raise ConfigError(
                f"fresh: of {', '.join(self.keys)}, {lost[0]} would stay as it was drawn: {_by(weights[lost[0]])}"
                f" freezes it, and {len(lost)} of {len(weights)} fresh weights in all; let them learn, or leave them"
                " out of fresh"
            )

    def __str__(self) -> str:
        return f"{', '.join(self.keys)} (asked for)"


def inherit(source: Model, network: nn.Module, signature: Signature, fresh: FreshParts) -> Adaptation | None:
    """Give a network the model's weights; None where its variables are the model's.

    Raises:
        DataError: there are new variables, and the network does not take any; says why.
    """
    # What is fresh in the network is left out of the model, though it may have other names there.
    left = _fresh_names(source.network, fresh.keys)
    known = {name: weight for name, weight in source.network.state_dict().items() if name not in left}
    if signature == source.signature:
        own = {name: weight for name, weight in network.state_dict().items() if name in fresh.names}
        network.load_state_dict(known | own)
        return None
    if not hasattr(network, "named_axes"):
        new = {*signature.inputs, *signature.outputs, *signature.scalars}
        old = {*source.signature.inputs, *source.signature.outputs, *source.signature.scalars}
        raise DataError(
            f"a {type(network).__name__} does not tell which of its weights belong to which variable, and cannot take"
            f" {', '.join(sorted(new - old))} in addition: give it a method named_axes(), as of"
            " pelagos.models.adapt.Adaptable, or use scratch: true"
        )
    state, adaptation = adapt(known, source.signature, cast(Adaptable, network), fresh.names)
    network.load_state_dict(state)
    return adaptation


@dataclass(frozen=True)
class NewSlices:
    """What a network has for variables and parameters that the model did not know.

    Attributes:
        weights: that have such slices, by their names before adapters were added.
        owners: the first of the new variables and parameters that has a slice, by the name of the weight.
    """

    weights: Mapping[str, nn.Parameter] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, network: nn.Module, adaptation: Adaptation | None) -> Self:
        """Find them in a network; there are none where its variables are the model's."""
        if adaptation is None or not adaptation.fresh:
            return cls()
        owners = dict[str, str]()
        for name, axes in cast(Adaptable, network).named_axes().items():
            kinds = copied_kinds({name: axes}, frozenset())
            own = [owner for owner in adaptation.fresh if owner.partition(" ")[0] in kinds]
            owners |= {name: own[0]} if own else {}
        return cls({name: weight for name, weight in network.named_parameters() if name in owners}, owners)

    def check_trained(self, groups: Iterable[ParameterGroup]) -> None:
        """Refuse slices that would be published as they were drawn.

        Args:
            groups: of the optimiser of the network as it is trained.

        Raises:
            ConfigError: some of them are frozen.
        """
        if lost := _frozen(self.weights, groups):
            raise ConfigError(
                f"{self.owners[lost[0]]} is new to the model, and {lost[0]}, which has a part for it, would stay as it"
                f" was drawn: {_by(self.weights[lost[0]])} freezes it; let it learn, or leave the variable out"
            )


def _frozen(weights: Mapping[str, nn.Parameter], groups: Iterable[ParameterGroup]) -> list[str]:
    # By identity: a weight stays the same object under the name that its adapter gives it.
    frozen = {id(one) for group in groups if not group.rate for one in group.parameters.values()}
    return [name for name, weight in weights.items() if id(weight) in frozen]


def _by(weight: nn.Parameter) -> str:
    return "optimizer.parts" if weight.requires_grad else "lora"


def _fresh_names(network: nn.Module, keys: tuple[str, ...]) -> frozenset[str]:
    if not keys:
        return frozenset()
    parts = ParameterParts(network)
    chosen = {name for key in keys for name in parts.meant_by(key)}
    modules = {name.rpartition(".")[0] for name in chosen}
    # Buffers (running means, singular vectors) belong to the weights of their module.
    buffers = {name for name in network.state_dict() if name not in parts.parts}
    return frozenset(chosen | {name for name in buffers if name.rpartition(".")[0] in modules})


def _fresh_kinds(network: nn.Module, keys: tuple[str, ...], names: frozenset[str]) -> set[AxisKind]:
    ends: dict[str, AxisKind] = {"embedding": "input", "recovery": "output"}
    by_part = {ends[key] for key in keys if key in ends}
    if not hasattr(network, "named_axes"):
        return by_part
    try:
        axes = cast(Adaptable, network).named_axes()
    except DataError:  # a form with fixed variables, whose weights have no slices
        return by_part
    return copied_kinds(axes, frozenset()) - copied_kinds(axes, names)
