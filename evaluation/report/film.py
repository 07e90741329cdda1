"""Film: frames of forecasts one after the other, moved by the style sheet alone, without a script.

The frames of a field are a strip, one picture wide, of which a window shows one at a time. All strips of a film and its
clock begin together, so they stay in step. A reader's wish for less motion is respected; a tick of the box stops it.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.report.figures import ColourScale, thumbnail
from pelagos.evaluation.report.graticule import Canvas

Array = NDArray[np.float64]
MOST = 32
"""Frames; a strip stays shorter than browsers draw (8192 pixels)."""
SIDE = 128
"""Points along the longer side of a frame at most."""
_SECONDS = 0.28
"""How long a frame is shown [s]."""


def film(
    rows: Sequence[tuple[str, Array, ColourScale]], clock: Sequence[str], canvas: Canvas, name: str
) -> str:
    """Rows of (frame, y, x) fields that play side by side, with a clock.

    Args:
        rows: label, frames and scale of each field.
        clock: a text for each frame.
        canvas: of the pictures.
        name: of the film in the page.
    """
    windows = "".join(_window(*row, canvas) for row in rows)
    lines = "".join(f"<span>{escape(text)}</span>" for text in clock)
    variables = f"--frames:{len(clock)};--seconds:{_SECONDS * len(clock):.2f}s"
    width = "17rem" if canvas.wide else "12rem"
    return (
        f'<div class="film" style="{variables};--width:{width}"><input type="checkbox" id="{name}">'
        f'<label for="{name}">stop</label><div class="clock"><div class="reel">{lines}</div></div>'
        f'<div class="screens">{windows}</div></div>'
    )


def chosen_frames(number: int) -> list[int]:
    """Positions of the frames that are shown of so many: all, or evenly spread ones.

    >>> chosen_frames(3), len(chosen_frames(1000))
    ([0, 1, 2], 32)
    """
    return [int(place) for place in np.rint(np.linspace(0, number - 1, min(number, MOST)))]


def _window(label: str, frames: Array, scale: ColourScale, canvas: Canvas) -> str:
    strip = np.concatenate([thumbnail(frame, SIDE) for frame in frames], axis=1)
    return (
        f'<div class="screen"><div class="label">{escape(label)}</div>'
        f'<div class="window" style="aspect-ratio:{canvas.ratio:.3f}">'
        f'<img class="reel" src="{scale.image(strip)}" alt="{escape(label)}, moving">{canvas.lines}</div></div>'
    )
