"""Energy budget: what the atmosphere gains of energy is what passes its top and the surface.

Source: NCAR/miles-credit's global energy fixer, in whose notation e = c_p T + L_v q + Phi_s + (u^2 + v^2) / 2.

Shapes: B samples, L levels, H rows, W columns.
"""

from typing import Literal

import torch
from torch import Tensor

from pelagos.models.constraints.constrained_dataset import ConstrainedDataset
from pelagos.models.constraints.constraint import Correction, PointWeights
from pelagos.models.constraints.physical_fields import PhysicalFields
from pelagos.models.constraints.surface_flux import SurfaceFlux
from pelagos.models.constraints.vertical import PressureLevels, Vertical
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError

DRY_AIR, VAPOUR = 1004.64, 1810.0
"""Specific heats at constant pressure [J kg-1 K-1], as in CREDIT."""
LATENT_HEAT = 2.501e6
"""Of vaporisation [J kg-1], as in CREDIT."""


class EnergyBudget(Config):
    """Global means: change of the column's energy = what comes in through the top - what goes out through the surface.

    Energy is multiplied by one number, and temperature solved for. Without fluxes the energy stays what it was.

    Attributes:
        vertical: the kind of levels.
        temperature: in a unit of temperature.
        humidity: the specific humidity.
        wind: its components.
        surface_geopotential: a static field.
        top: net fluxes at the top of the atmosphere, positive downwards, which are added up.
        surface: net fluxes at the surface, of radiation and heat, positive downwards as in ERA5.
    """

    kind: Literal["energy"] = "energy"
    vertical: Vertical = PressureLevels()
    temperature: str = "temperature"
    humidity: str = "specific_humidity"
    wind: tuple[str, str] = ("u_component_of_wind", "v_component_of_wind")
    surface_geopotential: str = "geopotential_at_surface"
    top: tuple[str, ...] = ()
    surface: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields without one of which a dataset has nothing to constrain."""
        return (self.temperature,)

    def build(self, dataset: ConstrainedDataset) -> Correction:
        """The correction for a dataset; raises ConfigError where it lacks a field or is not global."""
        dataset.check_global(self.kind)
        names = (self.temperature, self.humidity, *self.wind)
        fields = [dataset.levels(name, self.kind) for name in names]
        for name in names:
            dataset.levels(name, self.kind, "inputs")
        temperature, humidity, *wind = fields
        levels = [channel.variable.level for channel in temperature]
        for name, channels in zip(names, fields, strict=True):
            if [channel.variable.level for channel in channels] != levels:
                raise ConfigError(f"constraints: energy: {name} is not at the levels of {self.temperature}")
        orography = dataset.single(self.surface_geopotential, self.kind, "inputs")
        column = self.vertical.build(dataset, temperature, self.kind)
        incoming = [
            (sign, SurfaceFlux.of(dataset, name, self.kind, "J m-2"))
            for sign, names in ((1.0, self.top), (-1.0, self.surface))
            for name in names
        ]

        def others(state: PhysicalFields, before: PhysicalFields) -> tuple[Tensor, Tensor]:
            """The heat capacity, and the energy that is not heat; (B, L, H, W)."""
            q_BLHW = state.profile(humidity, "1")
            kinetic = torch.stack([state.profile(part, "m s-1") ** 2 for part in wind]).sum(0) / 2
            # The ground is where it was: a static field is known of the time before alone.
            ground_B1HW = before.read(orography, "m2 s-2")[:, None]
            return (1 - q_BLHW) * DRY_AIR + q_BLHW * VAPOUR, LATENT_HEAT * q_BLHW + ground_B1HW + kinetic

        def correct(
            before: PhysicalFields, after: PhysicalFields, duration_B: Tensor, weights: PointWeights
        ) -> None:
            def total(energy_BLHW: Tensor, state: PhysicalFields) -> Tensor:
                return weights.mean((energy_BLHW * column.masses(state)).sum(1), temperature)

            capacity0, rest0 = others(before, before)
            wanted = total(capacity0 * before.profile(temperature, "K") + rest0, before)
            for sign, flux in incoming:
                wanted = wanted + sign * weights.mean(flux.read(after, duration_B), [flux.channel])
            capacity, rest = others(after, before)
            heated_BLHW = after.profile(temperature, "K")
            energy_BLHW = capacity * heated_BLHW + rest
            found = total(energy_BLHW, after)
            # T = (c E - rest) / c_p, written as a change of T, which cancels less.
            change_BLHW = energy_BLHW * ((wanted - found) / found)[:, None] / capacity
            after.write_profile(temperature, heated_BLHW + change_BLHW, "K")

        return correct
