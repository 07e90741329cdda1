"""Allowed symmetries: what of a dataset's grid, variables and equation stands in the way of transforming its samples.

Each question is answered by an obstacle in words, or by none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pelagos.preprocessing.array_types import Ints
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.physics.symmetry import AxisName, DeclaredSymmetries, Scaling
from pelagos.preprocessing.store.sample_store import SampleStore
from pelagos.preprocessing.variables import TensorKind, Variable, keys, tensor_kind

if TYPE_CHECKING:  # of equations, of which only those that are stated are loaded
    from pelagos.preprocessing.physics.pde import PDE

Obstacle = str
"""Why a transformation is not allowed; empty where it is."""

UNSTATED_FORCES = ("apebench", "fno", "torch_cfd")
"""Kinds of archives of forced flow whose force is in no file: nothing in their stores tells where it acts."""

DIRECTED: Mapping[tuple[str, ...], AxisName] = {("elevation",): "x"}
"""Fields that belong to one equation, which tells the ends of this axis apart: the waves of Korteweg and de Vries."""


@dataclass(frozen=True, eq=False)
class SampleFields:
    """The fields of one dataset's samples, and how each goes with reflections.

    Attributes:
        store: where they come from.
        groups: fields that stand in a frame together: prognostic, static, forcing, diagnostic.
        kinds: by name, where another kind than that of the table of variables is meant.
    """

    store: SampleStore
    groups: tuple[tuple[Variable, ...], ...]
    kinds: Mapping[str, TensorKind]

    @property
    def variables(self) -> tuple[Variable, ...]:
        """All of them."""
        return tuple(variable for group in self.groups for variable in group)

    def kind(self, variable: Variable) -> TensorKind | None:
        """How a field goes with reflections; None where it is not known."""
        return self.kinds.get(variable.name) or tensor_kind(variable.name)

    @cached_property
    def partners(self) -> Ints:
        """(C,) the position, among all, of what comes to each field's place when the axes are exchanged."""
        found, start = [], 0
        for group in self.groups:
            for place, variable in enumerate(group):
                other = partner(self, variable, group) if self.is_component(variable) else place
                found.append(start + (place if other is None else other))
            start += len(group)
        return np.array(found, np.int64)

    @cached_property
    def parities(self) -> Ints:
        """(3, C) 1 where a field changes its sign as the axes are exchanged, as y is reversed, and as x is."""
        grid = self.store.grid
        # Where one axis descends, to exchange rows and columns mirrors space at the other diagonal.
        other = int((grid.y[-1] > grid.y[0]) != (grid.x[-1] > grid.x[0]))
        signs = {"pseudoscalar": (1, 1, 1), "vector_x": (other, 0, 1), "vector_y": (other, 1, 0)}
        found = [signs.get(str(self.kind(variable)), (0, 0, 0)) for variable in self.variables]
        return np.array(found, np.int64).reshape(-1, 3).T

    @property
    def directed(self) -> AxisName | None:
        """The axis whose ends are not alike, where the fields that evolve are those of one equation that says so."""
        return DIRECTED.get(keys(self.groups[0]))

    def is_component(self, variable: Variable) -> bool:
        """Whether a field is a component of a vector in the plane."""
        return self.kind(variable) in ("vector_x", "vector_y")


def fields_obstacle(fields: SampleFields, equation: "PDE") -> Obstacle:
    """What of the fields that evolve cannot obey an equation; beside all of its own there may be scalars.

    A pressure or a tracer, say, goes with the flow. A vector or a vorticity has an equation to itself.
    """
    evolving, own = keys(fields.groups[0]), keys(equation.variables)
    others = [variable for variable in fields.groups[0] if variable.key not in own]
    carried = {*own} <= {*evolving} and all(fields.kind(variable) == "scalar" for variable in others)
    if evolving and (not others or carried):
        return ""
    found = ", ".join(evolving) or "nothing"
    return f"{equation.kind} is an equation of {', '.join(own)}; what evolves here is {found}"


def sides_obstacle(grid: Grid, equation: "PDE") -> Obstacle:
    """What of a grid's sides an equation does not have; lengths do not matter to symmetries."""
    own = equation.grid((8, 16))  # of any size: all have the same sides
    if grid.kind != own.kind:
        return f"the grid is {grid.kind}, that of {equation.kind} is {own.kind}"
    for axis, name in enumerate("yx"):
        found, needed = ((of.boundary_y, of.boundary_x)[axis] for of in (grid, own))
        # Nothing varies along an axis of one point, and what is not known contradicts nothing.
        if found != needed and "unknown" not in found and grid.shape[axis] > 1:
            return f"the grid's sides along {name} are {' and '.join(found)}, those of {equation.kind} {needed[0]}"
    return ""


def roll_obstacle(grid: Grid, axis: int) -> Obstacle:
    """What stands in the way of rolling fields along an axis, 0 for y."""
    name = "yx"[axis]
    if not grid.periodic[axis]:
        return f"the grid is not periodic along {name}"
    if not grid.even[axis]:
        return f"its points are uneven along {name}"
    return "latitudes are not alike" if grid.kind == "latlon" and axis == 0 else ""


