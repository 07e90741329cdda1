"""What training minimises. Shapes: B samples, C output channels, G groups, H rows, W columns.

All losses see normalised fields: errors count in standard deviations of their variable, and a
relative loss divides by the magnitude of the normalised target, mean removed. Scores in physical
units are the business of evaluation. A mask is True where a target exists; what lies under
False, NaN included, changes neither loss nor gradient.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pelagos.preprocessing.config import Config
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import Variable

Groups = tuple[tuple[int, ...], ...]


class Loss(Protocol):
    """From (prediction, target, mask), each (B, C, H, W), to numbers.

    Attributes:
        pooled: whether the loss of a batch is something else than the mean over its samples.
    """

    pooled: ClassVar[bool]

    def __call__(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """A scalar."""
        ...

    def per_sample(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """(B,) losses of the samples, each alone."""
        ...


class LossConfig(Config):
    """Which loss, and what weighs how much.

    Attributes:
        kind: `relative` per sample and variable group; `mse`; `poseidon`, relative but pooled
            over the batch, as Poseidon was trained (it knows no weights).
        p: 1 for absolute, 2 for squared errors; `mse` is always squared.
        epsilon: of `relative`, added to a target's mean magnitude, in normalised units, so that
            a group at rest does not drown all others.
        area_weights: whether points count by the area of their cell.
        variable_weights: factors on variables' errors by key, 1 where absent; a dataset without
            the variable ignores it.
    """

    kind: Literal["relative", "mse", "poseidon"] = "relative"
    p: Literal[1, 2] = 1
    epsilon: float = Field(default=1e-2, gt=0)
    area_weights: bool = True
    variable_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _poseidon_is_unweighted(self) -> Self:
        if self.kind == "poseidon" and self.variable_weights:
            raise ValueError("the loss of kind poseidon has no variable_weights; use kind relative or mse")
        return self

    def build(self, layout: Layout) -> Loss:
        """The loss on this dataset's samples."""
        groups = channel_groups(layout.outputs)
        if self.kind == "poseidon":
            return PooledRelativeLoss(groups, self.p)
        weights = torch.tensor([self.variable_weights.get(v.key, 1.0) for v in layout.outputs])
        area = torch.from_numpy(layout.grid.area_weights()) if self.area_weights else 1.0
        if self.kind == "mse":
            return MeanSquaredLoss(area, weights)
        return RelativeLoss(groups, self.p, self.epsilon, area, weights)


