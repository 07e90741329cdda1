"""Transforms: invertible functions of a field's values, for fields that are hard to learn as they are."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pelagos.preprocessing.config import Config


class Log1p(Config):
    """ln(1 + x / scale), for fields such as precipitation that are small nearly everywhere.

    Attributes:
        scale: the value below which the function is nearly linear, in the field's units. The function is also
            written ln(x + scale) - ln(scale).
    """

    kind: Literal["log1p"] = "log1p"
    scale: float = Field(1.0, gt=0)

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical to stored values; minus infinity where there is no logarithm, at -scale and below."""
        # NaN would pass as a missing value; an infinite one is reported when the field is checked.
        with np.errstate(divide="ignore"):
            return np.asarray(np.log1p(np.where(values <= -self.scale, -1.0, values / self.scale)))

    def inverse(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Stored to physical values."""
        return np.asarray(np.expm1(values.astype(np.float64)) * self.scale)

    def describe(self, name: str, units: str) -> str:
        """The function applied to a field, as text.

        >>> Log1p(scale=1e-5).describe("precipitation", "kg m-2 s-1")
        'ln(1 + precipitation / 1e-05 kg m-2 s-1)'
        """
        return f"ln(1 + {name} / {self.scale:g}{'' if units == '1' else ' ' + units})"


def to_physical(x_CHW: NDArray[np.float32], transforms: Sequence[Log1p | None]) -> NDArray[np.float32]:
    """Stored to physical values (..., C, H, W), in place."""
    # A forecast that blew up overflows here, and then scores as infinitely wrong.
    with np.errstate(over="ignore", invalid="ignore"):
        for channel, transform in enumerate(transforms):
            if transform is not None:
                x_CHW[..., channel, :, :] = transform.inverse(x_CHW[..., channel, :, :])
    return x_CHW
