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

from pelagos.evaluation.report import curves, markup
from pelagos.evaluation.report.chart import Panel, Styles, chart
from pelagos.evaluation.report.field_grid import FieldFigure, map_row, northward
from pelagos.evaluation.report.graticule import Canvas
from pelagos.evaluation.report.stylesheet import STYLE
from pelagos.preprocessing.array_types import Floats
from pelagos.preprocessing.files.durable import write_bytes
from pelagos.preprocessing.grid import Grid

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

    def cards(self, cards: Sequence[tuple[str, markup.Plain, str]]) -> None:
        """Add key numbers: (label, value, note)."""
        self._parts.append(markup.cards(cards))

    def facts(self, title: str, known: Mapping[str, str]) -> None:
        """Add what is known of something: label and value, a line each."""
        self._parts.append(markup.facts(title, known))

    def details(self, title: str, content: str) -> None:
        """Add a text as it is, folded until a reader asks for it."""
        self._parts.append(markup.details(title, content))

    def links(self, links: Mapping[str, str], name: str) -> None:
        """Add links to files, by their text; a data URI is saved under `name`."""
        self._parts.append(markup.links(links, name))

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

    def panels(self, panels: Sequence[Panel], caption: str) -> None:
        """Add panels of curves side by side."""
        self._charts(panels, caption)

    def drift_curves(
        self, drifts: Mapping[str, xr.Dataset], caption: str, counts_BS: Floats | None = None
    ) -> None:
        """Add conservation.drift over lead time, one panel a quantity, of the truth and of forecasts.

        Medians with the middle half of the samples, or with intervals where it is known how often each is drawn.
        """
        arrays = {name: drift.to_dataarray("group") for name, drift in drifts.items()}
        panels = curves.lead_time_panels(
            arrays, "relative change", log=False, least_span=1e-4, counts_BS=counts_BS
        )
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
        counts_BS: Floats | None = None,
    ) -> None:
        """Add energy spectra, one panel a lead time (by default the first, a middle one and the last).

        Args:
            spectra: method -> (*samples, lead_time, wavenumber); the median over samples is drawn.
            caption: what to see.
            lead_times: those to show, in the coordinate's units.
            x_label: of the wavenumbers, with units.
            counts_BS: how often each sample is drawn, for intervals of the medians.
        """
        self._charts(curves.spectrum_panels(spectra, lead_times, x_label, counts_BS), caption)

    def fields(
        self,
        truth: xr.DataArray,
        forecasts: Mapping[str, xr.DataArray],
        caption: str,
        lead_times: Sequence[float] | None = None,
        reference: str = "truth",
        grid: Grid | None = None,
        dates: Sequence[str] = (),
    ) -> None:
        """Add truth, forecasts and their errors side by side over lead times, on shared colour scales.

        Args:
            truth: (lead_time, y, x) one field of one sample; its attribute `units` labels the scales.
            forecasts: method -> (lead_time, y, x) the same field.
            caption: what to see.
            lead_times: those to show, in the coordinate's units; by default up to five, evenly spread.
            reference: what `truth` is called where it is no truth.
            grid: of the fields, for the shape of the pictures and degrees on maps; square without it.
            dates: of the lead times.
        """
        figure = FieldFigure(truth, forecasts, _canvas(grid), dates, reference)
        self._figure("Figure", figure.rows(lead_times), caption)

    def film(
        self,
        truth: xr.DataArray,
        forecasts: Mapping[str, xr.DataArray],
        caption: str,
        grid: Grid | None = None,
        dates: Sequence[str] = (),
    ) -> None:
        """Add the same fields as `fields` does, moving through the lead times."""
        name = f"film{self._counts['Figure'] + 1}"
        self._figure("Figure", FieldFigure(truth, forecasts, _canvas(grid), dates).film(name), caption)

    def maps(self, maps: Mapping[str, Array], grid: Grid, label: str, units: str, caption: str) -> None:
        """Add maps side by side on one scale.

        Args:
            maps: title -> (y, x) values in the order of the grid.
            grid: of all of them.
            label: what they show.
            units: of the values.
            caption: what to see.
        """
        upright = {title: northward(values, grid.y) for title, values in maps.items()}
        self._figure("Figure", map_row(upright, Canvas.of(grid), label, units), caption)

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
        # On a phone a chart is 350 pixels wide: texts of a wider one would be too small there.
        size = {1: (400, 256), 2: (372, 248), 3: (300, 224)}[columns]
        charts = "".join(chart(panel, self._styles, size) for panel in panels)
        self._figure("Figure", f'{legend}<div class="charts of{columns}">{charts}</div>', caption)

    def _figure(self, kind: str, content: str, caption: str) -> None:
        self._counts[kind] += 1
        label = f"<b>{kind} {self._counts[kind]}.</b> {markup.text(caption)}"
        self._parts.append(f"<figure>{content}<figcaption>{label}</figcaption></figure>")


def _canvas(grid: Grid | None) -> Canvas:
    return Canvas() if grid is None else Canvas.of(grid)
