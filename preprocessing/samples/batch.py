"""Batch: what crosses from data to training.

Shapes: B samples, A frames that are input, K forecast steps, C channels, F of them forcing, H rows, W columns,
S scalars.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.layout import Layout
from pelagos.preprocessing.samples.fill_kernels import Scales
from pelagos.preprocessing.samples.normalize import Normalizer

if TYPE_CHECKING:  # of stores in 16 bits alone
    from pelagos.preprocessing.store.coding import Coding


class BatchScaling:
    """Normalises one dataset's batches; missing values become zero.

    Kernels and tensors give the same bits, so that a run on a GPU sees the samples of one on the CPU.

    Attributes:
        scales: the channels' scales, as kernels take them.
        complete: whether no value is missing anywhere.
    """

    def __init__(
        self,
        inputs: Normalizer,
        outputs: Normalizer,
        forcings: Normalizer,
        *,
        complete: bool,
        codings: "Sequence[Coding]" = (),
    ) -> None:
        """Take the normalisers of the input, output and forcing channels, and the codings of fields in 16 bits."""
        self.scales = Scales(_scale(inputs), _scale(outputs), _scale(forcings))
        self.complete = complete
        self._codings = [np.stack([one.scale, one.offset]) for one in codings]
        self._tensors: dict[torch.device, tuple[Tensor, ...]] = {}

    def apply(
        self, inputs: Tensor, targets: Tensor, forcings: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The normalised inputs, targets, mask of existing targets, and forcings; the arguments stay as they are."""
        device = inputs.device
        # Copied to a device once: a copy with each batch would make the device wait for the host.
        if device not in self._tensors:
            held = (*self.scales, *self._codings)
            self._tensors[device] = tuple(torch.from_numpy(scale).to(device) for scale in held)
        # Difference times inverse, as in the kernels: any other order would round differently.
        scales, codings = self._tensors[device][:3], self._tensors[device][3:]
        if inputs.dtype == torch.float16:
            inputs, targets, forcings = (
                _decoded(fields, _repeated(coding, fields))
                for fields, coding in zip((inputs, targets, forcings), codings, strict=True)
            )
        inputs, targets, forcings = (
            (fields - scale[0, :, None, None]).mul_(scale[1, :, None, None])
            for fields, scale in (
                (fields, _repeated(scale, fields))
                for fields, scale in zip((inputs, targets, forcings), scales, strict=True)
            )
        )
        if self.complete:
            return inputs, targets, torch.ones_like(targets, dtype=torch.bool), forcings
        mask = targets.isfinite()
        return _without_nan(inputs), targets.masked_fill_(~mask, 0), mask, _without_nan(forcings)


def _repeated(scale: Tensor, fields: Tensor) -> Tensor:
    """The scale of each channel; those of earlier frames, which are inputs, are those of the initial one."""
    return (
        scale if scale.shape[1] == fields.shape[-3] else scale.repeat(1, fields.shape[-3] // scale.shape[1])
    )


def _decoded(fields: Tensor, coding: Tensor) -> Tensor:
    """(..., C, H, W) values of fields in 16 bits, to the bit as `Coding.decode` makes them."""
    return fields.float().mul_(coding[0, :, None, None]).add_(coding[1, :, None, None])


def _without_nan(fields: Tensor) -> Tensor:
    return fields.masked_fill_(fields.isnan(), 0)


def _scale(normalizer: Normalizer) -> Float32s:
    # The inverse, since a product is quicker than a quotient in every kernel; the bits depend on it.
    return np.stack([normalizer.mean, 1 / normalizer.std]).astype(np.float32)


Kind = Literal["pairs", "windows", "rollouts"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one dataset, in normalised units; missing values are zero and marked by `mask`.

    Attributes:
        layout: what the channels are.
        inputs: (B, A C_in, H, W) fields at the initial time, then those of the layout's history.
        targets: (B, C_out, H, W) fields at the valid time; of windows and rollouts (B, K, C_out, H, W), at all
            valid times.
        mask: bool in the shape of the targets, True where the target exists.
        forcings: (B, K - 1, F, H, W) forcing at the times that a rollout's later steps start from; (B, K, F, H, W), to
            the last valid time, where networks see it.
        lead_time: in units of the layout's time scale: (B,) of one forecast step; of windows (B, K), from the
            initial time.
        scalars: (B, S) parameters, NaN where a trajectory has none.
        index: (B, 3) int64 trajectory, initial frame and (last) valid frame in the store.
        kind: pairs; windows, whose frames are forecast from the initial one directly; or rollouts, whose
            frames are forecast one from the other.
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

    @property
    def steps(self) -> int:
        """K, the frames of a sample that are forecast."""
        return _steps(self)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device, but for the index, which stays where it is."""
        # The index says where samples come from, which no device needs to know.
        names = ("inputs", "targets", "mask", "forcings", "lead_time", "scalars")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return replace(self, **moved)

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class UnscaledBatch:
    """Samples of one dataset as they are stored, missing values NaN: `to` normalises them where it brings them.

    A GPU does so at no cost to the processor's cores, which read the next batches meanwhile.

    Attributes:
        layout: what the channels are.
        inputs: (B, A C_in, H, W) fields at the initial time and before, in physical units.
        targets: (B, C_out, H, W), or (B, K, C_out, H, W), fields at the valid times, in physical units.
        forcings: (B, K - 1, F, H, W), or (B, K, F, H, W), forcing at the later times, in physical units.
        lead_time: (B,), or (B, K) of windows, in units of the layout's time scale.
        scalars: (B, S) parameters, NaN where a trajectory has none.
        index: (B, 3) int64 trajectory, initial frame and (last) valid frame in the store.
        kind: pairs, windows or rollouts.
        scaling: normalises the fields.
    """

    layout: Layout
    inputs: Tensor
    targets: Tensor
    forcings: Tensor
    lead_time: Tensor
    scalars: Tensor
    index: Tensor
    kind: Kind
    scaling: BatchScaling

    @property
    def steps(self) -> int:
        """K, the frames of a sample that are forecast."""
        return _steps(self)

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device, normalised; the fields here stay as they are."""
        fields = (part.to(device, non_blocking=True) for part in (self.inputs, self.targets, self.forcings))
        inputs, targets, mask, forcings = self.scaling.apply(*fields)
        return Batch(
            layout=self.layout,
            inputs=inputs,
            targets=targets,
            mask=mask,
            forcings=forcings,
            lead_time=self.lead_time.to(device, non_blocking=True),
            scalars=self.scalars.to(device, non_blocking=True),
            index=self.index,
            kind=self.kind,
        )

    def __len__(self) -> int:
        return len(self.inputs)


LoadedBatch = Batch | UnscaledBatch
"""What a loader gives: either becomes a batch on the device that it is brought to."""


def _steps(batch: LoadedBatch) -> int:
    return 1 if batch.kind == "pairs" else batch.targets.shape[1]
