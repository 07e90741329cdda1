"""Chart: lines over one pair of axes as an SVG element, and how each method is drawn.

Charts carry no colours of their own: ink, grid and the methods' colours are variables of the page's
style sheet, so that one chart serves light and dark pages.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from pelagos.evaluation.report.figures import tick
from pelagos.preprocessing.errors import DataError

Array = NDArray[np.float64]
NUM_COLOURS = 7
"""Colours that tell methods apart; the style sheet defines as many."""
FONT = 12
"""Of all text in a chart [units of its viewBox]; charts are no wider there than keeps it readable on a phone."""
Dashes = Literal["solid", "dashed", "dotted", "double"]
_LINES: dict[Dashes, Any] = {"double": (0, (7, 2, 1.5, 2, 1.5, 2))}
"""Broken lines of ours, by what a border of the style sheet calls the nearest that it has."""

# Stand-ins for the style sheet's variables while matplotlib draws.
INK, MUTED, RULE = "#000001", "#000002", "#000003"
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"}
_VARIABLES |= {f"#0000{16 + i:02x}": f"--c{i}" for i in range(NUM_COLOURS)}
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pelagos",
    "text.parse_math": False,
    "font.size": FONT,
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
    dash: Dashes = "solid"

    @property
    def stand_in(self) -> str:
        """The colour that `chart` turns into the variable."""
        return next(colour for colour, name in _VARIABLES.items() if name == self.variable)


_APART = {
    "truth": Style("--ink"),
    "persistence": Style("--muted", "dashed"),
    "climatology": Style("--muted", "dotted"),
}
_DASHES: tuple[Dashes, ...] = ("solid", "dashed", "dotted", "double")


class Styles:
    """Gives every method its style at first sight and remembers it.

    The truth is ink, persistence and climatology are grey and broken; others take the colours in turn, and broken
    lines once all colours are taken. Two methods are never drawn alike.
    """

    def __init__(self) -> None:
        self._known = dict(_APART)
        self._taken = 0

    def of(self, name: str) -> Style:
        """The style of a method."""
        # `Net` and `net` are two methods; only what is drawn apart from all methods goes by any spelling.
        key = name.lower() if name.lower() in _APART else name
        if key not in self._known:
            dashes, colour = divmod(self._taken, NUM_COLOURS)
            if dashes >= len(_DASHES):
                raise DataError(
                    f"a figure tells {NUM_COLOURS * len(_DASHES)} methods apart; {name} is one more"
                )
            self._known[key] = Style(f"--c{colour}", _DASHES[dashes])
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
    axes.plot(
        curve.x,
        curve.y,
        color=style.stand_in,
        linestyle=_LINES.get(style.dash, style.dash),
        marker=marker,
        linewidth=1.8,
    )
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=style.stand_in, alpha=0.14, linewidth=0)


def _dress(axes: Axes, panel: Panel) -> None:
    # A long name is set smaller rather than cut off.
    axes.set_title(panel.title, loc="left", fontsize=min(FONT, max(FONT - 2, 440 / max(len(panel.title), 1))))
    axes.patch.set_alpha(0)
    # Said in words, since a reader who skims takes any axis for a linear one.
    axes.set_xlabel(panel.x_label + (", log" if panel.log_x else ""))
    axes.set_ylabel(panel.y_label + (", log" if panel.log_y else ""))
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
