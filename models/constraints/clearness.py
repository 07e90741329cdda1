"""Clearness: radiation as the share of the sun's that comes through the air, which clouds change and the hour does not.

What a network adds to the flux counts as a change of its clearness k, and k times the insolation at the valid time is
the forecast: none by night, and the same clouds an hour later let as much through of more or less sun. Forecasts of
solar power are judged by the same ratio.

Source: Iqbal, An Introduction to Solar Radiation (1983), section 11.2, where k is the hourly clearness index.

Shapes: B samples, H rows, W columns.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.physical_fields import PhysicalFields, levels_of
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities.units import parse_unit
from pelagos.preprocessing.variables import Variable

_NIGHT = 1e-5  # of the mean insolation, which single precision may leave of a zero


class Clearness(Config):
    """Downward fluxes of the sun's radiation are the insolation at the valid time, times a clearness.

    The clearness is that before the step, or where the sun is low or the flux no input the mean one, plus what the
    network adds to the flux over the mean insolation. So no change is persistence of the clouds.

    Attributes:
        variables: names of the fluxes, for all of their levels, or keys.
        insolation: the forcing that is the sun's radiation at the top of the atmosphere, over the time that the fluxes
            are means of: `insolation` of those at a moment, `mean_insolation` and `mean_insolation_ahead` of those
            over the time before and after.
        low: insolation below which a flux does not say how clear it is, in the forcing's units.
    """

    kind: Literal["clearness"] = "clearness"
    variables: tuple[str, ...] = Field(min_length=1)
    insolation: str = "mean_insolation"
    low: float = Field(default=10.0, gt=0)

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without one of which a dataset has nothing to constrain."""
        return self.variables

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset, which has some of the variables.

        Raises:
            ConfigError: the network does not see the insolation at the valid time, it is zero throughout, or a flux is
                stored as a function of itself, or in units of something else.
        """
        outputs = [channel for name in self.variables for channel in levels_of(name, dataset.outputs)]
        now, valid = dataset.forcing(self.insolation, self.kind)
        if transformed := [one.variable.key for one in outputs if one.variable.transform is not None]:
            raise ConfigError(
                f"constraints: {self.kind}: {transformed[0]} of {dataset.layout.dataset} is stored as"
                " a function of it: clearness takes the place of a transform; build without one"
            )
        for channel in outputs:
            self._check_units(channel.variable, now.variable)
        usual = now.mean
        if usual <= 0:
            raise ConfigError(
                f"constraints: {self.kind}: the mean of {self.insolation} in {dataset.layout.dataset} is {usual:g}:"
                " radiation of the sun would be above 0"
            )

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            sun_BHW, ahead_BHW = before.read(now), before.read(valid)
            ahead_BHW = ahead_BHW.where(ahead_BHW > _NIGHT * usual, 0.0)
            for channel in outputs:
                clear_BHW, mean = after.read(channel) / usual, channel.mean / usual
                if known := dataset.inputs.get(channel.variable.key):
                    flux_BHW, low_BHW = before.read(known), sun_BHW < self.low
                    # Divided by 1 where the quotient is not used: 0 / 0 would have no gradient.
                    share_BHW = flux_BHW / sun_BHW.where(~low_BHW, 1.0)
                    clear_BHW = clear_BHW - flux_BHW / usual + share_BHW.where(~low_BHW, mean)
                after.write(channel, clear_BHW * ahead_BHW)

        return correct

    def _check_units(self, flux: Variable, sun: Variable) -> None:
        """Refuse a flux that is neither radiation nor its sum over a step."""
        try:
            own, *right = (parse_unit(one).dimension for one in (flux.units, sun.units, f"{sun.units} s"))
        except ConfigError as error:
            raise ConfigError(f"constraints: {self.kind}: {flux.key}, {sun.key}: {error}") from error
        if own not in right:
            raise ConfigError(
                f"constraints: {self.kind}: {flux.key} is in {flux.units} and {sun.key} in {sun.units}: both as"
                " radiation (W m-2), or the flux as its sum over each step (J m-2), would be right"
            )
