"""Weights for a network with other variables or scalars than those that they were trained for.

What belongs to a variable or a scalar is one slice of some weights; slices are copied by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from pelagos.models.context import Signature
from pelagos.models.layers.conditioning import condition_names
from pelagos.preprocessing.errors import DataError

Kind = Literal["input", "output", "condition"]


class Adaptable(Protocol):
    """A network that tells which axes of its weights run over variables or conditions."""

    @property
    def signature(self) -> Signature:
        """What the network is built for."""

    def named_axes(self) -> dict[str, tuple[Kind | None, ...]]:
        """For each weight with such axes, what each of its axes runs over."""

    def state_dict(self) -> dict[str, Any]:
        """All weights."""


@dataclass(frozen=True)
class Adaptation:
    """What became of the slices, named like `input density` or `condition value:viscosity`.

    Attributes:
        copied: those that both networks have.
        fresh: those that are new and have initial weights.
        dropped: those that the new network does not have.
        weights: names of the weights that consist of slices; all others were copied as they are.
    """

    copied: tuple[str, ...]
    fresh: tuple[str, ...]
    dropped: tuple[str, ...]
    weights: tuple[str, ...]

    def __str__(self) -> str:
        parts = (("copied", self.copied), ("fresh", self.fresh), ("dropped", self.dropped))
        told = "; ".join(f"{verb}: {', '.join(names) or 'none'}" for verb, names in parts)
        return f"{told} (slices of {len(self.weights)} weights)"


def adapt(
    state: Mapping[str, Tensor], old: Signature, network: Adaptable
) -> tuple[dict[str, Tensor], Adaptation]:
    """The weights `state` of a network built for `old`, fitted to `network`, whose own fill what is new.

    Raises:
        DataError: the two differ in more than variables and scalars.
    """
    fresh, axes = network.state_dict(), network.named_axes()
    missing, unknown = sorted(set(fresh) - set(state)), sorted(set(state) - set(fresh))
    if missing or unknown:
        raise DataError(f"the networks differ: weights missing {missing[:5]}, weights unknown {unknown[:5]}")
    adapted = {
        name: _fit(name, state[name], own, axes.get(name, (None,) * own.dim()), old, network.signature)
        for name, own in fresh.items()
    }
    return adapted, _report(old, network.signature, tuple(axes))


def _names(signature: Signature, kind: Kind) -> tuple[str, ...]:
    if kind == "condition":
        return condition_names(signature.scalars)
    return signature.inputs if kind == "input" else signature.outputs


def _fit(
    name: str, weight: Tensor, own: Tensor, kinds: tuple[Kind | None, ...], old: Signature, new: Signature
) -> Tensor:
    expected = tuple(
        size if kind is None else len(_names(old, kind)) for size, kind in zip(own.shape, kinds, strict=True)
    )
    if weight.shape != expected:
        raise DataError(
            f"weight {name} has shape {tuple(weight.shape)}, {expected} would fit the new network"
        )
    sources, targets = [], []
    for axis, (size, kind) in enumerate(zip(own.shape, kinds, strict=True)):
        pairs = (
            [(i, i) for i in range(size)] if kind is None else _shared(_names(old, kind), _names(new, kind))
        )
        shape = [-1 if other == axis else 1 for other in range(own.dim())]
        source, target = torch.tensor(pairs, dtype=torch.long).view(-1, 2).unbind(1)
        sources.append(source.view(shape))
        targets.append(target.view(shape))
    fitted = own.detach().clone()
    fitted[tuple(targets)] = weight[tuple(sources)].to(fitted)
    assert torch.isfinite(fitted).all(), f"{name} is not finite"
    return fitted


def _shared(old: tuple[str, ...], new: tuple[str, ...]) -> list[tuple[int, int]]:
    return [(old.index(name), position) for position, name in enumerate(new) if name in old]


def _report(old: Signature, new: Signature, weights: tuple[str, ...]) -> Adaptation:
    kinds: tuple[Kind, ...] = ("input", "output", "condition")
    before, after = (
        [f"{kind} {name}" for kind in kinds for name in _names(signature, kind)] for signature in (old, new)
    )
    return Adaptation(
        copied=tuple(name for name in after if name in before),
        fresh=tuple(name for name in after if name not in before),
        dropped=tuple(name for name in before if name not in after),
        weights=weights,
    )
