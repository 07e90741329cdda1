"""Earth and mirror padding of latitude-longitude fields, and padding to a size that a network can serve.

Source: NCAR/miles-credit, `padding_conf`.

Shapes: B batch, C channels, H rows (latitude), W columns (longitude), N rows after padding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from pelagos.models.context import Sphere
from pelagos.models.layers.padding import NOT_PERIODIC, GridSize, Periodic, Widths, pad
from pelagos.models.layers.pole_padding import over_poles
from pelagos.models.layers.row_layout import RowLayout
from pelagos.models.layers.row_padding import padded_rows
from pelagos.preprocessing.config import Config
from pelagos.preprocessing.errors import ConfigError, DataError
from pelagos.preprocessing.grid import Grid

PaddingMode = Literal["earth", "sphere", "mirror", "boundary"]


class PaddingConfig(Config):
    """How fields are extended beyond their grid.

    Attributes:
        mode: `earth` continues over the poles on the opposite meridian as CREDIT does, which repeats a row on the pole
            and leaves vectors their signs; `sphere` does it right, `mirror` reflects at the poles, and all three
            wrap in longitude and need a grid that does; `boundary` wraps axes that are periodic in the call and adds
            zeros to others.
        lat: rows added before and after; one number stands for both.
        lon: columns added before and after; one number stands for both.
    """

    mode: PaddingMode = "boundary"
    lat: int | tuple[int, int] = 0
    lon: int | tuple[int, int] = 0

    @model_validator(mode="after")
    def _check(self) -> "PaddingConfig":
        for name, widths in (("lat", self.lat), ("lon", self.lon)):
            if min(_pair(widths)) < 0:
                raise ConfigError(f"padding.{name} is {widths}, but the number of cells cannot be negative")
        return self

    def check_grid(self, grid: Grid, dataset: str) -> None:
        """Refuse a grid on which the added cells would be made up.

        Raises:
            ConfigError: the mode continues over poles or round the Earth, and the grid does not.
        """
        if self.mode in ("earth", "sphere") and not grid.whole_sphere:
            raise ConfigError(
                f"network.padding.mode {self.mode} takes what lies beyond a pole from the opposite meridian, but the"
                f" grid of {dataset} does not go round the Earth from pole to pole: use mode boundary"
            )
        if self.mode == "mirror" and not grid.periodic[1]:
            raise ConfigError(
                f"network.padding.mode mirror wraps in longitude, but the columns of {dataset} do not go round:"
                " use mode boundary"
            )

    def build(self, multiple: GridSize = (1, 1)) -> "GridPadding":
        """The padding, extended so that rows and columns become multiples of these two numbers."""
        return GridPadding(self.mode, _pair(self.lat), _pair(self.lon), multiple)


def _pair(widths: int | Widths) -> Widths:
    return (widths, widths) if isinstance(widths, int) else widths


def _extended(size: int, widths: Widths, multiple: int) -> Widths:
    # Split over both sides, so that the field stays in the middle.
    missing = -(size + sum(widths)) % multiple
    return widths[0] + missing // 2, widths[1] + missing - missing // 2


@dataclass(frozen=True)
class GridPadding:
    """Adds cells around fields and crops them again; see `PaddingConfig`.

    Attributes:
        mode: what the cells hold.
        lat: rows added at least, before and after.
        lon: columns added at least, before and after.
        multiple: what the numbers of rows and columns become multiples of.
    """

    mode: PaddingMode = "boundary"
    lat: Widths = (0, 0)
    lon: Widths = (0, 0)
    multiple: GridSize = (1, 1)

    def widths(self, height: int, width: int) -> tuple[Widths, Widths]:
        """The rows and columns added before and after fields of this size."""
        lat = _extended(height, self.lat, self.multiple[0])
        return lat, _extended(width, self.lon, self.multiple[1])

    def pad(self, x_BCHW: Tensor, periodic: Periodic = NOT_PERIODIC, sphere: Sphere | None = None) -> Tensor:
        """(B, C, H, W) to the padded fields; `boundary` depends on `periodic`, `sphere` on where the points are.

        Raises:
            DataError: the padding is wider than the fields, or beyond the pole there is no opposite meridian.
            ConfigError: the mode is `sphere`, and nobody says where the points are.
        """
        lat, lon = self.widths(*x_BCHW.shape[-2:])
        if self.mode == "boundary":
            return pad(x_BCHW, lat, lon, periodic)
        # Latitude first: rows beyond the poles must be wrapped in longitude, too.
        x_BCNW = self._pad_rows(x_BCHW, lat, sphere) if any(lat) else x_BCHW
        return pad(x_BCNW, (0, 0), lon, (False, True))

    def pad_shared(
        self, x_BCHW: Tensor, layout: RowLayout, to: RowLayout, periodic: Periodic, sphere: Sphere | None
    ) -> Tensor:
        """As `pad`, of rows that several processes share: from a layout to that of the padded rows.

        Raises:
            DataError: see `pad`.
            ConfigError: see `pad`.
        """
        lat, lon = self.widths(layout.starts[-1], x_BCHW.shape[-1])
        if self.mode == "boundary":
            rows = padded_rows(x_BCHW, layout, to, lat, "wrap" if periodic[0] else "zeros")
            return pad(rows, (0, 0), lon, periodic)
        if self.mode == "mirror":
            _check_mirror(lat, layout.starts[-1])
            rows = padded_rows(x_BCHW, layout, to, lat, "mirror")
        elif self.mode == "earth" or not any(lat):
            rows = padded_rows(x_BCHW, layout, to, lat, "poles" if any(lat) else "zeros")
        else:
            known = _known(sphere)
            rows = padded_rows(x_BCHW, layout, to, lat, "poles", on_pole=known.on_pole, signs=known.signs)
        return pad(rows, (0, 0), lon, (False, True))

    def _pad_rows(self, x_BCHW: Tensor, lat: Widths, sphere: Sphere | None) -> Tensor:
        if self.mode == "mirror":
            return _mirror(x_BCHW, lat)
        if self.mode == "earth":
            return over_poles(x_BCHW, lat)
        known = _known(sphere)
        return over_poles(x_BCHW, lat, on_pole=known.on_pole, signs=known.signs)

    def crop(self, x_BCHW: Tensor, height: int, width: int, scale: GridSize = (1, 1)) -> Tensor:
        """Removes what `pad` added to fields of (height, width), on a grid coarser by `scale`.

        Raises:
            ConfigError: the added cells are not a whole number of coarser ones.
        """
        self.check_crop(height, width, scale)
        lat, lon = self.widths(height, width)
        rows, columns = x_BCHW.shape[-2:]
        north, south = lat[0] // scale[0], rows - lat[1] // scale[0]
        west, east = lon[0] // scale[1], columns - lon[1] // scale[1]
        return x_BCHW[..., north:south, west:east]

    def check_crop(self, height: int, width: int, scale: GridSize) -> None:
        """Check that `crop` can take away whole cells.

        Raises:
            ConfigError: the added cells are not a whole number of coarser ones.
        """
        lat, lon = self.widths(height, width)
        if any(cells % scale[0] for cells in lat) or any(cells % scale[1] for cells in lon):
            raise ConfigError(
                f"padding of {lat} rows and {lon} columns around a grid of {height}x{width} "
                f"must be multiples of {scale}, the size of the network's output cells"
            )


def _known(sphere: Sphere | None) -> Sphere:
    if sphere is None:
        raise ConfigError("padding.mode sphere needs latitudes and longitudes, and this grid has none")
    return sphere


def _check_mirror(lat: Widths, height: int) -> None:
    if max(lat) >= height:
        raise DataError(
            f"mirror padding of {lat} rows needs a grid of at least {max(lat) + 1} rows, found {height}"
        )


def _mirror(x_BCHW: Tensor, lat: Widths) -> Tensor:
    """Rows ... 2 1 | 0 1 2 ...; the outermost row is not repeated."""
    height = x_BCHW.shape[-2]
    north, south = lat
    _check_mirror(lat, height)
    top = x_BCHW[..., 1 : north + 1, :].flip(-2)
    bottom = x_BCHW[..., height - 1 - south : height - 1, :].flip(-2)
    return torch.cat([top, x_BCHW, bottom], -2)
