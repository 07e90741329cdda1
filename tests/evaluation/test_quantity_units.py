import pytest

from pelagos.evaluation.quantity_units import quantity_units

GAS = {"density": "kg m-3", "velocity_x": "m s-1", "velocity_y": "m s-1", "energy": "J m-3"}


@pytest.mark.parametrize(
    ("quantity", "units", "expected"),
    [
        ("mass", GAS, "kg m-3"),
        ("total energy", GAS, "kg m-1 s-2"),
        ("momentum x", GAS, "kg m-2 s-1"),
        ("kinetic energy", GAS, "kg m-1 s-2"),
        ("kinetic energy", {"velocity_x": "m s-1"}, "m2 s-2"),
        ("enstrophy", GAS, "s-2"),
        ("circulation", {"vorticity": "s-1"}, "s-1"),
        ("enstrophy", {"vorticity": "s-1"}, "s-2"),
        ("momentum y", {"velocity_x": "1"}, "1"),
        ("mass", {"density": "g cm-3"}, "g cm-3"),
        ("kinetic energy", {"velocity_x": "km h-1"}, "(km h-1)2"),
    ],
)
def test_units_follow_from_those_of_the_fields(quantity: str, units: dict[str, str], expected: str) -> None:
    assert quantity_units(quantity, units, "m") == expected
