"""Equation fit: whether a store's fields are what an equation's propagator takes them for."""

from collections.abc import Iterator

import numpy as np

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.quantities.units import parse_unit
from pelagos.preprocessing.store.sample_store import SampleStore

# Of axes that went through float32. An axis with both ends of the domain on it is off by 1 / points, far more.
_TOLERANCE = 1e-3


def check_fit(equation: PDE, store: SampleStore) -> None:
    """Refuse a store on which the equation's propagator would solve another problem than the data's.

    Fields that are missing are not looked for here.

    Raises:
        DataError: grid, length, boundary, units or transforms differ from the equation's; names both sides of each.
    """
    found = [*_grid_misfits(equation, store.grid), *_value_misfits(equation, store)]
    if found:
        raise DataError(f"{store.label} does not fit the equation {equation.kind}: {'; '.join(found)}")


def _grid_misfits(equation: PDE, grid: Grid) -> Iterator[str]:
    if grid.kind != "cartesian":
        yield f"its grid is {grid.kind}, the equation's is cartesian"
        return
    sides = (grid.boundary_y, grid.boundary_x)
    for name, values, spacing, even, boundary in zip(
        "yx", (grid.y, grid.x), grid.spacing, grid.even, sides, strict=True
    ):
        if boundary != equation.boundary:
            yield (
                f"its boundary_{name} is {','.join(boundary)}, the equation's is {','.join(equation.boundary)}"
            )
        if not even:
            # Without one spacing there is no length to compare.
            yield f"its points along {name} are uneven, the equation's have one spacing"
            continue
        # Derivatives along the axis would have the wrong sign.
        if len(values) > 1 and values[-1] < values[0]:
            yield f"its {name} descends, the equation's ascends: build it in ascending order (regrid)"
        length = spacing * len(values)
        if not np.isclose(length, equation.length, rtol=_TOLERANCE, atol=0):
            yield (
                f"its {len(values)} points {spacing:g} apart along {name} make a length of {length:g}, the equation's"
                f" length is {equation.length:g}: equation.length={length:.10g} if that is the data's"
            )


def _value_misfits(equation: PDE, store: SampleStore) -> Iterator[str]:
    """What differs in units: an equation's numbers are without any, or in SI units, all alike."""
    there = {variable.key: variable for variable in (*store.variables, *store.static_variables)}
    needed = [there[v.key] for v in (*equation.variables, *equation.static_variables) if v.key in there]
    units = {"y and x": store.grid.units, "times": store.time_units} | {v.key: v.units for v in needed}
    yield from (
        f"its {name} are in {unit!r}, the equation's without units or in SI base units: build it in these"
        for name, unit in units.items()
        if not _coherent(unit)
    )
    # Static fields reach the propagator as stored.
    yield from (
        f"its {v.key} is stored as {v.describe_values()}, the equation takes the field itself"
        for v in needed
        if v.role == "static" and v.transform is not None
    )


def _coherent(text: str) -> bool:
    """Whether a unit is a product of SI base units without a factor, such as m s-1 or 1."""
    try:
        unit = parse_unit(text)
    except ConfigError:
        return False
    return unit.factor == 1 and unit.offset == 0