def reflection_obstacle(fields: SampleFields, axis: int) -> Obstacle:
    """What stands in the way of reversing an axis, 0 for y."""
    grid, name = fields.store.grid, "yx"[axis]
    sides, steps = (grid.boundary_y, grid.boundary_x)[axis], np.abs(np.diff((grid.y, grid.x)[axis]))
    if grid.kind == "latlon":
        return "the earth turns one way only"
    if sides[0] != sides[1] or sides[0] not in ("periodic", "wall"):
        return f"its sides along {name} are {' and '.join(sides)}"
    if not np.allclose(steps, steps[::-1], rtol=1e-3):
        return f"its points along {name} are not mirror images of each other"
    return _kinds_obstacle(fields)


def turn_obstacle(fields: SampleFields) -> Obstacle:
    """What stands in the way of exchanging the axes."""
    grid = fields.store.grid
    if grid.kind == "latlon":
        return "longitudes and latitudes are no square"
    square = grid.shape[0] == grid.shape[1] and np.allclose(*grid.spacing, rtol=1e-3) and all(grid.even)
    if not square:
        height, width = grid.shape
        return f"the grid of {height} x {width} points, {grid.spacing[0]:g} and {grid.spacing[1]:g} apart, is no square"
    if grid.boundary_y != grid.boundary_x:
        return f"its sides are {','.join(grid.boundary_y)} along y and {','.join(grid.boundary_x)} along x"
    if obstacle := next(filter(None, (reflection_obstacle(fields, axis) for axis in (0, 1))), ""):
        return obstacle
    return next(
        (
            f"{variable.key} has no partner along the other axis"
            for group in fields.groups
            for variable in group
            if fields.is_component(variable) and partner(fields, variable, group) is None
        ),
        "",
    )


def partner(fields: SampleFields, variable: Variable, group: Sequence[Variable]) -> int | None:
    """The position in a group of the same vector's component along the other axis."""
    other = {"vector_x": "vector_y", "vector_y": "vector_x"}[str(fields.kind(variable))]
    name = variable.name[:-1] + other[-1]
    for position, candidate in enumerate(group):
        same = candidate.level == variable.level and candidate.same_values(variable)
        if same and candidate.name == name and fields.kind(candidate) == other:
            return position
    return None


def _kinds_obstacle(fields: SampleFields) -> Obstacle:
    unknown = [v.key for v in fields.variables if fields.kind(v) is None]
    if unknown:
        return f"how {', '.join(unknown)} go with reflections is not known: state augment.kinds"
    signed = [v.key for v in fields.variables if v.transform is not None and fields.kind(v) != "scalar"]
    return f"{', '.join(signed)} are stored transformed, and change their sign" if signed else ""


def galilean_obstacle(fields: SampleFields, declared: DeclaredSymmetries | None) -> Obstacle:
    """What stands in the way of adding a constant velocity."""
    store, found = fields.store, keys(fields.variables)
    if declared is None:
        return "which equation the data obey is not known: state augment.equation"
    moving = declared.symmetries.galilean
    if not moving:
        return "the equation is not the same in a moving frame"
    if missing := [key for key in moving.values() if key not in found]:
        return f"{', '.join(missing)} is not among the fields"
    if obstacle := next(filter(None, (roll_obstacle(store.grid, "yx".index(axis)) for axis in moving)), ""):
        return obstacle
    standing = [*keys(fields.groups[1]), *keys(fields.groups[2]), *(["drag"] if _acts(store, "drag") else [])]
    if standing:
        return f"{', '.join(standing)} distinguish a frame of rest"
    units = {
        store.grid.units,
        store.time_units,
        *(v.units for v in fields.variables if v.key in moving.values()),
    }
    # In other units a velocity is no number of points per frame.
    return "" if units in ({"1"}, {"m", "s", "m s-1"}) else "velocities need units 1, or m, s and m s-1"


def _acts(store: SampleStore, scalar: str) -> bool:
    """Whether a scalar is not zero in some trajectory."""
    if scalar not in store.params:
        return False
    values = store.scalar_values[:, store.params.index(scalar)]
    return bool(np.any(values != 0))


def scaling_obstacle(fields: SampleFields, scaling: Scaling, equation: Sequence[str]) -> Obstacle:
    """What stands in the way of a family of scalings, given the names of an equation's fields and scalars."""
    at_hand = {*keys(fields.variables), *fields.store.params}
    if missing := sorted(name for name in scaling.powers if name in equation and name not in at_hand):
        return f"the data do not say {', '.join(missing)}, which it would change"
    if foreign := sorted(set(keys(fields.variables)) - set(equation)):
        return f"{', '.join(foreign)} are no fields of the equation"
    changed = [v.key for v in fields.variables if v.transform is not None and v.key in scaling.powers]
    return f"{', '.join(changed)} are stored transformed" if changed else ""
