"""Equation: the union of all equations that a configuration can name by `kind`."""

from typing import Annotated, get_args

from pydantic import Field

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.physics.allen_cahn import AllenCahnConfig
from pelagos.preprocessing.physics.burgers import BurgersConfig
from pelagos.preprocessing.physics.euler import EulerConfig
from pelagos.preprocessing.physics.gray_scott import GrayScottConfig
from pelagos.preprocessing.physics.kolmogorov import KolmogorovConfig
from pelagos.preprocessing.physics.korteweg_de_vries import KortewegDeVriesConfig
from pelagos.preprocessing.physics.kuramoto_sivashinsky import KuramotoSivashinskyConfig
from pelagos.preprocessing.physics.navier_stokes import NavierStokesConfig
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.physics.shallow_water import ShallowWaterConfig
from pelagos.preprocessing.physics.symmetry import DeclaredSymmetries
from pelagos.preprocessing.physics.wave_equation import WaveConfig
from pelagos.preprocessing.variables import keys

Equation = Annotated[
    NavierStokesConfig
    | KolmogorovConfig
    | BurgersConfig
    | KortewegDeVriesConfig
    | KuramotoSivashinskyConfig
    | GrayScottConfig
    | AllenCahnConfig
    | WaveConfig
    | EulerConfig
    | ShallowWaterConfig,
    Field(discriminator="kind"),
]
"""The configuration of an equation; each has `build() -> PDE`."""


def declared(equation: PDE) -> DeclaredSymmetries:
    """The symmetries of an equation, and what it calls its fields and scalars."""
    fields = keys((*equation.variables, *equation.static_variables))
    return DeclaredSymmetries(equation.symmetries, (*fields, *equation.scalars))


def declared_symmetries(kind: str) -> DeclaredSymmetries:
    """The symmetries of an equation by its kind.

    Raises:
        ConfigError: there is none of this kind.
    """
    configs = {config.model_fields["kind"].default: config for config in get_args(get_args(Equation)[0])}
    if kind not in configs:
        raise ConfigError(f"equation: {kind!r} is none of {', '.join(sorted(configs))}")
    return declared(configs[kind]().build())
