"""What training minimises.

All losses see normalised fields: errors count in standard deviations of their variable, and a
relative loss divides by the magnitude of the normalised target, whose mean is removed. Scores in
physical units belong to evaluation. A mask is True where a target exists; values elsewhere, NaN
included, change neither loss nor gradient.

Shapes: B samples, C output channels, G groups, H rows, W columns, K octaves.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.octaves import octave_norms
from pelagos.models.layers.padding import Periodic
from pelagos.models.layers.row_layout import WHOLE, RowLayout
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.variables import Variable

ChannelGroups = tuple[tuple[int, ...], ...]
"""Channels that are measured together, such as the components of a vector."""


class Loss(Protocol):
    """A loss of (prediction, target, mask), each (B, C, H, W).

    Attributes:
        pooled: whether the loss of a batch differs from the mean over its samples.
    """

    pooled: ClassVar[bool]

    @property
    def members(self) -> int:
        """Forecasts of each sample that are scored together: (B, members, C, H, W) where there are several."""
        ...

    @property
    def left_out(self) -> tuple[int, ...]:
        """Channels whose errors do not count."""
        ...

    def __call__(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor, /) -> Tensor:
        """The loss of the batch, a scalar."""
        ...

    def per_sample(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor, /) -> Tensor:
        """(B,) the loss of each sample by itself."""
        ...


class LossConfig(Config):
    """The choice of a loss and its weights.

    Attributes:
        kind: `relative` per sample and variable group; `mse`; `poseidon`, relative but pooled
            over the batch, the loss that Poseidon was trained with, which has no weights; or `crps`, of an
            ensemble whose members differ by the noise that conditions the network.
        p: 1 for absolute, 2 for squared errors; `mse` is always squared.
        epsilon: added to a target's mean magnitude in `relative`, in normalised units, so that
            a group at rest does not dominate all others.
        area_weights: whether points are weighted by the area of their cell.
        variable_weights: factors on the errors of variables, by key; 1 for those not named. A
            variable that a dataset lacks is ignored.
        gradient: the weight of the same loss of differences from point to point, beside that of values, in `relative`
            and `mse`: with both the norm is of H1 for p: 2, or W1,1.
        octaves: the weight of relative errors of each octave of waves, averaged over octaves, in `relative` and `mse`.
        members: of `crps`: forecasts of each sample; memory and time grow with them.
        noise: of `crps`: how many random numbers condition the network.
        fairness: of `crps`: the share of the fair score, whose ensembles may agree on what is wrong, against the
            plain one, which asks small ensembles for too little spread.
    """

    kind: Literal["relative", "mse", "poseidon", "crps"] = "relative"
    p: Literal[1, 2] = 1
    epsilon: float = Field(default=1e-2, gt=0)
    area_weights: bool = True
    variable_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    gradient: float = Field(default=0.0, ge=0)
    octaves: float = Field(default=0.0, ge=0)
    members: int = Field(default=4, ge=2, le=64)
    noise: int = Field(default=16, gt=0)
    fairness: float = Field(default=0.95, ge=0, le=1)

    @property
    def num_members(self) -> int:
        """Forecasts of each sample in training."""
        return self.members if self.kind == "crps" else 1

    @property
    def num_noise(self) -> int:
        """Random numbers that the network is trained with."""
        return self.noise if self.kind == "crps" else 0

    @model_validator(mode="after")
    def _poseidon_is_unweighted(self) -> Self:
        if self.kind == "poseidon" and self.variable_weights:
            raise ValueError("the loss of kind poseidon has no variable_weights; use kind relative or mse")
        return self

    @model_validator(mode="after")
    def _of_ensembles(self) -> Self:
        for key in ("members", "noise", "fairness"):
            if self.kind != "crps" and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} goes with kind crps, not with {self.kind}")
        if self.kind == "crps" and self.p != 1:
            raise ValueError("p: crps is of absolute errors")
        return self

    @model_validator(mode="after")
    def _fine_scales_of_values(self) -> Self:
        if (self.gradient or self.octaves) and self.kind not in ("relative", "mse"):
            raise ValueError(f"gradient and octaves go with kind relative or mse, not with {self.kind}")
        return self

    def build(self, layout: Layout, rows: RowLayout = WHOLE) -> Loss:
        """The loss on this dataset's samples, of which a process may have some rows.

        Raises:
            ConfigError: it is of differences or of waves, for which a process needs all rows.
        """
        values = self._of_values(layout, rows)
        if not (self.gradient or self.octaves):
            return values
        if rows.shared:
            raise ConfigError("loss.gradient and loss.octaves need all rows of a sample: engine.domain: 1")
        assert isinstance(values, RelativeLoss | MeanSquaredLoss)
        weights = torch.tensor([self.variable_weights.get(v.key, 1.0) for v in layout.outputs])
        return FineScaleLoss(values, self.gradient, self.octaves, layout.grid.periodic, self.epsilon, weights)

    def _of_values(self, layout: Layout, rows: RowLayout) -> Loss:
        left_out = self.left_out(layout)
        groups = _without(channel_groups(layout.outputs), left_out)
        if self.kind == "poseidon":
            return PooledRelativeLoss(groups, self.p, left_out, rows)
        weights = torch.tensor([self.variable_weights.get(v.key, 1.0) for v in layout.outputs])
        # Near the poles of a latitude-longitude grid cells are small and many.
        area = torch.from_numpy(layout.grid.area_weights()) if self.area_weights else 1.0
        if rows.shared and isinstance(area, Tensor):
            area = area[rows.own.start : rows.own.stop]
        if self.kind == "mse":
            return MeanSquaredLoss(area, weights, rows)
        if self.kind == "crps":
            return EnsembleLoss(self.members, self.fairness, area, weights, rows)
        return RelativeLoss(groups, self.p, self.epsilon, area, weights, left_out, rows)

    def left_out(self, layout: Layout) -> tuple[int, ...]:
        """Channels at rest, where errors count relative to the target: theirs is 0 and would outweigh all others."""
        found = tuple(n for n, variable in enumerate(layout.outputs) if variable.key in layout.at_rest)
        # Where nothing moves there is nothing to outweigh, and a loss needs a channel.
        return () if self.kind in ("mse", "crps") or len(found) == len(layout.outputs) else found


def channel_groups(variables: Iterable[Variable]) -> ChannelGroups:
    """Positions of the variables that are scored together; groups are in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for position, variable in enumerate(variables):
        groups.setdefault(variable.score_group, []).append(position)
    return tuple(tuple(group) for group in groups.values())


