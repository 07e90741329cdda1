"""Weights for a network with other variables or scalars than they were trained for.

Each variable and each scalar owns one slice of some weights; slices are copied by name.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor, nn

from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import AxisKind
from pelagos.models.layers.named_axis import Axes, NamedAxis, SliceName, named_axis, slice_owners
from pelagos.preprocessing.errors import DataError

_WAVES = ("condition sine:", "condition cosine:")
"""How the names of slices begin that came later than the others."""


class Adaptable(Protocol):
    """A network that knows which axes of its weights run over variables or conditions."""

    @property
    def signature(self) -> Signature:
        """What the network is built for."""

    def named_axes(self) -> dict[str, Axes]:
        """What each axis runs over, for each weight with such an axis.

        Raises:
            DataError: the network cannot have other variables; says why.
        """

    def state_dict(self) -> dict[str, Any]:
        """All weights."""


@dataclass(frozen=True)
class Adaptation:
    """What became of the slices, named like `input density` or `condition value:viscosity`.

    Attributes:
        copied: slices that both networks have.
        fresh: slices that only the new network has, with initial weights.
        dropped: slices that only the old network has.
        weights: names of the weights that consist of slices; all others are copied as a whole.
    """

    copied: tuple[str, ...]
    fresh: tuple[str, ...]
    dropped: tuple[str, ...]
    weights: tuple[str, ...]

    def __str__(self) -> str:
        parts = (("copied", self.copied), ("fresh", self.fresh), ("dropped", self.dropped))
        summary = "; ".join(f"{verb}: {', '.join(names) or 'none'}" for verb, names in parts)
        return f"{summary} (slices of {len(self.weights)} weights)"


def adapt(
    state: Mapping[str, Tensor], old: Signature, network: Adaptable, kept: Set[str] = frozenset()
) -> tuple[dict[str, Tensor], Adaptation]:
    """Fits the weights `state` of a network built for `old` to `network`; new slices keep the values there.

    Those of earlier frames, and of forcings at the valid time, of variables that were input are zero: the network
    starts as one that does not look at them. The weights named in `kept` are the network's own, and need not be in
    `state`.

    Raises:
        DataError: the networks differ in more than their variables and scalars.
    """
    fresh, axes = network.state_dict(), network.named_axes()
    missing, unknown = sorted(set(fresh) - set(state) - kept), sorted(set(state) - set(fresh))
    if missing or unknown:
        raise DataError(f"the networks differ: weights missing {missing[:5]}, weights unknown {unknown[:5]}")
    adapted = {
        name: own.detach().clone()
        if name in kept
        else _adapt_weight(
            name, state[name], own, axes.get(name, (None,) * own.dim()), old, network.signature
        )
        for name, own in fresh.items()
    }
    return adapted, _adaptation(old, network.signature, axes, kept)


def with_waves(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights `state` of such a network, whose conditions may be from before parameters were told by waves, too.

    What the waves are multiplied by is zero then, so that the network says what it said.
    """
    found, own = dict(state), network.state_dict()
    shorter = [name for name in found if name in own and found[name].shape != own[name].shape]
    if not shorter or not hasattr(network, "named_axes"):
        return found
    adaptable = cast(Adaptable, network)
    for name, axes in adaptable.named_axes().items():
        for dim, axis in enumerate(axes) if name in shorter else ():
            owners = () if axis is None else named_axis(axis).names(adaptable.signature)
            before = [place for place, (owner, _, _) in enumerate(owners) if not owner.startswith(_WAVES)]
            if found[name].shape[dim] == len(before) < len(owners):
                shape = list(found[name].shape)
                shape[dim] = len(owners)
                found[name] = found[name].new_zeros(shape).index_copy(dim, torch.tensor(before), found[name])
    return found


