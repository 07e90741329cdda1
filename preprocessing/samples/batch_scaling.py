"""Scaling: what normalises batches, in the memory they are read into or on the device they go to."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pelagos.preprocessing.samples.fill_kernels import Scales
from pelagos.preprocessing.samples.normalize import Normalizer


class Scaling:
    """Normalises one dataset's batches; missing values become zero. Both ways give the same bits.

    Attributes:
        scales: of the channels, for kernels.
        complete: whether no value is missing anywhere.
    """

    def __init__(
        self, inputs: Normalizer, outputs: Normalizer, forcings: Normalizer, *, complete: bool
    ) -> None:
        """From the normalisers of the input, output and forcing channels."""
        self.scales = Scales(_scale(inputs), _scale(outputs), _scale(forcings))
        self.complete = complete
        self._tensors: dict[torch.device, tuple[Tensor, ...]] = {}

    def applied(
        self, inputs: Tensor, targets: Tensor, forcings: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised inputs, targets, the mask of those that exist, and forcings; the given stay as they are."""
        device = inputs.device
        if device not in self._tensors:
            self._tensors[device] = tuple(torch.from_numpy(scale).to(device) for scale in self.scales)
        inputs, targets, forcings = (
            (fields - scale[0, :, None, None]).mul_(scale[1, :, None, None])
            for fields, scale in zip((inputs, targets, forcings), self._tensors[device], strict=True)
        )
        if self.complete:
            return inputs, targets, torch.ones_like(targets, dtype=torch.bool), forcings
        mask = targets.isfinite()
        return _filled(inputs), targets.masked_fill_(~mask, 0), mask, _filled(forcings)


def _filled(fields: Tensor) -> Tensor:
    return fields.masked_fill_(fields.isnan(), 0)


def _scale(normalizer: Normalizer) -> NDArray[np.float32]:
    return np.stack([normalizer.mean, 1 / normalizer.std]).astype(np.float32)
