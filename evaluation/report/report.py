"""Report: one self-contained HTML file with numbers, tables, curves and pictures of forecasts.

It needs no network and no script, so that it can be mailed and archived: fields are PNG in data URIs,
charts are SVG elements.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pelagos.evaluation.forecast_schema import LEAD_TIME
from pelagos.evaluation.report import curves, markup
from pelagos.evaluation.report.figures import ColourScale, Panel, Styles, chart, thumbnail
from pelagos.evaluation.report.stylesheet import STYLE
from pelagos.preprocessing.files.durable import write_bytes

Array = NDArray[np.float64]


class Report:
    """A builder: sections in order, each filled by the calls that follow it.

    All text is escaped; `backticks` in it set code. A method has the same colour in all figures.

    >>> report = Report("Kolmogorov flow", "64 × 64, 16 trajectories")
    >>> report.section("Result", "The network beats persistence.")
    >>> report.cards([("relative L1", 0.08, "persistence 0.135")])
    >>> "0.08" in report.html()
    True
    """

    def __init__(self, title: str, subtitle: str = "", footer: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self.footer = footer
        self._styles = Styles()
        self._titles: list[str] = []
        self._parts: list[str] = []
        self._counts = {"Figure": 0, "Table": 0}

    def section(self, title: str, *paragraphs: str) -> None:
        """Begin a section, listed in the index."""
        self._titles.append(title)
        self._parts.append(f'<h2 id="s{len(self._titles)}">{markup.text(title)}</h2>')
        self.text(*paragraphs)

    def text(self, *paragraphs: str) -> None:
        """Add paragraphs."""
        self._parts.extend(f"<p>{markup.text(paragraph)}</p>" for paragraph in paragraphs)

    def cards(self, cards: Sequence[tuple[str, markup.Cell, str]]) -> None:
        """Add key numbers: (label, value, note)."""
        self._parts.append(markup.cards(cards))

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[markup.Cell]],
        caption: str,
        lowest: Sequence[str] = (),
    ) -> None:
        """Add a table; in the columns named by `lowest` the smallest number is set bold."""
        self._figure("Table", markup.table(columns, rows, lowest), caption)

    def error_curves(
        self,
        errors: Mapping[str, xr.DataArray],
        caption: str,
        y_label: str,
        horizons: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Add errors over lead time, one panel a group: the median over samples and the middle half of them.

        Args:
            errors: method -> (*samples, lead_time, [group]) as the functions of evaluation.scores give.
            caption: what to see.
            y_label: the metric, with its units.
            horizons: method -> the longest lead time that it was trained on, in the coordinate's units.
        """
        self._charts(curves.lead_time_panels(errors, y_label, log=True, horizons=horizons), caption)

    def drift_curves(self, drifts: Mapping[str, xr.Dataset], caption: str) -> None:
        """Add conservation.drift over lead time, one panel a quantity, of the truth and of forecasts."""
        arrays = {name: drift.to_dataarray("group") for name, drift in drifts.items()}
        panels = curves.lead_time_panels(arrays, "relative change", log=False, least_span=1e-4)
        self._charts(panels, caption)

    def training_curves(
        self,
        runs: Mapping[str, tuple[ArrayLike, ArrayLike]],
        caption: str,
        x_label: str = "optimizer step",
        y_label: str = "training loss",
    ) -> None:
        """Add loss curves: run -> (steps, losses)."""
        self._charts([curves.loss_panel(runs, x_label, y_label)], caption)

    def spectra(
        self,
        spectra: Mapping[str, xr.DataArray],
        caption: str,
        lead_times: Sequence[float] | None = None,
        x_label: str = "wavenumber",
    ) -> None:
        """Add energy spectra, one panel a lead time (by default the first, a middle one and the last).

        Args:
            spectra: method -> (*samples, lead_time, wavenumber); the median over samples is drawn.
            caption: what to see.
            lead_times: those to show, in the coordinate's units.
            x_label: of the wavenumbers, with units.
        """
        self._charts(curves.spectrum_panels(spectra, lead_times, x_label), caption)

    def fields(
        self,
        truth: xr.DataArray,
        forecasts: Mapping[str, xr.DataArray],
        caption: str,
        lead_times: Sequence[float] | None = None,
        reference: str = "truth",
    ) -> None:
        """Add truth, forecasts and their errors side by side over lead times, on shared colour scales.

        Args:
            truth: (lead_time, y, x) one field of one sample; its attribute `units` labels the scales.
            forecasts: method -> (lead_time, y, x) the same field.
            caption: what to see.
            lead_times: those to show, in the coordinate's units; by default up to five, evenly spread.
            reference: what `truth` is called where it is no truth.
        """
        wide = truth.sizes["x"] > 1.5 * truth.sizes["y"]
        columns = curves.choose(truth[LEAD_TIME].values, lead_times, 3 if wide else 5)
        true = _frames(truth, columns)
        frames = {name: _frames(forecast, columns) for name, forecast in forecasts.items()}
        errors = {name: frame - true for name, frame in frames.items()}
        scale, error_scale = ColourScale.of(true), ColourScale.of(np.stack(list(errors.values())), error=True)
        times, unit = curves.readable_times(truth)
        cells = ['<div class="row">lead time</div>']
        cells += [f'<div class="time">{escape(curves.quantity(times[i], unit))}</div>' for i in columns]
        cells += [_row(reference, true, scale)]
        for name, error in errors.items():
            notes = [f"rms {markup.number(_rms(frame))}" for frame in error]
            cells += [
                _row(name, frames[name], scale),
                _row(f"{name} − {reference}", error, error_scale, notes),
            ]
        kind = "Errors" if reference == "truth" else "Differences"
        units = str(truth.attrs.get("units", "1"))
        bars = markup.colour_bar("Fields", scale, units)
        bars += markup.colour_bar(f"{kind}, forecast − {reference}", error_scale, units)
        grid = f'<div class="fields" style="--columns:{len(columns)}">{"".join(cells)}</div>'
        self._figure("Figure", f'{grid}<div class="bars">{bars}</div>', caption)

    def seconds(self, stages: Mapping[str, float], caption: str) -> None:
        """Add bars of the seconds that each stage took."""
        self._figure("Figure", markup.bars(stages), caption)

    def html(self) -> str:
        """The whole page."""
        entries = enumerate(map(markup.text, self._titles), start=1)
        index = "".join(f'<li><a href="#s{i}">{title}</a></li>' for i, title in entries)
        head = (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head>"
        )
        header = (
            f'<header><h1>{markup.text(self.title)}</h1><p class="subtitle">{markup.text(self.subtitle)}</p>'
            f'<nav aria-label="Contents"><ol>{index}</ol></nav></header>'
        )
        footer = f"<footer>{markup.text(self.footer)}</footer>" if self.footer else ""
        return "\n".join([head, "<body><main>", header, *self._parts, footer, "</main></body></html>\n"])

    def write(self, path: Path | str) -> Path:
        """Write the page; a reader sees the old file or the whole new one, never a part."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, self.html().encode())
        return path

    def _charts(self, panels: Sequence[Panel], caption: str) -> None:
        names = dict.fromkeys(curve.name for panel in panels for curve in panel.curves)
        legend = markup.legend({name: self._styles.of(name) for name in names})
        columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
        size = {1: (480, 300), 2: (400, 264), 3: (296, 224)}[columns]
        charts = "".join(chart(panel, self._styles, size) for panel in panels)
        self._figure("Figure", f'{legend}<div class="charts of{columns}">{charts}</div>', caption)

    def _figure(self, kind: str, content: str, caption: str) -> None:
        self._counts[kind] += 1
        label = f"<b>{kind} {self._counts[kind]}.</b> {markup.text(caption)}"
        self._parts.append(f"<figure>{content}<figcaption>{label}</figcaption></figure>")


def _frames(field: xr.DataArray, positions: Sequence[int]) -> Array:
    """(columns, H, W) frames at those positions, north or the largest y on top."""
    ascending = field["y"].values[0] < field["y"].values[-1]
    ordered = field.isel({LEAD_TIME: list(positions)}).transpose(LEAD_TIME, "y", "x")
    return ordered.values[:, :: -1 if ascending else 1].astype(np.float64)


def _row(label: str, frames: Array, scale: ColourScale, notes: Sequence[str] = ()) -> str:
    return markup.image_row(label, [thumbnail(frame) for frame in frames], scale, notes)


def _rms(frame: Array) -> float:
    return float(np.sqrt(np.nanmean(frame**2))) if np.isfinite(frame).any() else float("nan")
