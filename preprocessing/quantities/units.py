"""Units: the factor and the offset between two units of one dimension, in the spelling of UDUNITS and CF.

A table of our own: cf-units needs the C library of UDUNITS, and pint does not read `kg m-2 s-1`. It leaves out
months and years, whose lengths depend on the calendar, and symbols with two meanings (C, gpm).
"""

import re
from dataclasses import dataclass
from math import pi

from pelagos.preprocessing.errors import ConfigError

Dimension = tuple[int, int, int, int, int, int, int]
_BASES = ("kg", "m", "s", "K", "mol", "A", "cd")


@dataclass(frozen=True)
class Unit:
    """A unit in which a value x is factor * x + offset in SI base units.

    Attributes:
        factor: size of the unit in SI base units.
        dimension: exponents of kg, m, s, K, mol, A and cd.
        offset: zero of the scale [K], for temperatures that do not count from absolute zero.
    """

    factor: float
    dimension: Dimension
    offset: float = 0.0

    def __str__(self) -> str:
        named = zip(_BASES, self.dimension, strict=True)
        return " ".join(base + ("" if power == 1 else str(power)) for base, power in named if power) or "1"


def _unit(factor: float = 1.0, offset: float = 0.0, **powers: int) -> Unit:
    kg, m, s, K, mol, A, cd = (powers.get(base, 0) for base in _BASES)
    return Unit(factor, (kg, m, s, K, mol, A, cd), offset)


_PREFIXED = {
    "g": _unit(1e-3, kg=1),
    "m": _unit(m=1),
    "s": _unit(s=1),
    "K": _unit(K=1),
    "mol": _unit(mol=1),
    "A": _unit(A=1),
    "cd": _unit(cd=1),
    "N": _unit(kg=1, m=1, s=-2),
    "Pa": _unit(kg=1, m=-1, s=-2),
    "J": _unit(kg=1, m=2, s=-2),
    "W": _unit(kg=1, m=2, s=-3),
    "V": _unit(kg=1, m=2, s=-3, A=-1),
    "Hz": _unit(s=-1),
    "bar": _unit(1e5, kg=1, m=-1, s=-2),
    "L": _unit(1e-3, m=3),
    "rad": _unit(),
}
_NAMES = {
    "g": ("gram",),
    "m": ("meter", "metre"),
    "s": ("second", "sec"),
    "K": ("kelvin",),
    "mol": ("mole",),
    "N": ("newton",),
    "Pa": ("pascal",),
    "J": ("joule",),
    "W": ("watt",),
    "V": ("volt",),
    "Hz": ("hertz",),
    "bar": ("bar",),
    "L": ("liter", "litre", "l"),
    "rad": ("radian",),
}
# Without prefixes: nobody writes kilominutes, and ppm or knot would collide with others.
_PLAIN = {
    "min": _unit(60, s=1),
    "h": _unit(3600, s=1),
    "d": _unit(86400, s=1),
    "week": _unit(7 * 86400, s=1),
    "degC": _unit(1, 273.15, K=1),
    "degF": _unit(5 / 9, 459.67 * 5 / 9, K=1),
    "t": _unit(1e3, kg=1),
    "atm": _unit(101325, kg=1, m=-1, s=-2),
    "knot": _unit(1852 / 3600, m=1, s=-1),
    "ft": _unit(0.3048, m=1),
    "degree": _unit(pi / 180),
    "%": _unit(1e-2),
    "ppm": _unit(1e-6),
    "ppb": _unit(1e-9),
}
_SYNONYMS = {
    "min": ("minute",),
    "h": ("hr", "hour"),
    "d": ("day",),
    "degC": ("celsius", "Celsius", "degree_Celsius", "degree_celsius", "degrees_Celsius", "deg_C", "°C"),
    "degF": ("fahrenheit", "Fahrenheit", "degree_Fahrenheit", "deg_F", "°F"),
    "t": ("tonne",),
    "knot": ("kt", "kn"),
    "ft": ("foot", "feet"),
    "degree": ("deg", "°", "degree_north", "degrees_north", "degree_east", "degrees_east"),
    "%": ("percent",),
}
_PREFIXES = {
    "n": 1e-9,
    "u": 1e-6,
    "µ": 1e-6,
    "m": 1e-3,
    "c": 1e-2,
    "d": 1e-1,
    "da": 1e1,
    "h": 1e2,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
}
_LONG = {"nano": 1e-9, "micro": 1e-6, "milli": 1e-3, "centi": 1e-2, "hecto": 1e2, "kilo": 1e3, "mega": 1e6}


