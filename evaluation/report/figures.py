"""Pictures of fields: a colour scale, and small PNG in data URIs."""

import base64
import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

Array = NDArray[np.float64]


def tick(value: float) -> str:
    """A number as an axis shows it, without markup.

    >>> tick(0.05), tick(-2), tick(1e-6), tick(3e7)
    ('0.05', '−2', '10⁻⁶', '3·10⁷')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}".replace("-", "−")
    mantissa, exponent = f"{value:.3e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    factor = f"{float(mantissa):g}".replace("-", "−")
    return power if factor == "1" else f"{factor}·{power}"


@dataclass(frozen=True)
class ColourScale:
    """Values -> colours: linear from low to high, clipped beyond, missing values grey.

    Attributes:
        low: where the colours begin.
        high: where they end.
        colormap: of matplotlib.
        least: the smallest value that is shown; below `low` it has the colour of `low`.
        most: the largest.
    """

    low: float
    high: float
    colormap: str
    least: float = np.inf
    most: float = -np.inf

    @classmethod
    def of(cls, values: Array, *, error: bool = False) -> "ColourScale":
        """Diverging about zero for values of both signs, else sequential; the rarest 0.4 % are clipped."""
        finite = values[np.isfinite(values)]
        low, high = np.quantile(finite, [0.002, 0.998]) if finite.size else (0.0, 1.0)
        shown = values[~np.isnan(values)]
        ends = float(shown.min(initial=np.inf)), float(shown.max(initial=-np.inf))
        bound = max(abs(low), abs(high))
        if error or (low < 0 < high and min(-low, high) > 0.1 * bound):
            return cls(-float(bound or 1), float(bound or 1), "PuOr_r" if error else "RdBu_r", *ends)
        return cls(float(low), float(high if high > low else low + 1), "viridis", *ends)

    def reaching(self, *others: Array) -> "ColourScale":
        """The same colours, with the extremes of other values that are shown in them as well."""
        ends = [ColourScale.of(values) for values in others]
        return replace(
            self,
            least=min([self.least, *(one.least for one in ends)]),
            most=max([self.most, *(one.most for one in ends)]),
        )

    @property
    def below(self) -> bool:
        """Whether smaller values than the colours tell apart are shown."""
        return self.least < self.low

    @property
    def above(self) -> bool:
        """Whether larger ones are."""
        return self.most > self.high

    def image(self, values_HW: Array) -> str:
        """A data URI of a PNG, first row on top."""
        with np.errstate(invalid="ignore"):
            position = np.clip((values_HW - self.low) / (self.high - self.low), 0, 1) * 254
        index = np.where(np.isnan(position), 255, np.rint(np.nan_to_num(position))).astype(np.uint8)
        colours = colormaps[self.colormap](np.linspace(0, 1, 255))[:, :3]
        palette = np.concatenate([np.rint(colours * 255), [[168, 172, 176]]]).astype(np.uint8)
        return "data:image/png;base64," + base64.b64encode(_png(index, palette)).decode()

    def bar(self) -> str:
        """A data URI of a strip of all colours, low on the left."""
        return self.image(np.linspace(self.low, self.high, 255)[None, :])


def thumbnail(values_HW: Array, limit: int = 192) -> Array:
    """The field averaged over blocks until neither side is longer than `limit` points."""
    factor = int(np.ceil(max(values_HW.shape) / limit))
    height, width = (size // factor for size in values_HW.shape)
    blocks = values_HW[: height * factor, : width * factor].reshape(height, factor, width, factor)
    valid = np.isfinite(blocks)
    count = valid.sum(axis=(1, 3))
    total = np.where(valid, blocks, 0.0).sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _png(index_HW: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """A PNG of palette colours: a third of the size of true colour (PNG specification, colour type 3)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = index_HW.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = np.pad(index_HW, ((0, 0), (1, 0)))  # each row starts with the number of its filter: 0, none
    chunks = (b"IHDR", header), (b"PLTE", palette.tobytes()), (b"IDAT", zlib.compress(rows.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks) + chunk(b"IEND", b"")
