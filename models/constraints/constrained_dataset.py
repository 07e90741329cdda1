"""Constrained dataset: what a constraint is built for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pelagos.models.constraints.physical_fields import Channel, Channels, Scale, channels_of, levels_of
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.layout import Layout, input_channels
from pelagos.preprocessing.variables import at_valid_time, with_role


@dataclass(frozen=True, eq=False)
class ConstrainedDataset:
    """The channels and the grid of a dataset, and how its samples are scaled.

    Attributes:
        layout: what the channels are.
        scales: by key of variable.
        time_units: of lead times.
        level_units: of levels; empty where there are none.
    """

    layout: Layout
    scales: Mapping[str, Scale]
    time_units: str = ""
    level_units: str = ""

    @cached_property
    def inputs(self) -> Channels:
        """The input channels of the initial frame, then forcings at the valid time where the network sees them."""
        variables = input_channels(self.layout.inputs, (), sees_valid_forcing=self.layout.sees_valid_forcing)
        # A forcing has the same scale at all times.
        ahead = {at_valid_time(one).key: one.key for one in with_role(self.layout.inputs, "forcing")}
        scales = {key: self.scales[name] for key, name in ahead.items() if name in self.scales}
        return channels_of(variables, {**self.scales, **scales})

    @cached_property
    def outputs(self) -> Channels:
        """The output channels."""
        return channels_of(self.layout.outputs, self.scales)

    @cached_property
    def area(self) -> Tensor:
        """(H, W) the share of each cell in the area of all; float64."""
        area = self.layout.grid.area_weights()
        return torch.from_numpy(np.asarray(area / area.sum()))

    def check_global(self, kind: str) -> None:
        """Refuse the budget of a region, through whose sides mass and energy pass.

        Raises:
            ConfigError: the grid does not cover the whole sphere.
        """
        if not self.layout.grid.whole_sphere:
            raise ConfigError(
                f"constraints: {kind} is a budget of the whole sphere, and the grid of {self.layout.dataset} covers a"
                " part of it, or is not known to go round: leave the constraint out there"
            )

    def has(self, *names: str) -> bool:
        """Whether a field of one of these names is forecast."""
        return any(levels_of(name, self.outputs) for name in names)

    def levels(self, name: str, kind: str, where: Literal["inputs", "outputs"] = "outputs") -> list[Channel]:
        """The channels of a field, downwards.

        Raises:
            ConfigError: it is not there.
        """
        channels = self.outputs if where == "outputs" else self.inputs
        found = levels_of(name, channels)
        if not found:
            raise ConfigError(
                f"constraints: {kind} needs {name} among the {where} of {self.layout.dataset}, which are"
                f" {', '.join(channels)}"
            )
        return found

    def vectors(self, names: Iterable[tuple[str, str]], kind: str) -> list[tuple[Channel, Channel]]:
        """The two components of vector fields at each of their levels; raises as `levels`."""
        return [
            pair
            for first, second in names
            for pair in zip(self.levels(first, kind), self.levels(second, kind), strict=True)
        ]

    def single(self, name: str, kind: str, where: Literal["inputs", "outputs"] = "outputs") -> Channel:
        """The only channel of a field; raises as `levels`, and where there are several."""
        found = self.levels(name, kind, where)
        if len(found) > 1:
            raise ConfigError(
                f"constraints: {kind} needs one field {name}; {self.layout.dataset} has it at {len(found)} levels: name"
                f" one, such as {found[-1].variable.key}"
            )
        return found[0]

    def forcing(self, name: str, kind: str) -> tuple[Channel, Channel]:
        """The channels of a forcing before a step and at the time that is forecast.

        Raises:
            ConfigError: it is no forcing of the dataset, or the network does not see it at the valid time.
        """
        forcings = {one.key: at_valid_time(one).key for one in with_role(self.layout.inputs, "forcing")}
        if name not in forcings:
            raise ConfigError(
                f"constraints: {kind} needs {name} among the forcings of {self.layout.dataset}, which are"
                f" {', '.join(forcings) or 'none'} (forcings, in the build)"
            )
        if not self.layout.sees_valid_forcing:
            raise ConfigError(
                f"constraints: {kind} needs {name} at the time that is forecast: valid_forcing: true, in data"
            )
        return self.inputs[name], self.inputs[forcings[name]]
