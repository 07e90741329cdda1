"""Equation: the union of all equations that a configuration can name by `kind`."""

from typing import Annotated

from pydantic import Field

from pelagos.preprocessing.physics.allen_cahn import AllenCahnConfig
from pelagos.preprocessing.physics.euler import EulerConfig
from pelagos.preprocessing.physics.gray_scott import GrayScottConfig
from pelagos.preprocessing.physics.kolmogorov import KolmogorovConfig
from pelagos.preprocessing.physics.navier_stokes import NavierStokesConfig
from pelagos.preprocessing.physics.wave_equation import WaveConfig

Equation = Annotated[
    NavierStokesConfig | KolmogorovConfig | GrayScottConfig | AllenCahnConfig | WaveConfig | EulerConfig,
    Field(discriminator="kind"),
]
"""The configuration of an equation; each has `build() -> PDE`."""