def channel_groups(variables: Iterable[Variable]) -> Groups:
    """Positions of the variables that are scored together, groups in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for position, variable in enumerate(variables):
        groups.setdefault(variable.score_group, []).append(position)
    return tuple(tuple(group) for group in groups.values())


@dataclass(frozen=True, eq=False)
class RelativeLoss:
    """‖w·e‖ / (‖t‖ + ε), averaged over samples and variable groups.

    Norms are p-th roots of area-weighted means over the valid points of one sample's group.
    A group without valid points is left out of its sample's mean; a sample without any counts
    as 0, so that the loss of a batch is the mean of its parts however it is split.

    Attributes:
        groups: channels that share one ratio.
        p: 1 or 2.
        epsilon: positive.
        area: (H, W) relative sizes of the cells.
        weights: (C,) factors on errors.
    """

    pooled: ClassVar[bool] = False
    groups: Groups
    p: Literal[1, 2] = 1
    epsilon: float = 1e-2
    area: Tensor | float = 1.0
    weights: Tensor | float = 1.0

    def __call__(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """The mean over samples of `per_sample`."""
        return self.per_sample(prediction_BCHW, target_BCHW, mask_BCHW).mean()

    def per_sample(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """(B,) losses; none depends on the batch that its sample is in."""
        error_BCHW = _valid(prediction_BCHW - target_BCHW, mask_BCHW)
        truth_BCHW = _valid(target_BCHW, mask_BCHW)
        area = _like(self.area, error_BCHW)
        extent_BG = self._grouped((mask_BCHW * area).sum((2, 3)), 1)
        present_BG = extent_BG > 0
        root_BG = extent_BG.where(present_BG, 1) ** (1 / self.p)
        error_BG = self._grouped(_like(self.weights, area) * self._norm(error_BCHW, area), self.p) / root_BG
        truth_BG = self._grouped(self._norm(truth_BCHW, area), self.p) / root_BG
        ratio_BG = error_BG / (truth_BG + self.epsilon)
        return ratio_BG.sum(1) / present_BG.sum(1).clamp(min=1)

    def _norm(self, field_BCHW: Tensor, area: Tensor) -> Tensor:
        # vector_norm, unlike a root of a sum, has a finite gradient where the error vanishes.
        norm_BC: Tensor = torch.linalg.vector_norm(field_BCHW * area ** (1 / self.p), self.p, dim=(2, 3))
        return norm_BC

    def _grouped(self, norm_BC: Tensor, p: int) -> Tensor:
        return torch.stack([torch.linalg.vector_norm(norm_BC[:, list(g)], p, dim=1) for g in self.groups], 1)


@dataclass(frozen=True, eq=False)
class MeanSquaredLoss:
    """The weighted mean of squared errors over the valid points of a sample, averaged over samples.

    Attributes:
        area: (H, W) relative sizes of the cells.
        weights: (C,) weights of channels.
    """

    pooled: ClassVar[bool] = False
    area: Tensor | float = 1.0
    weights: Tensor | float = 1.0

    def __call__(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """The mean over samples of `per_sample`."""
        return self.per_sample(prediction_BCHW, target_BCHW, mask_BCHW).mean()

    def per_sample(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """(B,) losses; a sample without valid points counts as 0."""
        error_BCHW = _valid(prediction_BCHW - target_BCHW, mask_BCHW)
        area, weights = _like(self.area, error_BCHW), _like(self.weights, error_BCHW)
        squares_BC = (error_BCHW.square() * area).sum((2, 3)) * weights
        extent_B = ((mask_BCHW * area).sum((2, 3)) * weights).sum(1)
        return squares_BC.sum(1) / extent_B.where(extent_B > 0, 1)


@dataclass(frozen=True, eq=False)
class PooledRelativeLoss:
    """Poseidon's training loss: mean |e|^p / (mean |t|^p + 1e-10) per group, pooled over the batch.

    A masked point counts as an error of zero, and its target, which must be a number, still
    counts in the denominator. Poseidon gets there by pasting labels into its output; here the
    output stays what it is. Source: arXiv 2405.19101 and its released code.
    """

    pooled: ClassVar[bool] = True
    groups: Groups
    p: Literal[1, 2] = 1

    def __call__(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """The mean over groups; a sample's share depends on the others of its batch."""
        return self._ratio(prediction_BCHW, target_BCHW, mask_BCHW, (0, 2, 3))

    def per_sample(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """(B,) what each sample would give as a batch of its own."""
        return self._ratio(prediction_BCHW, target_BCHW, mask_BCHW, (2, 3))

    def _ratio(self, prediction: Tensor, target: Tensor, mask: Tensor, pooled: tuple[int, ...]) -> Tensor:
        error_C = _valid(prediction - target, mask).abs().pow(self.p).mean(pooled)
        truth_C = target.abs().pow(self.p).mean(pooled)
        ratios = [
            error_C[..., list(group)].mean(-1) / (truth_C[..., list(group)].mean(-1) + 1e-10)
            for group in self.groups
        ]
        return torch.stack(ratios).mean(0)


def _valid(field_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
    return torch.where(mask_BCHW, field_BCHW, 0)


def _like(weights: Tensor | float, field: Tensor) -> Tensor:
    return torch.as_tensor(weights, dtype=field.dtype, device=field.device)
