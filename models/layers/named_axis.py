"""Named axes: what the axes of weights run over, so that weights can be carried over by the names of variables."""

from dataclasses import dataclass, replace

from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import AxisKind, condition_names

SliceName = tuple[str, int, int]
"""What a slice belongs to, such as `input density`, and which of its slices it is."""


@dataclass(frozen=True)
class NamedAxis:
    """An axis with slices of variables, of conditions or of both.

    Attributes:
        kinds: what has slices, one kind after the other.
        rest: slices of none of these, after the others.
        times: slices of each, next to each other.
        repeats: how often all of that follows upon itself.
        silent: whether slices that are new add nothing to what is not new: they begin as zeros there.
    """

    kinds: tuple[AxisKind, ...]
    rest: int = 0
    times: int = 1
    repeats: int = 1
    silent: bool = False

    def names(self, signature: Signature) -> tuple[SliceName, ...]:
        """The slices, in order, of a network with this signature.

        >>> NamedAxis(("input",), rest=1).names(Signature(("u", "v"), ("u",)))
        (('input u', 0, 0), ('input v', 0, 0), ('rest 0', 0, 0))
        >>> NamedAxis(("output",), times=2).names(Signature(("u",), ("u",)))
        (('output u', 0, 0), ('output u', 0, 1))
        """
        once = [f"{kind} {name}" for kind in self.kinds for name in slice_owners(signature, kind)]
        once += [f"rest {number}" for number in range(self.rest)]
        return tuple(
            (name, turn, place)
            for turn in range(self.repeats)
            for name in once
            for place in range(self.times)
        )

    def within(self, cells: int) -> "NamedAxis":
        """The axis with as many slices in place of each: that of a kernel, seen as part of a vector."""
        return replace(self, times=self.times * cells)


Axes = tuple[AxisKind | NamedAxis | None, ...]
"""What each axis of a weight runs over; None for something that has no names."""


def named_axis(axis: AxisKind | NamedAxis) -> NamedAxis:
    """The axis; a kind alone is one with a slice for each of that kind."""
    return axis if isinstance(axis, NamedAxis) else NamedAxis((axis,))


def slice_owners(signature: Signature, kind: AxisKind) -> tuple[str, ...]:
    """The names of the variables or conditions of a kind, in the order of their slices."""
    if kind == "condition":
        return condition_names(signature.scalars)
    return signature.inputs if kind == "input" else signature.outputs
