"""Transforms: invertible functions of values, for fields that are hard to learn as they are."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pelagos.preprocessing.config import Config


class Log1p(Config):
    """ln(1 + x / scale), for fields such as precipitation that are small nearly everywhere.

    Attributes:
        scale: the value below which the function is nearly linear, in the field's units: the offset of
            ln(x + scale) - ln(scale), which is the same.
    """

    kind: Literal["log1p"] = "log1p"
    scale: float = Field(1.0, gt=0)

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical to stored values; minus infinity from -scale down, where there is no logarithm."""
        # NaN would pass for a missing value.
        return np.log1p(np.where(values <= -self.scale, -1.0, values / self.scale))

    def inverse(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Stored to physical values."""
        return np.asarray(np.expm1(values.astype(np.float64)) * self.scale)

    def describe(self, name: str, units: str) -> str:
        """The function of a field in words.

        >>> Log1p(scale=1e-5).describe("precipitation", "kg m-2 s-1")
        'ln(1 + precipitation / 1e-05 kg m-2 s-1)'
        """
        return f"ln(1 + {name} / {self.scale:g}{'' if units == '1' else ' ' + units})"


def to_physical(x_CHW: NDArray[np.float32], transforms: Sequence[Log1p | None]) -> NDArray[np.float32]:
    """(..., C, H, W) stored to physical values, in place."""
    # A forecast that blew up overflows; it scores as infinitely wrong.
    with np.errstate(over="ignore", invalid="ignore"):
        for channel, transform in enumerate(transforms):
            if transform is not None:
                x_CHW[..., channel, :, :] = transform.inverse(x_CHW[..., channel, :, :])
    return x_CHW
