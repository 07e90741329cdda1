"""Symmetries: the changes of fields that make trajectories of an equation from its trajectories."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

AxisName = Literal["y", "x"]


@dataclass(frozen=True)
class Scaling:
    """A family of changes by one positive factor: what is named is multiplied by a power of it, the rest stays.

    Attributes:
        powers: of prognostic and static fields and of scalars, by their keys.
        time: of the time between frames.
    """

    powers: Mapping[str, float]
    time: float = 0.0


@dataclass(frozen=True)
class Symmetries:
    """What may be done to trajectories so that they obey the same equation, static fields being changed with them.

    Shifts along periodic axes are symmetries of every equation here. Reflections and transpositions change vectors
    and pseudoscalars as the variables' names say: velocity_x changes its sign where x does, a vorticity under both.

    Attributes:
        reflections: axes whose direction may be reversed.
        transposition: whether the axes may be exchanged where both have the same length and spacing; with both
            reflections quarter turns follow.
        galilean: the field that gains the frame's velocity along an axis, by axis: u + c moves with the shift c t.
            Empty where a static field, a drag or the equation itself marks a frame of rest.
        negations: groups of fields whose signs may be reversed together.
        offsets: fields to which a constant may be added.
        scalings: changes of amplitude, or of time along with the parameters.
    """

    reflections: tuple[AxisName, ...] = ("y", "x")
    transposition: bool = True
    galilean: Mapping[AxisName, str] = field(default_factory=dict)
    negations: tuple[tuple[str, ...], ...] = ()
    offsets: tuple[str, ...] = ()
    scalings: tuple[Scaling, ...] = ()


VELOCITIES: Mapping[AxisName, str] = {"y": "velocity_y", "x": "velocity_x"}
"""The velocity along each axis."""


@dataclass(frozen=True)
class DeclaredSymmetries:
    """The symmetries of the equation that data are said to obey.

    Attributes:
        symmetries: of the equation.
        names: the keys of its fields and static fields, and its scalars.
    """

    symmetries: Symmetries
    names: tuple[str, ...]
