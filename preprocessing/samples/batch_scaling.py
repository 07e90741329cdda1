"""Batch scaling: normalises batches, in the memory that they are read into or on the device that they go to."""

import numpy as np
import torch
from torch import Tensor

from pelagos.preprocessing.array_types import Float32s
from pelagos.preprocessing.samples.fill_kernels import Scales
from pelagos.preprocessing.samples.normalize import Normalizer


class BatchScaling:
    """Normalises one dataset's batches; missing values become zero.

    Kernels and tensors give the same bits, so that a run on a GPU sees the samples of one on the CPU.

    Attributes:
        scales: of the channels, as kernels take them.
        complete: whether no value is missing anywhere.
    """

    def __init__(
        self, inputs: Normalizer, outputs: Normalizer, forcings: Normalizer, *, complete: bool
    ) -> None:
        """From the normalisers of the input, output and forcing channels."""
        self.scales = Scales(_scale(inputs), _scale(outputs), _scale(forcings))
        self.complete = complete
        self._tensors: dict[torch.device, tuple[Tensor, ...]] = {}

    def apply(
        self, inputs: Tensor, targets: Tensor, forcings: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The normalised inputs, targets, mask of existing targets, and forcings; the arguments stay as they are."""
        device = inputs.device
        # Copied to a device once: a copy with each batch would make the device wait for the host.
        if device not in self._tensors:
            self._tensors[device] = tuple(torch.from_numpy(scale).to(device) for scale in self.scales)
        inputs, targets, forcings = (
            (fields - scale[0, :, None, None]).mul_(scale[1, :, None, None])
            for fields, scale in zip((inputs, targets, forcings), self._tensors[device], strict=True)
        )
        if self.complete:
            return inputs, targets, torch.ones_like(targets, dtype=torch.bool), forcings
        mask = targets.isfinite()
        return _without_nan(inputs), targets.masked_fill_(~mask, 0), mask, _without_nan(forcings)


def _without_nan(fields: Tensor) -> Tensor:
    return fields.masked_fill_(fields.isnan(), 0)


def _scale(normalizer: Normalizer) -> Float32s:
    # The inverse, since a product is quicker than a quotient in every kernel; the bits depend on it.
    return np.stack([normalizer.mean, 1 / normalizer.std]).astype(np.float32)
