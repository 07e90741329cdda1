"""Transforms: invertible functions of a field's values, for fields that are hard to learn as they are."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

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

    def stored_units(self, units: str) -> str:
        """Units of the stored values: a logarithm has none."""
        return "1"


class Asinh(Config):
    """arsinh(x / scale), for fields of either sign with heavy tails, such as vertical velocity and divergence.

    Attributes:
        scale: the magnitude below which the function is nearly linear, in the field's units.
    """

    kind: Literal["asinh"] = "asinh"
    scale: float = Field(1.0, gt=0)

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical to stored values."""
        return np.arcsinh(values / self.scale)

    def inverse(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Stored to physical values."""
        return np.asarray(np.sinh(values.astype(np.float64)) * self.scale)

    def describe(self, name: str, units: str) -> str:
        """The function applied to a field, as text.

        >>> Asinh(scale=0.1).describe("omega", "Pa s-1")
        'arsinh(omega / 0.1 Pa s-1)'
        """
        return f"arsinh({name} / {self.scale:g}{'' if units == '1' else ' ' + units})"

    def stored_units(self, units: str) -> str:
        """Units of the stored values: there are none."""
        return "1"


class Shift(Config):
    """x - offset, for fields that vary too little about a large value for float32: 101325 Pa +- 0.004 Pa.

    float32 has 24 bits, so that neighbours of 101325 are 0.008 apart; those of 0.004 are 5e-10 apart.

    Attributes:
        offset: what is subtracted, in the field's units.
    """

    kind: Literal["shift"] = "shift"
    offset: float

    def forward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical to stored values."""
        return values - self.offset

    def inverse(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Stored to physical values."""
        return np.asarray(values.astype(np.float64) + self.offset)

    def describe(self, name: str, units: str) -> str:
        """The function applied to a field, as text.

        >>> Shift(offset=101325).describe("pressure", "Pa")
        'pressure - 101325.0 Pa'
        """
        return f"{name} - {self.offset!r}{'' if units == '1' else ' ' + units}"

    def stored_units(self, units: str) -> str:
        """Units of the stored values: those of the field."""
        return units


Transform = Annotated[Log1p | Asinh | Shift, Field(discriminator="kind")]


def physical_type(transform: Log1p | Asinh | Shift | None) -> np.dtype[Any]:
    """The type of the physical values: float32, but float64 where float32 is what the shift was made to avoid."""
    return np.dtype(np.float64 if isinstance(transform, Shift) else np.float32)


def to_physical(
    x_CHW: NDArray[np.float32], transforms: Sequence[Log1p | Asinh | Shift | None]
) -> NDArray[Any]:
    """Stored to physical values (..., C, H, W): in place, or in float64 where any channel needs that."""
    physical: NDArray[Any] = x_CHW
    if any(physical_type(transform) == np.float64 for transform in transforms):
        physical = x_CHW.astype(np.float64)
    # A forecast that blew up overflows here, and then scores as infinitely wrong.
    with np.errstate(over="ignore", invalid="ignore"):
        for channel, transform in enumerate(transforms):
            if transform is not None:
                physical[..., channel, :, :] = transform.inverse(x_CHW[..., channel, :, :])
    return physical
