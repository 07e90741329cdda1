"""Step problem: what it means for the frames of several forecasts to follow from each other by an equation.

Shapes: N samples, M frames, C channels, S scalars, H rows, W columns, K modes of the real transform.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from pydantic import Field
from torch import Tensor

from pelagos.models.losses import ChannelGroups, channel_groups
from pelagos.models.refinement.spectral_modes import (
    VelocityPairs,
    project_solenoidal,
    require_periodic,
    to_fields,
    to_modes,
    wave_numbers,
)
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.grid import Grid
from pelagos.preprocessing.physics.pde import PDE
from pelagos.preprocessing.variables import keys

Propagator = Callable[[Tensor], Tensor]
"""Maps (N, M, C, H, W) states in physical units to those one interval later."""


class SobolevWeight(Config):
    """The norm of residuals: the root of the mean over frames of sum_k (alpha + |k|^2)^exponent |r_k|^2.

    Attributes:
        exponent: 0 for L2, -1 for H^-1, which forgives short waves, -2 for H^-2.
        alpha: added to |k|^2, in the square of a wave number's unit.
    """

    exponent: float = 0.0
    alpha: float = Field(default=1.0, gt=0)

    def amplitudes(self, grid: Grid) -> Tensor:
        """(H, K) factors of the coefficients, whose squares are the weights."""
        ky_HK, kx_HK = wave_numbers(grid)
        factors: Tensor = (self.alpha + kx_HK.square() + ky_HK.square()) ** (self.exponent / 2)
        return factors


@dataclass(frozen=True, eq=False)
class StepProblem:
    """Frames w_1, ..., w_M after a known w_0, and the equation w_m = P(w_{m-1}) between them.

    Attributes:
        grid: the periodic grid of the frames.
        propagate: P, in float64.
        modes: (N or 1, C, C, H, K) what P makes of each mode of a small change, approximately; (N or 1, 1, 1, H, K)
            where it is the same for all channels.
        groups: channels that share a scale, such as the components of a velocity, one of which may be close to zero.
        velocity: pairs of channels whose frames are free of divergence.
        fixed_means: channels whose mean stays that of w_0.
        weight: the norm of residuals.
    """

    grid: Grid
    propagate: Propagator
    modes: Tensor
    groups: ChannelGroups = ()
    velocity: VelocityPairs = ()
    fixed_means: tuple[int, ...] = ()
    weight: SobolevWeight = field(default_factory=SobolevWeight)

    def __post_init__(self) -> None:
        require_periodic(self.grid)

    @classmethod
    def of(
        cls,
        equation: PDE,
        grid: Grid,
        frames_NMCHW: Tensor,
        static_NCHW: Tensor,
        scalars_NS: Tensor,
        interval: float,
        dt: float | None = None,
        weight: SobolevWeight | None = None,
    ) -> "StepProblem":
        """The problem that an equation poses, linearised about the means of the frames.

        Args:
            equation: its variables are the channels, in order.
            grid: of the frames.
            frames_NMCHW: what is known of the trajectories.
            static_NCHW: the equation's static fields for each sample.
            scalars_NS: the equation's scalars for each sample.
            interval: time between frames.
            dt: longest time step; the equation's own choice by default.
            weight: L2 by default.
        """

        def propagate(states_NMCHW: Tensor) -> Tensor:
            count = states_NMCHW.shape[1]
            static, scalars = (v.repeat_interleave(count, 0) for v in (static_NCHW, scalars_NS))
            # Frames of a trajectory side by side, as if they were trajectories.
            advanced = equation.propagate(states_NMCHW.flatten(0, 1), static, scalars, interval, dt)
            return advanced.reshape(states_NMCHW.shape)

        names = keys(equation.variables)
        return cls(
            grid=grid,
            propagate=propagate,
            modes=equation.mode_propagator(frames_NMCHW.double(), static_NCHW, scalars_NS, interval),
            groups=channel_groups(equation.variables),
            velocity=((names.index("velocity_x"), names.index("velocity_y")),) if equation.solenoidal else (),
            fixed_means=tuple(names.index(key) for key in equation.conserved_means),
            weight=weight or SobolevWeight(),
        )

    def defect(self, frames_NMCHW: Tensor, anchor_NCHW: Tensor) -> Tensor:
        """(N, M, C, H, W): w_m - P(w_{m-1}), the residual times the interval."""
        return frames_NMCHW - self.propagate(torch.cat([anchor_NCHW[:, None], frames_NMCHW[:, :-1]], 1))

    def measured(self, fields_NMCHW: Tensor) -> Tensor:
        """The fields whose mean square is the square of the norm."""
        if self.weight.exponent == 0:
            return fields_NMCHW
        amplitudes_HK = self.weight.amplitudes(self.grid).to(fields_NMCHW.device)
        return to_fields(amplitudes_HK * to_modes(fields_NMCHW), self.grid)

    def scales(self, frames_NMCHW: Tensor, anchor_NCHW: Tensor) -> Tensor:
        """(N, 1, C, 1, 1): the norm of each channel or of its group; 1 where that is 0."""
        frames_NMCHW = self.measured(torch.cat([anchor_NCHW[:, None], frames_NMCHW], 1))
        square_NC = frames_NMCHW.square().mean((1, 3, 4))
        for group in self.groups:
            square_NC[:, list(group)] = square_NC[:, list(group)].mean(1, keepdim=True)
        return square_NC.where(square_NC > 0, 1).sqrt()[:, None, :, None, None]

    def relative_residual(
        self, frames_NMCHW: Tensor, anchor_NCHW: Tensor, beside_NMCHW: Tensor | None = None
    ) -> Tensor:
        """(N,) the norm of the defect, where each channel is scaled by its own or its group's norm.

        Args:
            frames_NMCHW: whose defect it is.
            anchor_NCHW: the known states before.
            beside_NMCHW: frames whose norms are the scales instead, to compare both on one scale.
        """
        frames, anchor = frames_NMCHW.double(), anchor_NCHW.double()
        scaling = frames if beside_NMCHW is None else beside_NMCHW.double()
        with torch.no_grad():
            defect = self.measured(self.defect(frames, anchor)) / self.scales(scaling, anchor)
        return root_mean_square(defect)

    def constrained(self, frames_NMCHW: Tensor, anchor_NCHW: Tensor) -> Tensor:
        """The frames with the means that stay and without divergence."""
        if self.fixed_means:
            change_NMC = anchor_NCHW[:, None].mean((3, 4)) - frames_NMCHW.mean((3, 4))
            kept_C = change_NMC.new_zeros(change_NMC.shape[-1])
            kept_C[list(self.fixed_means)] = 1
            frames_NMCHW = frames_NMCHW + (change_NMC * kept_C)[..., None, None]
        return project_solenoidal(frames_NMCHW, self.grid, self.velocity)

    def carried(self, defect_NMCHW: Tensor) -> Tensor:
        """What defects add up to when each is carried on to the later frames: the inverse of the linear problem."""
        sums: list[Tensor] = []
        for defect_NCHK in to_modes(defect_NMCHW).unbind(1):
            sums.append(defect_NCHK + self._carry(sums[-1]) if sums else defect_NCHK)
        return to_fields(torch.stack(sums, 1), self.grid)

    def _carry(self, modes_NCHK: Tensor) -> Tensor:
        if self.modes.shape[1] == 1:
            return self.modes[:, 0] * modes_NCHK
        # Summed channel by channel, which is several times faster than einsum for the few that there are.
        columns = self.modes.unbind(2)
        return torch.stack(
            [c * one[:, None] for c, one in zip(columns, modes_NCHK.unbind(1), strict=True)]
        ).sum(0)


def root_mean_square(values_N: Tensor) -> Tensor:
    """(N,) over all but the first dimension."""
    return values_N.flatten(1).square().mean(1).sqrt()
