"""Batch: what crosses from data to training.

Shapes: B samples, K forecast steps, C channels, F of them forcing, H rows, W columns, S scalars.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.batch_scaling import Scaling

Kind = Literal["pairs", "windows", "rollouts"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one dataset, in normalised units; missing values are zero and marked by `mask`.

    With a `scaling`, fields are in physical units still, missing values NaN, and `mask` says nothing: `to`
    normalises them where it brings them.

    Attributes:
        layout: what the channels are.
        inputs: (B, C_in, H, W) fields at the initial time.
        targets: (B, C_out, H, W) fields at the valid time; of windows and rollouts (B, K, C_out, H, W), at all
            valid times.
        mask: bool in the shape of the targets, True where the target exists.
        forcings: (B, K - 1, F, H, W) forcing at the times that a rollout's later steps start from.
        lead_time: in units of the layout's time scale: (B,) of one forecast step; of windows (B, K), from the
            initial time.
        scalars: (B, S) parameters, NaN where a trajectory has none.
        index: (B, 3) int64 trajectory, initial frame and (last) valid frame in the store.
        kind: pairs; windows, whose frames are forecast from the initial one directly; or rollouts, whose
            frames are forecast one from the other.
        scaling: what has yet to normalise the fields.
    """

    layout: Layout
    inputs: Tensor
    targets: Tensor
    mask: Tensor
    forcings: Tensor
    lead_time: Tensor
    scalars: Tensor
    index: Tensor
    kind: Kind = "pairs"
    scaling: Scaling | None = None

    @property
    def steps(self) -> int:
        """K, the frames of a sample that are forecast."""
        return 1 if self.kind == "pairs" else self.targets.shape[1]

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device, normalised."""
        moved = [part.to(device, non_blocking=True) for part in (self.inputs, self.targets, self.forcings)]
        if self.scaling is None:
            inputs, targets, forcings = moved
            mask = self.mask.to(device, non_blocking=True)
        else:
            inputs, targets, mask, forcings = self.scaling.applied(*moved)
        return replace(
            self,
            inputs=inputs,
            targets=targets,
            mask=mask,
            forcings=forcings,
            lead_time=self.lead_time.to(device, non_blocking=True),
            scalars=self.scalars.to(device, non_blocking=True),
            scaling=None,
        )

    def __len__(self) -> int:
        return len(self.inputs)