def _without(groups: ChannelGroups, left_out: tuple[int, ...]) -> ChannelGroups:
    rest = [tuple(channel for channel in group if channel not in left_out) for group in groups]
    return tuple(group for group in rest if group)


@dataclass(frozen=True, eq=False)
class RelativeLoss:
    """‖w·e‖ / (‖t‖ + ε), averaged over samples and variable groups.

    Norms are p-th roots of area-weighted means over the valid points of one sample's group.
    A group without valid points is left out of its sample's mean; a sample without any counts
    as 0, so that the loss of a batch is the mean of its parts however it is split.

    Attributes:
        groups: channels that share one ratio.
        p: the exponent of the norms, 1 or 2.
        epsilon: the positive ε.
        area: (H, W) relative sizes of the cells.
        weights: (C,) factors on errors.
        left_out: channels of no group.
        rows: which rows this process has; the loss is that of all.
    """

    pooled: ClassVar[bool] = False
    members: ClassVar[int] = 1
    groups: ChannelGroups
    p: Literal[1, 2] = 1
    epsilon: float = 1e-2
    area: Tensor | float = 1.0
    weights: Tensor | float = 1.0
    left_out: tuple[int, ...] = ()
    rows: RowLayout = WHOLE

    def __call__(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """The mean over samples of `per_sample`."""
        return self.per_sample(prediction_BCHW, target_BCHW, mask_BCHW).mean()

    def per_sample(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """(B,) losses, each independent of the other samples of its batch."""
        error_BCHW = _zero_where_masked(prediction_BCHW - target_BCHW, mask_BCHW)
        truth_BCHW = _zero_where_masked(target_BCHW, mask_BCHW)
        area = _as_tensor_like(self.area, error_BCHW)
        extent_BG = self._grouped(self.rows.total((mask_BCHW * area).sum((2, 3))), 1)
        present_BG = extent_BG > 0
        # The norms below are sums; divided by the valid area they are means, the same at every resolution.
        root_BG = extent_BG.where(present_BG, 1) ** (1 / self.p)
        error_BG = (
            self._grouped(_as_tensor_like(self.weights, area) * self._norm(error_BCHW, area), self.p)
            / root_BG
        )
        truth_BG = self._grouped(self._norm(truth_BCHW, area), self.p) / root_BG
        ratio_BG = error_BG / (truth_BG + self.epsilon)
        # Absent groups have a ratio of 0; a sample without any group divides by 1, not by 0.
        return ratio_BG.sum(1) / present_BG.sum(1).clamp(min=1)

    def _norm(self, field_BCHW: Tensor, area: Tensor) -> Tensor:
        # Unlike a root of a sum, vector_norm has a finite gradient where the error vanishes.
        norm_BC: Tensor = torch.linalg.vector_norm(field_BCHW * area ** (1 / self.p), self.p, dim=(2, 3))
        return self.rows.norm(norm_BC, self.p)

    def _grouped(self, norm_BC: Tensor, p: int) -> Tensor:
        return torch.stack(
            [
                torch.linalg.vector_norm(norm_BC[:, constant(g, norm_BC.device)], p, dim=1)
                for g in self.groups
            ],
            1,
        )


@dataclass(frozen=True, eq=False)
class MeanSquaredLoss:
    """The weighted mean of squared errors over the valid points of a sample, averaged over samples.

    Attributes:
        area: (H, W) relative sizes of the cells.
        weights: (C,) weights of channels.
        rows: which rows this process has; the loss is that of all.
    """

    pooled: ClassVar[bool] = False
    members: ClassVar[int] = 1
    left_out: ClassVar[tuple[int, ...]] = ()
    area: Tensor | float = 1.0
    weights: Tensor | float = 1.0
    rows: RowLayout = WHOLE

    def __call__(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """The mean over samples of `per_sample`."""
        return self.per_sample(prediction_BCHW, target_BCHW, mask_BCHW).mean()

    def per_sample(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """(B,) losses; a sample without valid points counts as 0."""
        error_BCHW = _zero_where_masked(prediction_BCHW - target_BCHW, mask_BCHW)
        area, weights = _as_tensor_like(self.area, error_BCHW), _as_tensor_like(self.weights, error_BCHW)
        squares_BC = self.rows.total((error_BCHW.square() * area).sum((2, 3))) * weights
        extent_B = (self.rows.total((mask_BCHW * area).sum((2, 3))) * weights).sum(1)
        # Without valid points or with all weights 0 the numerator is 0 as well.
        return squares_BC.sum(1) / extent_B.where(extent_B > 0, 1)


@dataclass(frozen=True, eq=False)
class FineScaleLoss:
    """The loss of values, plus `gradient` times that of differences, plus `octaves` times the error of an octave.

    Differences are from point to point; the two axes' losses are averaged. An octave's error is ‖e‖ / (‖t‖ + ε), by
    root mean squares of what it holds of the fields, averaged over octaves and channels. Across axes that are not
    periodic fields are continued as their mirror image, which has no jump.

    Attributes:
        values: the loss of values.
        gradient: the weight of differences.
        octaves: the weight of octaves.
        periodic: whether rows, and columns, wrap around.
        epsilon: ε.
        weights: (C,) factors on the errors of octaves.
    """

    pooled: ClassVar[bool] = False
    members: ClassVar[int] = 1
    values: RelativeLoss | MeanSquaredLoss
    gradient: float
    octaves: float
    periodic: Periodic
    epsilon: float
    weights: Tensor

    @property
    def left_out(self) -> tuple[int, ...]:
        """Channels whose errors do not count."""
        return self.values.left_out

    def __call__(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """The mean over samples of `per_sample`."""
        return self.per_sample(prediction_BCHW, target_BCHW, mask_BCHW).mean()

    def per_sample(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """(B,) losses, each independent of the other samples of its batch."""
        loss_B = self.values.per_sample(prediction_BCHW, target_BCHW, mask_BCHW)
        if self.gradient:
            for axis, periodic in zip((-2, -1), self.periodic, strict=True):
                found, wanted = (_differences(x, axis) for x in (prediction_BCHW, target_BCHW))
                both_BCHW = _both_valid(mask_BCHW, axis, periodic=periodic)
                loss_B = loss_B + self.gradient / 2 * self.values.per_sample(found, wanted, both_BCHW)
        if self.octaves:
            loss_B = loss_B + self.octaves * self._of_octaves(prediction_BCHW, target_BCHW, mask_BCHW)
        return loss_B

    def _of_octaves(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        error_BCK, truth_BCK = (
            octave_norms(torch.where(mask_BCHW, field, 0), self.periodic)
            for field in (prediction_BCHW - target_BCHW, target_BCHW)
        )
        ratio_BC = (error_BCK / (truth_BCK + self.epsilon)).mean(-1)
        counted = tuple(channel not in self.left_out for channel in range(ratio_BC.shape[1]))
        present_BC = mask_BCHW.any(-1).any(-1) & constant(counted, ratio_BC.device)
        weighted_BC = torch.where(present_BC, ratio_BC, 0) * constant(
            self.weights, ratio_BC.device, ratio_BC.dtype
        )
        return weighted_BC.sum(1) / present_BC.sum(1).clamp(min=1)


@dataclass(frozen=True, eq=False)
class EnsembleLoss:
    """The almost fair CRPS of M members, a weighted mean over the valid points of a sample.

    With e = (1 - fairness) / M it is the mean over pairs of members j, k of
    (|x_j - y| + |x_k - y| - (1 - e) |x_j - x_k|) / 2: the fair score for a fairness of 1, the plain one for 0.

    Source: Lang et al., AIFS-CRPS (2024, arXiv:2412.15832), equation 4, in the form whose terms are never negative.

    Attributes:
        members: M.
        fairness: alpha in the paper.
        area: (H, W) relative sizes of the cells.
        weights: (C,) weights of channels.
        rows: which rows this process has; the loss is that of all.
    """

    pooled: ClassVar[bool] = False
    left_out: ClassVar[tuple[int, ...]] = ()
    members: int
    fairness: float
    area: Tensor | float = 1.0
    weights: Tensor | float = 1.0
    rows: RowLayout = WHOLE

    def __call__(self, prediction_BMCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """The mean over samples of `per_sample`."""
        return self.per_sample(prediction_BMCHW, target_BCHW, mask_BCHW).mean()

    def per_sample(self, prediction_BMCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """(B,) losses; a sample without valid points counts as 0."""
        score_BCHW = _zero_where_masked(self._scores(prediction_BMCHW, target_BCHW), mask_BCHW)
        area, weights = _as_tensor_like(self.area, score_BCHW), _as_tensor_like(self.weights, score_BCHW)
        total_B = (self.rows.total((score_BCHW * area).sum((2, 3))) * weights).sum(1)
        extent_B = (self.rows.total((mask_BCHW * area).sum((2, 3))) * weights).sum(1)
        return total_B / extent_B.where(extent_B > 0, 1)

    def _scores(self, prediction_BMCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) the score of each point."""
        members = prediction_BMCHW.unbind(1)
        assert len(members) == self.members, (len(members), self.members)
        number, closeness = self.members, 1 - (1 - self.fairness) / self.members
        errors = [(member - target_BCHW).abs() for member in members]
        # Pair by pair: all differences at once would take M times the memory of the forecasts.
        pairs = [
            errors[j] + errors[k] - closeness * (members[j] - members[k]).abs()
            for j in range(number)
            for k in range(j)
        ]
        return torch.stack(pairs).sum(0) / (number * (number - 1))


@dataclass(frozen=True, eq=False)
class PooledRelativeLoss:
    """Poseidon's training loss: mean |e|^p / (mean |t|^p + 1e-10) per group, pooled over the batch.

    A masked point counts as an error of zero, and its target, which must be a number, still counts
    in the denominator. Poseidon does so by pasting labels into its output, which is left alone here.

    Source: Herde et al., Poseidon (2024, arXiv:2405.19101), and its released code.

    Attributes:
        groups: channels that share one ratio.
        p: the exponent, 1 or 2.
        left_out: channels of no group.
        rows: which rows this process has; the loss is that of all.
    """

    pooled: ClassVar[bool] = True
    members: ClassVar[int] = 1
    groups: ChannelGroups
    p: Literal[1, 2] = 1
    left_out: tuple[int, ...] = ()
    rows: RowLayout = WHOLE

    def __call__(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """The mean over groups; a sample's contribution depends on the others of its batch."""
        return self._ratio(prediction_BCHW, target_BCHW, mask_BCHW, (0, 2, 3))

    def per_sample(self, prediction_BCHW: Tensor, target_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
        """(B,) the loss of each sample as a batch of its own."""
        return self._ratio(prediction_BCHW, target_BCHW, mask_BCHW, (2, 3))

    def _ratio(self, prediction: Tensor, target: Tensor, mask: Tensor, pooled: tuple[int, ...]) -> Tensor:
        error_C = self.rows.average(
            _zero_where_masked(prediction - target, mask).abs().pow(self.p).mean(pooled)
        )
        truth_C = self.rows.average(target.abs().pow(self.p).mean(pooled))
        indices = [constant(group, error_C.device) for group in self.groups]
        ratios = [error_C[..., index].mean(-1) / (truth_C[..., index].mean(-1) + 1e-10) for index in indices]
        return torch.stack(ratios).mean(0)


def _differences(field_BCHW: Tensor, axis: int) -> Tensor:
    """From each point to the next, beyond the last one to the first."""
    return field_BCHW.roll(-1, axis) - field_BCHW


def _both_valid(mask_BCHW: Tensor, axis: int, *, periodic: bool) -> Tensor:
    both_BCHW = mask_BCHW & mask_BCHW.roll(-1, axis)
    if not periodic:
        both_BCHW.narrow(axis, both_BCHW.shape[axis] - 1, 1).fill_(False)
    return both_BCHW


def _zero_where_masked(field_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
    # A product with the mask would keep NaN.
    return torch.where(mask_BCHW, field_BCHW, 0)


def _as_tensor_like(weights: Tensor | float, field: Tensor) -> Tensor:
    return constant(weights, field.device, field.dtype)
