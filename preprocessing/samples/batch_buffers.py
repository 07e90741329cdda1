"""Batch buffers: memory that the samples of one dataset are read into.

Shapes: B samples, K forecast steps, C channels, F of them forcing, H rows, W columns.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from pelagos.preprocessing.array_types import Flags, Float32s
from pelagos.preprocessing.samples.fill_kernels import FlatBuffers


@dataclass(frozen=True, eq=False)
class BatchBuffers:
    """Memory for B samples of one dataset, which is filled again and again.

    Attributes:
        inputs: (B, C_in, H, W).
        targets: (B, C_out, H, W), of windows and rollouts (B, K, C_out, H, W).
        mask: in the shape of the targets.
        forcings: (B, K - 1, F, H, W).
    """

    inputs: Float32s
    targets: Float32s
    mask: Flags
    forcings: Float32s

    @cached_property
    def flat(self) -> FlatBuffers:
        """The same memory for kernels, to which pairs are rollouts of one step."""
        num, fields, points = len(self.inputs), self.inputs.shape[1], prod(self.inputs.shape[2:])
        steps, outputs = self.forcings.shape[1] + 1, self.targets.shape[-3]
        return FlatBuffers(
            inputs=self.inputs.reshape(num, fields, points),
            targets=self.targets.reshape(num, steps, outputs, points),
            mask=self.mask.reshape(num, steps, outputs, points),
            forcings=self.forcings.reshape(num, steps - 1, self.forcings.shape[2], points),
        )

    @property
    def sample_bytes(self) -> int:
        """The size of one sample's fields."""
        return (self.inputs.nbytes + self.targets.nbytes + self.forcings.nbytes) // max(1, len(self.inputs))


@dataclass(frozen=True)
class SampleShapes:
    """The shapes of the parts of a sample.

    Attributes:
        inputs: (C_in, H, W).
        targets: (C_out, H, W), of windows and rollouts (K, C_out, H, W).
        forcings: (K - 1, F, H, W).
    """

    inputs: tuple[int, int, int]
    targets: tuple[int, ...]
    forcings: tuple[int, int, int, int]

    def buffers(self, num: int) -> BatchBuffers:
        """New memory for so many samples."""
        return BatchBuffers(
            inputs=np.empty((num, *self.inputs), np.float32),
            targets=np.empty((num, *self.targets), np.float32),
            mask=np.ones((num, *self.targets), bool),
            forcings=np.empty((num, *self.forcings), np.float32),
        )