def copied_kinds(axes: Mapping[str, Axes], kept: Set[str]) -> set[AxisKind]:
    """What some weights with slices run over, apart from those named in `kept`."""
    found = (axis for name, of_weight in axes.items() if name not in kept for axis in of_weight)
    return {kind for axis in found if axis is not None for kind in named_axis(axis).kinds}


def _adapt_weight(
    name: str, weight: Tensor, own: Tensor, axes: Axes, old: Signature, new: Signature
) -> Tensor:
    slices = [
        _AxisSlices.of(size, None if axis is None else named_axis(axis), old, new)
        for size, axis in zip(own.shape, axes, strict=True)
    ]
    # The old weight may differ from the new one along axes of variables and conditions only.
    expected = tuple(one.before for one in slices)
    if weight.shape != expected:
        raise DataError(
            f"weight {name} has shape {tuple(weight.shape)}, but {expected} is what the new network needs"
        )
    sources = _outer([[source for source, _ in one.shared] for one in slices])
    targets = _outer([[target for _, target in one.shared] for one in slices])
    # The new network's initial weights fill the slices that have no source.
    fitted = own.detach().clone()
    for number, one in enumerate(slices):
        fitted.index_fill_(number, torch.tensor(one.unseen, dtype=torch.long), 0.0)
        if one.silent and one.shared:
            # Where all is new there is nothing that must not change, and zeros alone have no direction.
            fitted[
                _outer([one.fresh if n == number else [t for _, t in s.shared] for n, s in enumerate(slices)])
            ] = 0
    fitted[targets] = weight[sources].to(fitted)
    assert torch.isfinite(fitted).all(), f"{name} is not finite"
    return fitted


@dataclass(frozen=True)
class _AxisSlices:
    """The slices along an axis of a weight.

    Attributes:
        before: how many the old weight has.
        shared: the positions, old and new, of those that both have.
        fresh: the positions of those that only the new one has.
        unseen: of these, such as belong to known inputs at another time.
        silent: see `NamedAxis`.
    """

    before: int
    shared: Sequence[tuple[int, int]]
    fresh: Sequence[int] = ()
    unseen: Sequence[int] = ()
    silent: bool = False

    @classmethod
    def of(cls, size: int, axis: NamedAxis | None, old: Signature, new: Signature) -> Self:
        if axis is None:
            return cls(size, [(i, i) for i in range(size)])
        before, after = axis.names(old), axis.names(new)
        assert len(after) == size, (len(after), size)
        places = {name: n for n, name in enumerate(before)}
        shared = [(places[name], n) for n, name in enumerate(after) if name in places]
        fresh = [n for n, name in enumerate(after) if name not in places]
        owners = {owner for owner, _, _ in before}
        return cls(
            len(before), shared, fresh, [n for n in fresh if _at_another_time(after[n], owners)], axis.silent
        )


def _at_another_time(name: SliceName, known: Set[str]) -> bool:
    """Whether a slice is of an input that was known, at a time that was not."""
    return name[0].startswith("input ") and name[0].partition("[")[0] in known


def _outer(positions: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
    """Index tensors that broadcast against each other: they address the outer product of all axes' slices."""
    number = len(positions)
    return tuple(
        torch.tensor(along, dtype=torch.long).view([-1 if other == axis else 1 for other in range(number)])
        for axis, along in enumerate(positions)
    )


def _adaptation(old: Signature, new: Signature, axes: Mapping[str, Axes], kept: Set[str]) -> Adaptation:
    copied: list[str] = []
    fresh: list[str] = []
    dropped: list[str] = []
    kinds: tuple[AxisKind, ...] = ("input", "output", "condition")
    taken = copied_kinds(axes, kept)
    for kind in kinds:
        before, after = slice_owners(old, kind), slice_owners(new, kind)
        for name in after:
            (copied if name in before and kind in taken else fresh).append(f"{kind} {name}")
        dropped += [f"{kind} {name}" for name in before if name not in after]
    weights = tuple(name for name in axes if name not in kept)
    return Adaptation(tuple(copied), tuple(fresh), tuple(dropped), weights)
