"""Sample scale: fields of each sample relative to their own mean and deviation, to which changes are brought back.

Source: Kim et al., Reversible Instance Normalization, ICLR 2022.

Shapes: B batch, C input channels, H rows, W columns, N output channels.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pelagos.models.layers.device_constants import constant

FLOOR = 1e-3
"""The least deviation, in the data's own: a field that is nearly constant is not blown up."""


@dataclass(frozen=True, eq=False)
class SampleScale:
    """The mean and deviation of each sample's fields over its grid.

    Attributes:
        mean: (B, C, 1, 1), 0 of fields that are left as they are.
        deviation: (B, C, 1, 1), 1 of those.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x_BCHW: Tensor, names: tuple[str, ...], residual: tuple[int, ...]) -> Self:
        """That of a call's fields.

        Args:
            x_BCHW: the fields.
            names: of the channels; earlier frames, such as `density[-1]`, have the scale of the latest.
            residual: the channels that evolve; the others, such as forces, are left as they are.
        """
        evolving = {names[channel]: channel for channel in residual if channel >= 0}
        latest = tuple(evolving.get(name.partition("[")[0], -1) for name in names)
        deviation_BC11, mean_BC11 = torch.std_mean(x_BCHW, (2, 3), correction=0, keepdim=True)
        known_C11 = constant(tuple(channel >= 0 for channel in latest), x_BCHW.device)[:, None, None]
        order_C = constant(tuple(max(channel, 0) for channel in latest), x_BCHW.device)
        return cls(
            torch.where(known_C11, mean_BC11[:, order_C], 0),
            torch.where(known_C11, deviation_BC11[:, order_C].clamp(min=FLOOR), 1),
        )

    def normalised(self, x_BCHW: Tensor) -> Tensor:
        """The fields relative to mean and deviation."""
        return (x_BCHW - self.mean) / self.deviation

    def changes(self, y_BNHW: Tensor, residual: tuple[int, ...]) -> Tensor:
        """Changes of the channels in `residual` in the units of these; outputs without one (-1) as they are."""
        known_N11 = constant(tuple(channel >= 0 for channel in residual), y_BNHW.device)[:, None, None]
        order_N = constant(tuple(max(channel, 0) for channel in residual), y_BNHW.device)
        return y_BNHW * torch.where(known_N11, self.deviation[:, order_N], 1)
