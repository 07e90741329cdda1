"""Field picture: frames of one field in a row, on one colour scale, as a file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pelagos.evaluation.report.figures import ColourScale, tick

_MOST = 6
"""Frames in a row; more would be too small to see."""


@dataclass(frozen=True, eq=False)
class FieldRow:
    """Frames of one field.

    Attributes:
        label: of the field, with its units.
        frames: (frame, y, x) values, NaN where missing, the last row on top.
        titles: one for each frame.
    """

    label: str
    frames: NDArray[np.float64]
    titles: Sequence[str]


def write_picture(rows: Sequence[FieldRow], title: str, file: Path) -> None:
    """Draw rows of frames into a file of the kind that its name says, such as PNG, SVG or PDF."""
    columns = max(len(row.titles) for row in rows)
    height, width = rows[0].frames.shape[1:]
    # A line is drawn as a curve; a field keeps its shape within bounds that leave a page readable.
    side = 1.4 if min(height, width) == 1 else 2.2 * float(np.clip(height / width, 0.4, 1.6))
    with mpl.rc_context({"svg.fonttype": "none", "text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=(2.2 * columns + 1.0, (side + 0.5) * len(rows) + 0.4), layout="constrained")
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for row, line in zip(rows, axes, strict=True):
            _draw(figure, row, list(line))
        figure.suptitle(title, fontsize=11)
        figure.savefig(file, dpi=130, metadata=_UNDATED.get(file.suffix, {}))


_UNDATED = {".svg": {"Date": None}, ".png": {"Software": None}}
"""What makes two pictures of the same values the same bytes."""


def _draw(figure: Figure, row: FieldRow, axes: list[mpl.axes.Axes]) -> None:
    scale = ColourScale.of(row.frames)
    line = 1 in row.frames.shape[1:]
    shown = None
    for ax, frame, title in zip(axes, row.frames, row.titles, strict=False):
        ax.set_title(title, fontsize=9)
        if line:
            ax.plot(frame.ravel(), linewidth=1.2)
            ax.set_ylim(scale.low, scale.high)
        else:
            ax.set_xticks([])
            ax.set_yticks([])
            colours = mpl.colormaps[scale.colormap].with_extremes(bad="#a8acb0")
            shown = ax.imshow(frame, cmap=colours, vmin=scale.low, vmax=scale.high, interpolation="nearest")
    axes[0].set_ylabel(row.label)
    for ax in axes[len(row.titles) :]:
        ax.set_visible(False)
    if shown is not None:
        extend = _extend(row.frames, scale)
        bar = figure.colorbar(shown, ax=axes, shrink=0.9, pad=0.01, extend=extend)
        bar.ax.yaxis.set_major_formatter(lambda value, _: tick(value))


def _extend(frames: NDArray[np.float64], scale: ColourScale) -> str:
    """Which ends of the scale stand for values beyond it, for the bar to show by arrows."""
    below, above = np.nanmin(frames) < scale.low, np.nanmax(frames) > scale.high
    return {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
        (bool(below), bool(above)), "both"
    )


def spread(number: int, most: int = _MOST) -> list[int]:
    """Positions of at most so many frames, evenly spread from the first to the last.

    >>> spread(11, 3), spread(2, 3)
    ([0, 5, 10], [0, 1])
    """
    return [int(position) for position in np.rint(np.linspace(0, number - 1, min(number, most)))]
