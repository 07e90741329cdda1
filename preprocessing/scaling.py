"""Scaling: normalises the fields of batches in the memory they were read into, or on the device they went to.

Shapes: B samples, K forecast steps, C channels, F of them forcing, H rows, W columns.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pelagos.preprocessing.normalize import Normalizer

Frames = NDArray[np.float32]
Flags = NDArray[np.bool_]


class Scaling:
    """Normalises one dataset's batches; missing values become zero. Both ways give the same bits.

    Args:
        inputs: scales of the input channels.
        outputs: of the output channels.
        forcings: of the forcing channels.
        complete: whether no value is missing anywhere.
    """

    def __init__(
        self, inputs: Normalizer, outputs: Normalizer, forcings: Normalizer, *, complete: bool
    ) -> None:
        self._inputs, self._outputs, self._forcings = _Scale(inputs), _Scale(outputs), _Scale(forcings)
        self._complete = complete

    def apply(self, inputs: Frames, targets: Frames, mask: Flags, forcings: Frames) -> None:
        """Normalise (..., C, H, W) in place and mark the targets that exist, where some may be missing."""
        self._inputs.apply(inputs)
        self._outputs.apply(targets)
        self._forcings.apply(forcings)
        if self._complete:
            return
        np.isfinite(targets, out=mask)
        np.copyto(targets, 0, where=~mask)
        for fields in (inputs, forcings):
            np.copyto(fields, 0, where=np.isnan(fields))

    def applied(
        self, inputs: Tensor, targets: Tensor, forcings: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised inputs, targets, the mask of those that exist, and forcings; the given stay as they are."""
        inputs, targets, forcings = (
            scale.applied(fields)
            for scale, fields in (
                (self._inputs, inputs),
                (self._outputs, targets),
                (self._forcings, forcings),
            )
        )
        if self._complete:
            return inputs, targets, torch.ones_like(targets, dtype=torch.bool), forcings
        mask = targets.isfinite()
        return _filled(inputs), targets.masked_fill_(~mask, 0), mask, _filled(forcings)


def _filled(fields: Tensor) -> Tensor:
    return fields.masked_fill_(fields.isnan(), 0)


class _Scale:
    """Of the channels of some fields."""

    def __init__(self, normalizer: Normalizer) -> None:
        self._mean = normalizer.mean[:, None, None].astype(np.float32)
        self._inverse = (1 / normalizer.std)[:, None, None].astype(np.float32)
        self._tensors: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def apply(self, x_CHW: Frames) -> None:
        np.subtract(x_CHW, self._mean, out=x_CHW)
        np.multiply(x_CHW, self._inverse, out=x_CHW)

    def applied(self, x_CHW: Tensor) -> Tensor:
        device = x_CHW.device
        if device not in self._tensors:
            self._tensors[device] = (
                torch.from_numpy(self._mean).to(device),
                torch.from_numpy(self._inverse).to(device),
            )
        mean, inverse = self._tensors[device]
        return (x_CHW - mean).mul_(inverse)
