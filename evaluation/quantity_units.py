"""Quantity units: the units of what equations conserve, from those of the fields it is made of."""

from collections.abc import Mapping, Sequence

from pelagos.evaluation.conservation import CONSERVED
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities.units import Unit, parse_unit

Factor = tuple[str, int]
"""A unit and its power."""


def quantity_units(quantity: str, units: Mapping[str, str], length: str = "1") -> str:
    """The units of a domain mean of `conservation.densities`.

    Args:
        quantity: its name there.
        units: variable -> units.
        length: units of the grid's axes.
    """
    velocity = units.get("velocity_x", "1")
    mass = [(units["density"], 1)] if "density" in units else []
    own = {name: units[field] for field, name in CONSERVED.items() if field in units}
    vorticity = [(velocity, 2), (length, -2)] if "velocity_x" in units else [(units.get("vorticity", "1"), 2)]
    factors: dict[str, Sequence[Factor]] = {
        **{name: [(unit, 1)] for name, unit in own.items()},
        "momentum x": [*mass, (velocity, 1)],
        "momentum y": [*mass, (velocity, 1)],
        "kinetic energy": [*mass, (velocity, 2)],
        "enstrophy": vorticity,
        "circulation": [(units.get("vorticity", "1"), 1)],
    }
    return product(factors[quantity])


def product(factors: Sequence[Factor]) -> str:
    """The product of units: in SI base units where it is one of theirs, otherwise written out.

    >>> product([("kg m-3", 1), ("m s-1", 2)])
    'kg m-1 s-2'
    >>> product([("hPa", 1), ("m s-1", 1)])
    '(hPa) (m s-1)'
    """
    dimension = [0] * len(Unit(1.0, (0, 0, 0, 0, 0, 0, 0)).dimension)
    for text, power in factors:
        try:
            unit = parse_unit(text)
        except ConfigError:
            return _written_out(factors)
        if unit.factor != 1 or unit.offset != 0:
            return _written_out(factors)
        dimension = [total + power * own for total, own in zip(dimension, unit.dimension, strict=True)]
    kg, m, s, kelvin, mol, ampere, cd = dimension
    return str(Unit(1.0, (kg, m, s, kelvin, mol, ampere, cd)))


def _written_out(factors: Sequence[Factor]) -> str:
    if len(factors) == 1 and factors[0][1] == 1:
        return factors[0][0]
    return " ".join(f"({text}){'' if power == 1 else power}" for text, power in factors)
