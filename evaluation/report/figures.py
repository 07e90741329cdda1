"""Pictures of a report: line charts as SVG, fields and colour bars as small PNG.

Charts carry no colours of their own: ink, grid and the methods' colours are variables of the page's
style sheet, so that one chart serves light and dark pages.
"""

import base64
import io
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

Array = NDArray[np.float64]
NUM_COLOURS = 7
"""Colours that tell methods apart; the style sheet defines as many."""

# Stand-ins for the style sheet's variables while matplotlib draws.
INK, MUTED, RULE = "#000001", "#000002", "#000003"
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"}
_VARIABLES |= {f"#0000{16 + i:02x}": f"--c{i}" for i in range(NUM_COLOURS)}
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pelagos",
    "text.parse_math": False,
    "font.size": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": RULE,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Style:
    """How a method is drawn, the same in every figure.

    Attributes:
        variable: of the style sheet, for the colour.
        dash: of the line.
    """

    variable: str
    dash: Literal["solid", "dashed", "dotted"] = "solid"

    @property
    def stand_in(self) -> str:
        """The colour that `chart` turns into the variable."""
        return next(colour for colour, name in _VARIABLES.items() if name == self.variable)


class Styles:
    """Gives every method its style at first sight and remembers it.

    The truth is ink, persistence and climatology are grey and broken; others take the colours in turn.
    """

    def __init__(self) -> None:
        self._known = {
            "truth": Style("--ink"),
            "persistence": Style("--muted", "dashed"),
            "climatology": Style("--muted", "dotted"),
        }
        self._taken = 0

    def of(self, name: str) -> Style:
        """The style of a method."""
        key = name.lower()
        if key not in self._known:
            dash: Literal["solid", "dashed"] = "solid" if self._taken < NUM_COLOURS else "dashed"
            self._known[key] = Style(f"--c{self._taken % NUM_COLOURS}", dash)
            self._taken += 1
        return self._known[key]


@dataclass(frozen=True, eq=False)
class Curve:
    """One method's line; `low` and `high` bound a shaded band."""

    name: str
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes.

    Attributes:
        title: above them.
        curves: in the order of drawing.
        x_label: with units.
        y_label: with units.
        log_x: whether the x axis is logarithmic.
        log_y: whether the y axis is logarithmic.
        y_floor: the y axis ends here; anything below is hidden.
        least_span: the shortest linear y axis, so that rounding errors do not fill the panel.
        marks: method -> where it gets an upright line.
    """

    title: str
    curves: Sequence[Curve]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    y_floor: float = -np.inf
    least_span: float = 0.0
    marks: Mapping[str, float] = field(default_factory=dict)


def chart(panel: Panel, styles: Styles, size: tuple[int, int] = (380, 256)) -> str:
    """An inline SVG element of `size` pixels that takes the page's colours and fonts."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        for curve in panel.curves:
            _draw(axes, curve, styles.of(curve.name))
        for name, position in panel.marks.items():
            axes.axvline(position, color=styles.of(name).stand_in, linestyle="dotted", linewidth=1.2)
        _dress(axes, panel)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inline(buffer.getvalue(), panel.title or panel.y_label)


def _draw(axes: Axes, curve: Curve, style: Style) -> None:
    marker = "o" if len(curve.x) == 1 else ""
    axes.plot(curve.x, curve.y, color=style.stand_in, linestyle=style.dash, marker=marker, linewidth=1.8)
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=style.stand_in, alpha=0.14, linewidth=0)


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left", fontsize=12)
    axes.patch.set_alpha(0)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    for name, axis, log in (("x", axes.xaxis, panel.log_x), ("y", axes.yaxis, panel.log_y)):
        if log:
            axes.set(**{f"{name}scale": "log"})
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,), numticks=7))
            axis.set_minor_locator(NullLocator())
        else:
            axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        axis.set_tick_params(length=3)
    low, high = axes.get_ylim()
    if high - low < panel.least_span:
        middle = (low + high) / 2
        axes.set_ylim(middle - panel.least_span / 2, middle + panel.least_span / 2)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], panel.y_floor))


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


def _inline(svg: str, label: str) -> str:
    """Matplotlib's document as an element of an HTML page: no namespaces, metadata, ids or own fonts."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.S)
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size is not None
    svg = f'<svg {size.group()} role="img" aria-label="{_attribute(label)}">' + svg[svg.index(">") + 1 :]
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font-family: [^;\"]*(?:'[^']*'[^;\"]*)*;? ?", "", svg)
    svg = re.sub(r"font: (\d+(?:\.\d+)?px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', _shortened, svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


def _shortened(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a unit."""
    return re.sub(
        r"-?\d+\.\d{3,}", lambda n: f"{float(n.group()):.2f}".rstrip("0").rstrip("."), attribute.group()
    )


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


@dataclass(frozen=True)
class ColourScale:
    """Values -> colours: linear from low to high, clipped beyond, missing values grey."""

    low: float
    high: float
    colormap: str

    @classmethod
    def of(cls, values: Array, *, error: bool = False) -> "ColourScale":
        """Diverging about zero for values of both signs, else sequential; the rarest 0.4 % are clipped."""
        finite = values[np.isfinite(values)]
        low, high = np.quantile(finite, [0.002, 0.998]) if finite.size else (0.0, 1.0)
        bound = max(abs(low), abs(high))
        if error or (low < 0 < high and min(-low, high) > 0.1 * bound):
            return cls(-float(bound or 1), float(bound or 1), "PuOr_r" if error else "RdBu_r")
        return cls(float(low), float(high if high > low else low + 1), "viridis")

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
