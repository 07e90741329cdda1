"""Variable: one physical field, identified by its key wherever networks, stores and scores refer to it."""

import re
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.transform import Transform

Role = Literal["prognostic", "static", "forcing", "diagnostic"]
TensorKind = Literal["scalar", "pseudoscalar", "vector_x", "vector_y"]
"""How a field goes with a reflection of the plane: unchanged, with the other sign, or as a component of a vector."""


class Variable(Config):
    """One scalar field of a dataset.

    Roles: a *prognostic* field is both input and output; a *static* field does not depend on
    time and is input only; a *forcing* depends on time, is known in advance and is input only;
    a *diagnostic* field is output only.

    Attributes:
        name: the name in KNOWN where the field is listed there (`velocity_x`), otherwise the archive's own.
        units: units of the physical values in the spelling of UDUNITS; "1" for a dimensionless field.
        level: height, pressure, or position of a plane of a 3-D field; absent for a field on a single surface.
        role: how samples use the field.
        group: fields of one group are scored together, such as the components of a vector.
        long_name: description for people.
        transform: function of the physical values that is stored and learnt instead of them.
    """

    name: str = Field(min_length=1)
    units: str = "1"
    level: float | None = None
    role: Role = "prognostic"
    group: str = ""
    long_name: str = ""
    transform: Transform | None = None

    @property
    def key(self) -> str:
        """The name by which datasets and networks identify this variable.

        >>> Variable(name="geopotential", level=500).key
        'geopotential@500'
        """
        return self.name if self.level is None else f"{self.name}@{self.level:g}"

    @property
    def score_group(self) -> str:
        """The group in which the variable is scored: its own key where it belongs to none."""
        return self.group or self.key

    def same_values(self, other: "Variable") -> bool:
        """Whether equal stored values of the two variables mean the same."""
        return (self.units, self.transform) == (other.units, other.transform)

    def describe_values(self) -> str:
        """What the stored values are: their units, or the function that was applied."""
        return self.transform.describe(self.name, self.units) if self.transform else self.units


def earlier(variable: Variable, age: int) -> Variable:
    """A variable a number of frames (of imported networks: steps) before the initial time, as a channel of its own.

    >>> earlier(Variable(name="geopotential", level=500), 6).key
    'geopotential@500[-6]'
    """
    return _marked(variable, f"[-{age}]") if age else variable


def at_valid_time(forcing: Variable) -> Variable:
    """A forcing at the time that is forecast, as a channel of its own."""
    return _marked(forcing, "[valid]")


def _marked(variable: Variable, mark: str) -> Variable:
    # The key already holds the level; with the level as well it would be there twice.
    return variable.model_copy(update={"name": f"{variable.key}{mark}", "level": None})


def _table(*rows: tuple[str, str, str, str]) -> dict[str, Variable]:
    return {
        name: Variable(name=name, units=units, group=group, long_name=long_name)
        for name, units, group, long_name in rows
    }


KNOWN = _table(
    ("velocity_x", "1", "velocity", "velocity along x"),
    ("velocity_y", "1", "velocity", "velocity along y"),
    ("velocity_z", "1", "velocity", "velocity along z"),
    ("vorticity", "1", "", "vorticity"),
    ("clockwise_vorticity", "1", "", "vorticity, positive where the flow turns clockwise"),
    ("stream_function", "1", "", "stream function"),
    ("density", "1", "", "mass density"),
    ("pressure", "1", "", "pressure"),
    ("energy", "1", "", "total energy density"),
    ("tracer", "1", "", "concentration of a passive tracer"),
    ("activator", "1", "", "concentration of the activator"),
    ("inhibitor", "1", "", "concentration of the inhibitor"),
    ("phase", "1", "", "phase field"),
    ("elevation", "1", "", "elevation of a surface"),
    ("front", "1", "", "position of a front"),
    ("displacement", "1", "", "displacement of a wave"),
    ("displacement_rate", "1", "", "rate of change of the displacement"),
    ("wave_speed", "1", "", "speed of propagation"),
    ("force_x", "1", "force", "body force along x"),
    ("force_y", "1", "force", "body force along y"),
    ("water_height", "1", "", "height of the water column"),
    ("permeability", "1", "", "permeability"),
    ("potential", "1", "", "gravitational potential"),
    ("source", "1", "", "source term"),
    ("solution", "1", "", "solution of a steady problem"),
    ("air_temperature", "K", "", "air temperature near the surface"),
    ("specific_humidity", "kg kg-1", "", "specific humidity near the surface"),
    ("wind_speed", "m s-1", "", "wind speed near the surface"),
    ("precipitation_flux", "kg m-2 s-1", "", "precipitation"),
    ("surface_downwelling_longwave_flux_in_air", "W m-2", "", "downwelling longwave radiation"),
    ("surface_downwelling_shortwave_flux_in_air", "W m-2", "", "downwelling shortwave radiation"),
)
"""Names that mean the same in all datasets; the units are those of a dataset that states none."""


_PSEUDOSCALARS = ("vorticity", "clockwise_vorticity", "stream_function", "vorticity_source")
_COMPONENTS: dict[str, TensorKind] = {"_x": "vector_x", "_y": "vector_y"}
_AMBIGUOUS = ("source",)  # of heat it is a scalar, of vorticity not


def tensor_kind(name: str) -> TensorKind | None:
    """How the field of this name goes with reflections; None where its name does not tell.

    >>> tensor_kind("force_x"), tensor_kind("vorticity"), tensor_kind("phase"), tensor_kind("B")
    ('vector_x', 'pseudoscalar', 'scalar', None)
    """
    if name in _PSEUDOSCALARS:
        return "pseudoscalar"
    if name not in KNOWN or name in _AMBIGUOUS:
        return None
    return _COMPONENTS.get(name[-2:], "scalar")


def known_variable(name: str) -> Variable:
    """The variable of this name in KNOWN, or one of units "1" where it is not listed."""
    return KNOWN.get(name, Variable(name=name))


def keys(variables: Iterable[Variable]) -> tuple[str, ...]:
    """The keys of the variables, in order."""
    return tuple(variable.key for variable in variables)


def with_role(variables: Iterable[Variable], *roles: Role) -> tuple[Variable, ...]:
    """The variables that have one of the roles, in order."""
    return tuple(variable for variable in variables if variable.role in roles)


# ERA5's long and short names, CF's standard names, CREDIT's, and the names in KNOWN; with a level or without.
_COMPONENT = re.compile(
    r"(\w+_)?[uv]_component_of_\w+|(\w+_)?(east|north)ward_\w+|[uv](\d+m?|a|as|o|wnd)?|[UV](\d+m?)?|\w+_[xy]"
)


def is_vector_component(variable: Variable) -> bool:
    """Whether a field is eastward or northward part of a vector by its name, so that its sign changes beyond a pole.

    >>> [is_vector_component(Variable(name=name)) for name in ("10m_u_component_of_wind", "velocity_x", "vorticity")]
    [True, True, False]
    """
    name = variable.name.split("[")[0].split("@")[0]  # of an earlier frame, the key with its age
    return _COMPONENT.fullmatch(name) is not None
