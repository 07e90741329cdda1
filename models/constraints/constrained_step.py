"""Constrained step: the constraints of a model, applied to each forecast step of a dataset.

Shapes: B samples, C channels, H rows, W columns.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from pelagos.models.constraints.band_limited import BandLimited
from pelagos.models.constraints.clearness import Clearness
from pelagos.models.constraints.conserved_mean import ConservedMean
from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import PointWeights
from pelagos.models.constraints.divergence_free import DivergenceFree
from pelagos.models.constraints.driven_sides import DrivenSides
from pelagos.models.constraints.dry_mass import DryMass
from pelagos.models.constraints.energy_budget import EnergyBudget
from pelagos.models.constraints.non_negative import NonNegative
from pelagos.models.constraints.physical_fields import PhysicalFields
from pelagos.models.constraints.shallow_water_energy import ShallowWaterEnergy
from pelagos.models.constraints.water_budget import WaterBudget
from pelagos.models.layers.device_constants import constant
from pelagos.preprocessing.errors import ConfigError

Constraint = Annotated[
    BandLimited
    | DivergenceFree
    | Clearness
    | NonNegative
    | ConservedMean
    | DryMass
    | WaterBudget
    | EnergyBudget
    | ShallowWaterEnergy
    | DrivenSides,
    Field(discriminator="kind"),
]
"""What forecasts obey."""
ORDER = (
    BandLimited,
    DivergenceFree,
    Clearness,
    NonNegative,
    ConservedMean,
    DryMass,
    WaterBudget,
    EnergyBudget,
    ShallowWaterEnergy,
    DrivenSides,
)
"""Each leaves alone what those before it have settled."""


def check_order(constraints: Sequence[Constraint]) -> None:
    """Refuse an order in which one constraint undoes another.

    Raises:
        ValueError: one comes after another that depends on its fields, or moves a field that must stay non-negative;
            or harmonics are kept that end with the sun.
    """
    ranks = [ORDER.index(type(one)) for one in constraints]
    if ranks != sorted(ranks):
        right = ", ".join(one.kind for one in sorted(constraints, key=lambda one: ORDER.index(type(one))))
        raise ValueError(
            f"constraints: a later one would undo an earlier one; {right} is the order that does not"
        )
    clear, floors, limited = (
        {name for one in constraints if isinstance(one, kind) for name in one.needs}
        for kind in (Clearness, NonNegative, BandLimited)
    )
    means = (one for one in constraints if isinstance(one, ConservedMean))
    shifted = {name for one in means if one.correction == "shift" for name in one.variables}
    if both := clear & limited:
        raise ValueError(
            f"constraints: {', '.join(sorted(both))} cannot be band_limited and end where the sun sets: leave out"
            " band_limited or clearness of it"
        )
    if both := clear & shifted:
        raise ValueError(
            f"constraints: a shift would leave {', '.join(sorted(both))} some radiation by night: conserved_mean"
            " needs correction: scale, or leave it or clearness out"
        )
    if both := floors & shifted:
        raise ValueError(
            f"constraints: a shift may take {', '.join(sorted(both))} below zero again: conserved_mean needs"
            " correction: scale"
        )


class ConstrainedStep:
    """The corrections of a dataset's forecast steps.

    Attributes:
        dataset: what the fields are.
        sees_valid_forcing: whether steps need the forcings at the time that they forecast.

    Args:
        constraints: in order.
        dataset: what the fields are.
    """

    def __init__(self, constraints: Sequence[Constraint], dataset: ConstrainedDataset) -> None:
        self.dataset = dataset
        chosen = [one for one in constraints if _applies(one, dataset)]
        self._corrections = [one.build(dataset) for one in chosen if not isinstance(one, DrivenSides)]
        driven = [one.shares(dataset.layout.grid) for one in chosen if isinstance(one, DrivenSides)]
        self._shares = torch.stack(driven).amax(0) if driven else None
        self.sees_valid_forcing = any(isinstance(one, Clearness) for one in chosen)
        self._floors = [
            (channel, one)
            for one in chosen
            if isinstance(one, NonNegative)
            for channel in one.channels(dataset)
        ]

    @property
    def is_empty(self) -> bool:
        """Whether the dataset has none of the constrained fields, and no side that is driven."""
        return not self._corrections and self._shares is None

    @property
    def is_driven(self) -> bool:
        """Whether steps need the fields from outside."""
        return self._shares is not None

    def __call__(
        self,
        before_BCHW: Tensor,
        after_BCHW: Tensor,
        lead_time_B: Tensor,
        mask: Tensor | None = None,
        outside_BPHW: Tensor | None = None,
        valid_BFHW: Tensor | None = None,
    ) -> Tensor:
        """(B, C', H, W) the normalised fields after a step, corrected; float32 at least.

        Args:
            before_BCHW: the normalised input channels of the step.
            after_BCHW: the network's output.
            lead_time_B: of the step.
            mask: (B, C', H, W), False at points without values, whose area does not count.
            outside_BPHW: the prognostic fields that are given at the sides, normalised; NaN where they are missing.
            valid_BFHW: the forcings at the time that is forecast, normalised.
        """
        if self.is_empty:
            return after_BCHW
        if after_BCHW.dtype not in (torch.float32, torch.float64):
            after_BCHW = after_BCHW.float()
        assert valid_BFHW is not None or not self.sees_valid_forcing, "forcings at the valid time are needed"
        if valid_BFHW is not None:
            before_BCHW = torch.cat([before_BCHW, valid_BFHW], 1)
        before = PhysicalFields(before_BCHW, self.dataset.inputs)
        after = PhysicalFields(after_BCHW, self.dataset.outputs)
        duration_B = lead_time_B * self.dataset.layout.time_scale
        weights = PointWeights(constant(self.dataset.area, after_BCHW.device, torch.float64), mask)
        for correct in self._corrections:
            correct(before, after, duration_B, weights)
        return self._driven(self._above_floors(after.normalized()), outside_BPHW)

    def _driven(self, y_BCHW: Tensor, outside_BPHW: Tensor | None) -> Tensor:
        """The fields with what is given at the sides; prognostic channels come first."""
        if self._shares is None:
            return y_BCHW
        assert outside_BPHW is not None, "driven sides need fields from outside"
        own_BPHW, rest = y_BCHW.tensor_split((outside_BPHW.shape[1],), 1)
        shares_HW = constant(self._shares, y_BCHW.device, y_BCHW.dtype)
        given_BPHW = torch.where(outside_BPHW.isfinite(), outside_BPHW, own_BPHW)
        return torch.cat([torch.lerp(own_BPHW, given_BPHW, shares_HW), rest], 1)

    def _above_floors(self, y_BCHW: Tensor) -> Tensor:
        """Values that rounding has brought below their threshold, by the last digit, lifted to it."""
        if not self._floors:
            return y_BCHW
        floor_C = [-torch.inf] * y_BCHW.shape[1]
        for channel, one in self._floors:
            floor_C[channel.position] = max(floor_C[channel.position], one.floor(channel, y_BCHW.dtype))
        return torch.maximum(y_BCHW, y_BCHW.new_tensor(floor_C)[:, None, None])


def check_use(constraints: Sequence[Constraint], datasets: Sequence[ConstrainedDataset]) -> None:
    """Refuse constraints on fields that no dataset has.

    Raises:
        ConfigError: one of them would do nothing.
    """
    for one in constraints:
        if any(_applies(one, dataset) for dataset in datasets):
            continue
        if isinstance(one, DrivenSides):
            raise ConfigError(
                "constraints: driven_sides: no dataset has an open side; poles, walls and sides that go round are not"
            )
        known = sorted({key for dataset in datasets for key in dataset.outputs})
        raise ConfigError(
            f"constraints: {one.kind}: no dataset forecasts {' or '.join(one.needs)}; there are"
            f" {', '.join(known)}"
        )


def unknown_names(constraints: Sequence[Constraint], datasets: Sequence[ConstrainedDataset]) -> list[str]:
    """The variables that a constraint names beside others and no dataset has, each after the constraint's kind."""
    return [
        f"{one.kind}: {name}"
        for one in constraints
        if not isinstance(one, DrivenSides)
        for name in dict.fromkeys(one.needs)
        if not any(dataset.has(name) for dataset in datasets)
    ]


def _applies(one: Constraint, dataset: ConstrainedDataset) -> bool:
    """Whether a dataset has something that the constraint is about."""
    if isinstance(one, DrivenSides):
        return bool(one.shares(dataset.layout.grid).any())
    return dataset.has(*one.needs)
