"""Equation fit: whether a store's fields are what an equation's propagator takes them for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.quantities.units import parse_unit
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import keys, with_role

# Of axes that went through float32. An axis with both ends of the domain on it is off by 1 / points, far more.
_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class EquationFit:
    """A store's grid and times as the equation takes them: without units or in SI base units.

    Attributes:
        grid: the store's grid with positions in metres, or without units.
        time: the store's unit of time in seconds; 1 without units.
    """

    grid: Grid
    time: float


def check_fit(equation: PDE, store: SampleStore) -> EquationFit:
    """Refuse a store on which the equation's propagator would solve another problem than the data's.

    Positions and times in other units than SI base units, such as kilometres and milliseconds, are converted. Fields
    that are missing are not looked for here.

    Raises:
        DataError: grid, length, boundary, units or transforms differ from the equation's, or the store has static
            fields or forcings that it does not know; names both sides of each.
    """
    found = [*_unknown_fields(equation, store), *_value_misfits(equation, store)]
    length, time = (
        _in_base_units(unit, base) for unit, base in ((store.grid.units, "m"), (store.time_units, "s"))
    )
    if length is None:
        found.append(f"its y and x are in {store.grid.units!r}, which is no length")
    if time is None:
        found.append(f"its times are in {store.time_units!r}, which is no time")
    grid = replace(store.grid, y=store.grid.y * (length or 1), x=store.grid.x * (length or 1))
    found = [*_grid_misfits(equation, grid, store.grid.units), *found]
    if found:
        raise DataError(f"{store.label} does not fit the equation {equation.kind}: {'; '.join(found)}")
    # Nothing varies along an axis of one point, which is as good as periodic.
    boundary_y = equation.boundary if len(grid.y) == 1 else grid.boundary_y
    boundary_x = equation.boundary if len(grid.x) == 1 else grid.boundary_x
    return EquationFit(replace(grid, boundary_y=boundary_y, boundary_x=boundary_x), time or 1)


def _grid_misfits(equation: PDE, grid: Grid, units: str) -> Iterator[str]:
    if grid.kind != "cartesian":
        yield f"its grid is {grid.kind}, the equation's is cartesian"
        return
    metres = "" if units in ("1", "m") else f" m ({units} converted)"
    sides = (grid.boundary_y, grid.boundary_x)
    for name, values, spacing, even, boundary in zip(
        "yx", (grid.y, grid.x), grid.spacing, grid.even, sides, strict=True
    ):
        if len(values) == 1:
            continue
        if boundary != equation.boundary:
            yield (
                f"its boundary_{name} is {','.join(boundary)}, the equation's is {','.join(equation.boundary)}"
            )
        if not even:
            # Without one spacing there is no length to compare.
            yield f"its points along {name} are uneven, the equation's have one spacing"
            continue
        # Derivatives along the axis would have the wrong sign.
        if values[-1] < values[0]:
            yield f"its {name} descends, the equation's ascends: build it in ascending order (regrid)"
        length = spacing * len(values)
        if not np.isclose(length, equation.length, rtol=_TOLERANCE, atol=0):
            yield (
                f"its {len(values)} points {spacing:g} apart along {name} make a length of {length:g}{metres}, the"
                f" equation's length is {equation.length:g}: equation.length={length:.10g} if that is the data's"
            )


def _unknown_fields(equation: PDE, store: SampleStore) -> Iterator[str]:
    """Fields that do not evolve but may act on those that do: a force, say, would be missing from all solutions."""
    forcings = keys(with_role(store.variables, "forcing"))
    for what, there in (("static fields", keys(store.static_variables)), ("forcings", forcings)):
        known = keys((*equation.static_variables, *equation.variables))
        if others := [key for key in there if key not in known]:
            yield (
                f"it has the {what} {', '.join(others)}, which the {equation.kind} equation knows nothing of: take"
                " another equation, or build a store without"
            )


def _value_misfits(equation: PDE, store: SampleStore) -> Iterator[str]:
    """What differs in units: an equation's numbers are without any, or in SI units, all alike."""
    there = {variable.key: variable for variable in (*store.variables, *store.static_variables)}
    needed = [there[v.key] for v in (*equation.variables, *equation.static_variables) if v.key in there]
    yield from (
        f"its {v.key} is in {v.units!r}, the equation's without units or in SI base units{_advice(v.key, v.units)}"
        for v in needed
        if not _coherent(v.units)
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


def _advice(key: str, units: str) -> str:
    """How to build a field in base units, where its unit is known."""
    try:
        base = str(parse_unit(units))
    except ConfigError:
        return ", and this one is not known"
    return f": build it with convert: {{{key}: {base}}}"


def _in_base_units(text: str, base: str) -> float | None:
    """The factor of a unit of length or time, or of none; None where it is another, or not known."""
    try:
        unit = parse_unit(text)
    except ConfigError:
        return None
    return unit.factor if str(unit) in ("1", base) else None