def _table() -> dict[str, Unit]:
    """All names of units; those without a prefix win: `min` is a minute, `kt` a knot and no kilotonne."""
    table: dict[str, Unit] = {}
    for symbol, unit in _PREFIXED.items():
        table |= {prefix + symbol: _times(unit, factor) for prefix, factor in _PREFIXES.items()}
        for name in _NAMES.get(symbol, ()):
            scaled = {prefix + name: _times(unit, factor) for prefix, factor in _LONG.items()}
            table |= _plurals(scaled | {name: unit})
    for symbol, unit in _PLAIN.items():
        table |= {symbol: unit} | _plurals(dict.fromkeys((symbol, *_SYNONYMS.get(symbol, ())), unit))
    return table | _PREFIXED


def _plurals(units: dict[str, Unit]) -> dict[str, Unit]:
    return units | {f"{name}s": unit for name, unit in units.items() if len(name) > 2}


def _times(unit: Unit, factor: float) -> Unit:
    return Unit(unit.factor * factor, unit.dimension)


_UNITS = _table()
_FACTOR = re.compile(r"(?P<name>[A-Za-zµ°%_]+)(?:(?:\^|\*\*)?(?P<power>[+-]?\d+))?")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")
_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def parse_unit(text: str) -> Unit:
    """The unit that a text names: factors with integer powers; a slash divides by the next factor.

    >>> str(parse_unit("W m-2")), parse_unit("g/kg").factor
    ('kg s-3', 0.001)

    Raises:
        ConfigError: it names a unit that is not in the table.
    """
    spelled = text.translate(_SUPERSCRIPTS).strip()
    unit, position, inverse = _unit(), 0, False
    while position < len(spelled):
        separator = re.match(r"\s*(/)\s*|\s*(?:[.·]|\*(?!\*))\s*|\s+", spelled[position:])
        if separator:
            inverse = bool(separator[1])
            position += separator.end()
        found = _NUMBER.match(spelled, position) or _FACTOR.match(spelled, position)
        if not found:
            raise ConfigError(
                f"units {text!r}: cannot be read from {spelled[position:]!r} on; write kg m-2 s-1 for example"
            )
        unit = _product(unit, _factor(found, text), -1 if inverse else 1)
        position, inverse = found.end(), False
    # A temperature on its own keeps its offset, which products drop.
    single = _UNITS.get(spelled)
    return unit if single is None else single


def _factor(found: re.Match[str], text: str) -> Unit:
    if found.re is _NUMBER:
        return _unit(float(found[0]))
    unit = _UNITS.get(found["name"])
    if unit is None:
        raise ConfigError(f"units {text!r}: {found['name']!r} is not a known unit")
    return _product(_unit(), unit, int(found["power"] or 1))


def _product(one: Unit, other: Unit, power: int) -> Unit:
    """One unit times a power of another; without offsets, since a temperature in a product is a difference."""
    kg, m, s, K, mol, A, cd = (a + power * b for a, b in zip(one.dimension, other.dimension, strict=True))
    return Unit(one.factor * other.factor**power, (kg, m, s, K, mol, A, cd))


def conversion(old: str, new: str) -> tuple[float, float]:
    """The scale and offset with which new = scale * old + offset.

    >>> conversion("K", "degC")
    (1.0, -273.15)

    Raises:
        ConfigError: a unit is not known, or the two measure different things.
    """
    before, after = parse_unit(old), parse_unit(new)
    if before.dimension != after.dimension:
        raise ConfigError(f"units {old!r} ({before}) and {new!r} ({after}) measure different things")
    return before.factor / after.factor, (before.offset - after.offset) / after.factor
