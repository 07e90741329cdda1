"""Graticule: lines of latitude and longitude over a map, with their degrees; and the shape of a field's picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pelagos.preprocessing.grid import Grid

Array = NDArray[np.float64]
_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 45.0, 60.0, 90.0)
"""Distances between lines, in degrees."""
_MOST = 4
"""Lines along an axis; more are too close for their labels on a phone."""


@dataclass(frozen=True)
class Canvas:
    """What the pictures of one grid share.

    Attributes:
        ratio: width to height.
        lines: HTML that is laid over each picture, empty but on maps.
    """

    ratio: float = 1.0
    lines: str = ""

    @property
    def wide(self) -> bool:
        """Whether it needs more room than a square."""
        return bool(self.lines) or self.ratio > 1.5

    @classmethod
    def of(cls, grid: Grid) -> "Canvas":
        """The canvas of a grid: as wide and high as its domain; longitudes are closer away from the equator."""
        height, width = (_extent(axis) for axis in (grid.y, grid.x))
        if grid.kind == "latlon":
            width *= np.cos(np.deg2rad(grid.y.mean()))
        # A line, or a channel much longer than wide, would not be seen in its own shape.
        return cls(float(np.clip(width / height, 0.4, 4.0)), _lines(grid) if grid.kind == "latlon" else "")


def _extent(axis: Array) -> float:
    return float(abs(axis[-1] - axis[0]) * len(axis) / (len(axis) - 1)) if len(axis) > 1 else 1.0


def _lines(grid: Grid) -> str:
    down = [(1 - at, _latitude(value)) for value, at in _marks(grid.y)]
    across = [(at, _longitude(value)) for value, at in _marks(grid.x)]
    path = "".join(f"M0 {at:.4f}H1" for at, _ in down) + "".join(f"M{at:.4f} 0V1" for at, _ in across)
    labels = [f'<span class="lat" style="top:{100 * at:.1f}%">{name}</span>' for at, name in down]
    labels += [f'<span class="lon" style="left:{100 * at:.1f}%">{name}</span>' for at, name in across]
    svg = f'<svg viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true"><path d="{path}"/></svg>'
    return svg + "".join(labels)


def _marks(axis: Array) -> list[tuple[float, float]]:
    """Round degrees within an axis, and how far along it each lies, from the least degree on: 0 to 1."""
    rising = np.sort(axis)
    span = rising[-1] - rising[0]
    step = next((one for one in _STEPS if span / one <= _MOST + 0.5), _STEPS[-1])
    values = step * np.arange(np.ceil(rising[0] / step), np.floor(rising[-1] / step) + 1)
    # Of the rows, which are equally high in a picture even where latitudes are not evenly spaced.
    places = (np.interp(values, rising, np.arange(len(rising))) + 0.5) / len(rising)
    # A label at the very edge would be cut off.
    return [
        (value, at) for value, at in zip(values.tolist(), places.tolist(), strict=True) if 0.07 < at < 0.93
    ]


def _latitude(value: float) -> str:
    """A latitude as maps write it.

    >>> _latitude(-30.0), _latitude(0.0), _latitude(52.5)
    ('30°S', '0°', '52.5°N')
    """
    return f"{abs(value):.4g}°{'N' if value > 0 else 'S' if value < 0 else ''}"


def _longitude(value: float) -> str:
    """A longitude as maps write it, whichever way it is counted.

    >>> _longitude(270.0), _longitude(-90.0), _longitude(180.0), _longitude(360.0)
    ('90°W', '90°W', '180°', '0°')
    """
    east = (value + 180) % 360 - 180
    side = "" if east in (0, -180) else "E" if east > 0 else "W"
    return f"{abs(east):.4g}°{side}"
