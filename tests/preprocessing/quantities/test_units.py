import numpy as np
import pytest

from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.quantities.units import conversion, parse_unit


@pytest.mark.parametrize(
    ("value", "old", "new", "expected"),
    [
        (1013.25, "hPa", "Pa", 101325),
        (1013.25, "millibars", "kPa", 101.325),
        (0, "degC", "K", 273.15),
        (300, "K", "degree_Celsius", 26.85),
        (212, "degF", "degC", 100),
        (10, "degC m-1", "K km-1", 10000),  # a difference of temperatures has no offset
        (36, "km/h", "m s**-1", 10),
        (20, "knots", "m s-1", 20 * 1852 / 3600),
        (5, "g kg-1", "1", 0.005),
        (25, "%", "1", 0.25),
        (86400, "J m-2 day-1", "W/m2", 1),
        (1, "kg m^2 s^-2", "J", 1),
        (2, "m²·s⁻²", "m2 s-2", 2),
        (3, "W/m2/K", "W m-2 K-1", 3),
        (7, "1e-3 kg", "g", 7),
        (90, "min", "hours", 1.5),
        (180, "degrees", "rad", np.pi),
        (1, "ms", "s", 1e-3),
        (4, "1", "", 4),
    ],
)
def test_values_keep_their_meaning(value: float, old: str, new: str, expected: float) -> None:
    scale, offset = conversion(old, new)
    assert scale * value + offset == pytest.approx(expected, rel=1e-12, abs=1e-9)
    scale, offset = conversion(new, old)
    assert scale * expected + offset == pytest.approx(value, rel=1e-12, abs=1e-9)


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'mm day-1' \(m s-1\) and 'kg m-2 s-1' \(kg m-2 s-1\) measure different things"
    ):
        conversion("mm day-1", "kg m-2 s-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("furlong", "'furlong' is not a known unit"),
        ("month", "'month' is not a known unit"),
        ("m s-1 foo2", "'foo' is not a known unit"),
        ("m s-1 /", "cannot be read from '' on"),
        ("(m s)-1", r"cannot be read from '\(m s\)-1' on"),
    ],
)
def test_what_is_not_understood_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_unit(text)
