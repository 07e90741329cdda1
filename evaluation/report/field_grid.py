"""Field grid: a field of the truth, of forecasts and of their errors, in rows over lead times or as a film."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pelagos.evaluation.forecast_schema import LEAD_TIME
from pelagos.evaluation.report import curves, markup
from pelagos.evaluation.report.figures import ColourScale, thumbnail
from pelagos.evaluation.report.film import chosen_frames, film
from pelagos.evaluation.report.graticule import Canvas

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FieldFigure:
    """One field of one forecast.

    Attributes:
        truth: (lead_time, y, x); its attribute `units` labels the scales.
        forecasts: method -> (lead_time, y, x) the same field.
        canvas: the shape of the pictures.
        dates: of the lead times, where the calendar is known.
        reference: what `truth` is called where it is no truth.
    """

    truth: xr.DataArray
    forecasts: Mapping[str, xr.DataArray]
    canvas: Canvas = field(default_factory=Canvas)
    dates: Sequence[str] = ()
    reference: str = "truth"

    def rows(self, lead_times: Sequence[float] | None = None) -> str:
        """Pictures at some lead times, by default evenly spread ones, on shared scales."""
        places = curves.choose(self.truth[LEAD_TIME].values, lead_times, 3 if self.canvas.wide else 5)
        true, frames, scale, error_scale = self._scaled(places)
        cells = ['<div class="row">lead time</div>']
        cells += [f'<div class="time">{escape(text)}</div>' for text in self._clock(places)]
        cells += [self._row(self.reference, true, scale)]
        for name, frame in frames.items():
            error = frame - true
            notes = [f"rms {markup.number(_rms(one))}" for one in error]
            cells += [
                self._row(name, frame, scale),
                self._row(self._difference(name), error, error_scale, notes),
            ]
        least = "12rem" if self.canvas.wide else "6.5rem"
        style = f"--columns:{len(places)};--least:{least}"
        return f'<div class="fields" style="{style}">{"".join(cells)}</div>{self._bars(scale, error_scale)}'

    def film(self, name: str) -> str:
        """The same fields moving, at all lead times or evenly spread ones."""
        places = chosen_frames(self.truth.sizes[LEAD_TIME])
        true, frames, scale, error_scale = self._scaled(places)
        rows = [(self.reference, true, scale)]
        for method, frame in frames.items():
            rows += [(method, frame, scale), (self._difference(method), frame - true, error_scale)]
        return film(rows, self._clock(places), self.canvas, name) + self._bars(scale, error_scale)

    def _scaled(self, places: Sequence[int]) -> tuple[Array, dict[str, Array], ColourScale, ColourScale]:
        """Frames of the truth and of each forecast, and the scales of fields and of errors."""
        true = _frames(self.truth, places)
        frames = {name: _frames(forecast, places) for name, forecast in self.forecasts.items()}
        errors = [frame - true for frame in frames.values()]
        # The truth alone sets the colours, so that a forecast that blows up does not hide it; what lies beyond is said.
        scale = ColourScale.of(true).reaching(*frames.values())
        return true, frames, scale, ColourScale.of(np.stack(errors or [0 * true]), error=True)

    def _clock(self, places: Sequence[int]) -> list[str]:
        times, unit = curves.readable_times(self.truth)
        texts = [curves.quantity(times[place], unit) for place in places]
        return (
            [f"{text}, {self.dates[place]}" for text, place in zip(texts, places, strict=True)]
            if self.dates
            else texts
        )

    def _difference(self, name: str) -> str:
        return f"{name} − {self.reference}"

    def _row(self, label: str, frames: Array, scale: ColourScale, notes: Sequence[str] = ()) -> str:
        return markup.image_row(label, [thumbnail(frame) for frame in frames], scale, self.canvas, notes)

    def _bars(self, scale: ColourScale, error_scale: ColourScale) -> str:
        kind = "Errors" if self.reference == "truth" else "Differences"
        units = str(self.truth.attrs.get("units", "1"))
        bars = markup.colour_bar("Fields", scale, units)
        if self.forecasts:
            bars += markup.colour_bar(f"{kind}, forecast − {self.reference}", error_scale, units)
        return f'<div class="bars">{bars}</div>'


def map_row(maps: Mapping[str, Array], canvas: Canvas, label: str, units: str) -> str:
    """Maps side by side on one scale, each (y, x) under its own title, the last row on top."""
    scale = ColourScale.of(np.stack(list(maps.values())))
    cells = ['<div class="row"></div>', *(f'<div class="time">{escape(title)}</div>' for title in maps)]
    frames = [thumbnail(values) for values in maps.values()]
    cells.append(markup.image_row(label, frames, scale, canvas))
    style = f"--columns:{len(maps)};--least:{'12rem' if canvas.wide else '8rem'}"
    bar = markup.colour_bar(label, scale, units)
    return f'<div class="fields" style="{style}">{"".join(cells)}</div><div class="bars">{bar}</div>'


def northward(values: Array, y: Array) -> Array:
    """(..., y, x) with the largest y on top."""
    return values[..., :: -1 if y[0] < y[-1] else 1, :]


def _frames(field: xr.DataArray, places: Sequence[int]) -> Array:
    """(frame, y, x) at those positions, north or the largest y on top."""
    ordered = field.isel({LEAD_TIME: list(places)}).transpose(LEAD_TIME, "y", "x")
    return northward(ordered.values.astype(np.float64), field["y"].values)


def _rms(frame: Array) -> float:
    return float(np.sqrt(np.nanmean(frame**2))) if np.isfinite(frame).any() else float("nan")
