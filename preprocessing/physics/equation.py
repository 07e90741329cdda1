"""Equation: the union of all equations that a configuration can name by `kind`."""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter, ValidationError

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


def stated_equation(stated: str | Mapping[str, Any]) -> Equation:
    """The configuration of an equation that is stated by its kind, for the defaults, or as a whole.

    Raises:
        ConfigError: there is none of this kind, or what is stated is not a configuration of it.
    """
    if isinstance(stated, str):
        configs = {config.model_fields["kind"].default: config for config in get_args(get_args(Equation)[0])}
        if stated not in configs:
            raise ConfigError(f"equation: {stated!r} is none of {', '.join(sorted(configs))}")
        found: Equation = configs[stated]()
        return found
    try:
        return _ADAPTER.validate_python(stated)
    except ValidationError as error:
        # The first part of a place is the kind, by which pydantic tells the forms apart.
        faults = [": ".join([*map(str, one["loc"][1:]), one["msg"]]) for one in error.errors()]
        raise ConfigError(f"equation: {'; '.join(faults)}") from None


_ADAPTER: TypeAdapter[Equation] = TypeAdapter(Equation)
