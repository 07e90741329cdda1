import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import conservation, scores, spectra
from pelagos.evaluation.baselines import persistence
from pelagos.evaluation.report.report import Report

Make = Callable[..., xr.Dataset]
Flow = tuple[xr.Dataset, xr.Dataset, xr.Dataset]
Attributes = list[tuple[str, str | None]]


VOID = {"meta", "img", "br", "link", "use"}


class Page(HTMLParser):
    """Collects elements, attributes and text of a page whose tags must match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        self.seen.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        self.seen.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="module")
def flow(make: Make) -> Flow:
    """Truth, a forecast with a blow-up, and the initial frame of a flow with a tracer."""
    rng = np.random.default_rng(0)
    names = ("velocity_x", "velocity_y", "tracer")
    initial = make({name: rng.normal(size=(5, 16, 16)) for name in names}, dims=("trajectory", "y", "x"))
    growth = xr.DataArray(np.linspace(0.1, 1, 6), {"lead_time": np.arange(1.0, 7)}, "lead_time")
    truth = (
        (initial * (1 - 0.5 * growth))
        .transpose("trajectory", "lead_time", "y", "x")
        .assign_attrs(initial.attrs)
    )
    truth["lead_time"].attrs["units"] = "s"
    truth["tracer"].attrs["units"] = "kg m-3"
    network = (truth * (1 + 0.1 * growth)).assign_attrs(truth.attrs)
    network["tracer"][:, 4:] = np.nan
    return truth, network, initial


@pytest.fixture(scope="module")
def report(flow: Flow) -> Report:
    truth, network, initial = flow
    methods = {"network": network, "persistence": persistence(initial, truth["lead_time"].values)}
    sums = {name: scores.accumulate(forecast, truth) for name, forecast in methods.items()}
    page = Report("Title <script>alert(1)</script>", 'Subtitle & "quotes"', footer="made by `make demo`")
    page.section("First <section>", "A paragraph with 1 < 2.", "Another.")
    page.cards([("label", 0.0801, "note"), ("text", "8 min", "")])
    page.table(
        ["method", "error", "steps"],
        [["network", 0.0801, 900], ["persistence", 0.135, None], ["failed", float("inf"), 12000]],
        "A table.",
        lowest=["error"],
    )
    page.training_curves({"pretraining": (np.arange(1000), np.exp(-np.arange(1000) / 300.0))}, "Loss.")
    page.section("Second")
    page.error_curves({name: scores.relative_l1(s) for name, s in sums.items()}, "Errors.", "relative L1")
    page.spectra({"truth": spectra.spectrum(truth), "network": spectra.spectrum(network)}, "Spectra.")
    page.drift_curves(
        {"truth": conservation.drift(truth, initial), "network": conservation.drift(network, initial)},
        "Drift.",
    )
    page.fields(truth["tracer"][0], {"network": network["tracer"][0]}, "Fields.")
    page.seconds({"simulate": 31.0, "pretrain": 214.0}, "Seconds.")
    return page


def test_the_page_is_well_formed_and_self_contained(report: Report) -> None:
    page = Page(report.html())
    assert not {"script", "link", "iframe", "object"} & set(page.seen)
    for tag, name, value in page.attributes:
        if name == "src":
            assert value.startswith("data:image/png;base64,"), (tag, value[:80])
        if name == "href":
            assert value.startswith("#"), (tag, value)
    assert "http" not in report.html()
    assert "@import" not in report.html()


def test_links_of_the_page_have_targets(report: Report) -> None:
    attributes = Page(report.html()).attributes
    targets = {value for _, name, value in attributes if name == "id"}
    links = {value[1:] for _, name, value in attributes if name == "href"}
    assert links <= targets
    assert {"s1", "s2"} <= links


def test_text_is_escaped_and_backticks_set_code(report: Report) -> None:
    page = Page(report.html())
    for text in ("Title <script>alert(1)</script>", 'Subtitle & "quotes"', "First <section>", "1 < 2"):
        assert text in page.text
    assert "<code>make demo</code>" in report.html()


def test_figures_and_tables_are_numbered_and_captioned(report: Report) -> None:
    page = Page(report.html())
    assert [t for t in page.texts if re.fullmatch(r"(Figure|Table) \d\.", t)] == [
        "Table 1.",
        *(f"Figure {i}." for i in range(1, 7)),
    ]
    assert page.seen.count("figure") == page.seen.count("figcaption") == 7


def test_tables_align_numbers_and_set_the_lowest_bold(report: Report) -> None:
    html = report.html()
    assert '<td class="number"><b>0.0801</b></td>' in html
    assert '<td class="number">0.1350</td>' in html
    assert '<td class="number">∞</td>' in html
    assert '<td class="number">12 000</td>' in html
    assert "<th>method</th>" in html


def test_a_panel_is_drawn_for_every_group_lead_time_and_quantity(report: Report) -> None:
    page = Page(report.html())
    titles = ["velocity_x", "tracer", "lead time 1 s", "lead time 6 s", "kinetic energy", "tracer mass"]
    assert set(titles) <= set(page.texts)
    assert "lead time [s]" in page.texts
    quantities = 5  # tracer mass, two momenta, kinetic energy, enstrophy
    assert page.seen.count("svg") == 1 + 3 + 3 + quantities


def test_fields_show_units_lead_times_and_the_size_of_errors(report: Report, flow: Flow) -> None:
    truth, network, _ = flow
    page = Page(report.html())
    assert "Fields [kg m⁻³]" in page.texts
    assert {"1 s", "6 s"} <= set(page.texts)
    first = float(np.sqrt(((network["tracer"][0, 0] - truth["tracer"][0, 0]) ** 2).mean()))
    assert f"rms {first:.3g}" in page.texts
    assert "rms –" in page.texts
    assert page.seen.count("img") == 3 * 5 + 2


def test_north_is_up_whatever_the_order_of_latitudes(make: Make) -> None:
    values = np.arange(12.0).reshape(1, 3, 4)
    data = make({"t": values}, dims=("lead_time", "y", "x"))["t"]
    pages = []
    for field in (data, data.isel(y=slice(None, None, -1))):
        page = Report("t")
        page.fields(field, {"network": field + 1}, "c")
        pages.append(page.html())
    assert pages[0] == pages[1]


def test_long_lead_times_in_seconds_are_shown_in_hours(make: Make) -> None:
    data = make({"t": np.zeros((4, 3, 4))}, dims=("lead_time", "y", "x"))
    data = data.assign_coords(lead_time=("lead_time", np.arange(1, 5) * 21600.0, {"units": "s"}))
    page = Report("t")
    page.fields(data["t"], {"network": data["t"]}, "c")
    assert {"6 h", "24 h"} <= set(Page(page.html()).texts)


def test_a_steady_problem_with_one_lead_time_can_be_drawn(make: Make, rng: np.random.Generator) -> None:
    truth = make({"solution": rng.normal(size=(6, 1, 8, 8))})
    forecast = truth + 0.1
    page = Report("t")
    page.error_curves({"network": scores.rmse(scores.accumulate(forecast, truth))}, "c", "RMSE")
    page.fields(truth["solution"][0], {"network": forecast["solution"][0]}, "c")
    page.spectra({"truth": spectra.spectrum(truth)}, "c")
    Page(page.html())


def test_writing_replaces_the_old_file_and_leaves_nothing_else(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "report.html"
    Report("old").write(path)
    assert report.write(path) == path
    assert path.read_text(encoding="utf-8") == report.html()
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_typical_report_is_small(report: Report) -> None:
    assert len(report.html()) < 1_000_000


def test_what_is_no_truth_is_not_called_so(flow: Flow) -> None:
    truth, network, _ = flow
    page = Report("t")
    one = {"trajectory": 0}
    page.fields(truth["tracer"].isel(one), {"network": network["tracer"].isel(one)}, "c", reference="refined")
    assert "truth" not in Page(page.html()).text
    assert "network − refined" in Page(page.html()).text


def test_the_trained_horizon_is_drawn(flow: Flow) -> None:
    truth, network, _ = flow
    errors = {"network": scores.relative_l1(scores.accumulate(network, truth))}
    pages = [Report("t"), Report("t")]
    for page, horizons in zip(pages, ({}, {"network": 2.0}), strict=True):
        page.error_curves(errors, "c", "relative L1", horizons)
    without, marked = (page.html().count("stroke-dasharray") for page in pages)
    assert marked == without + len(errors["network"]["group"])
