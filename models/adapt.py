"""Weights for a network with other variables or scalars than they were trained for.

Each variable and each scalar owns one slice of some weights; slices are copied by name.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import AxisKind, condition_names
from pelagos.preprocessing.errors import DataError


class Adaptable(Protocol):
    """A network that knows which axes of its weights run over variables or conditions."""

    @property
    def signature(self) -> Signature:
        """What the network is built for."""

    def named_axes(self) -> dict[str, tuple[AxisKind | None, ...]]:
        """What each axis runs over, for each weight with such an axis; None for other axes."""

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


def copied_kinds(axes: Mapping[str, tuple[AxisKind | None, ...]], kept: Set[str]) -> set[AxisKind]:
    """What some weights with slices run over, apart from those named in `kept`."""
    return {kind for name, kinds in axes.items() if name not in kept for kind in kinds if kind is not None}


def _slice_names(signature: Signature, kind: AxisKind) -> tuple[str, ...]:
    if kind == "condition":
        return condition_names(signature.scalars)
    return signature.inputs if kind == "input" else signature.outputs


def _adapt_weight(
    name: str, weight: Tensor, own: Tensor, kinds: tuple[AxisKind | None, ...], old: Signature, new: Signature
) -> Tensor:
    # The old weight may differ from the new one along axes of variables and conditions only.
    expected = tuple(
        size if kind is None else len(_slice_names(old, kind))
        for size, kind in zip(own.shape, kinds, strict=True)
    )
    if weight.shape != expected:
        raise DataError(
            f"weight {name} has shape {tuple(weight.shape)}, but {expected} is what the new network needs"
        )
    sources, targets = [], []
    for axis, (size, kind) in enumerate(zip(own.shape, kinds, strict=True)):
        if kind is None:
            pairs = [(i, i) for i in range(size)]
        else:
            pairs = _shared_positions(_slice_names(old, kind), _slice_names(new, kind))
        # Index tensors that broadcast against each other address the outer product of all axes' slices.
        shape = [-1 if other == axis else 1 for other in range(own.dim())]
        source, target = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
        sources.append(source.view(shape))
        targets.append(target.view(shape))
    # The new network's initial weights fill the slices that have no source.
    fitted = own.detach().clone()
    for axis, kind in enumerate(kinds):
        if kind == "input" and (unseen := _other_times(old.inputs, new.inputs)):
            fitted.index_fill_(axis, torch.tensor(unseen), 0.0)
    fitted[tuple(targets)] = weight[tuple(sources)].to(fitted)
    assert torch.isfinite(fitted).all(), f"{name} is not finite"
    return fitted


def _other_times(old: tuple[str, ...], new: tuple[str, ...]) -> list[int]:
    """The positions of new inputs that are known ones at another time."""
    return [n for n, name in enumerate(new) if name not in old and name.partition("[")[0] in old]


def _shared_positions(old: tuple[str, ...], new: tuple[str, ...]) -> list[tuple[int, int]]:
    return [(old.index(name), position) for position, name in enumerate(new) if name in old]


def _adaptation(
    old: Signature, new: Signature, axes: Mapping[str, tuple[AxisKind | None, ...]], kept: Set[str]
) -> Adaptation:
    copied: list[str] = []
    fresh: list[str] = []
    dropped: list[str] = []
    kinds: tuple[AxisKind, ...] = ("input", "output", "condition")
    taken = copied_kinds(axes, kept)
    for kind in kinds:
        before, after = _slice_names(old, kind), _slice_names(new, kind)
        for name in after:
            (copied if name in before and kind in taken else fresh).append(f"{kind} {name}")
        dropped += [f"{kind} {name}" for name in before if name not in after]
    weights = tuple(name for name in axes if name not in kept)
    return Adaptation(tuple(copied), tuple(fresh), tuple(dropped), weights)
