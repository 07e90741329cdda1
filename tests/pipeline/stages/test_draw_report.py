"""The report of a finished evaluation: one page that needs nothing else, and says what it can't show."""

import base64
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.forecast_zarr import write_forecast
from pelagos.evaluation.score_summary import json_values
from pelagos.evaluation.streaming.score_archive import write_scores
from pelagos.evaluation.truth import read_truth
from pelagos.evaluation.verification import evaluate_forecasts
from pelagos.pipeline.cli import app
from pelagos.pipeline.stages.draw_report import NUMBERS, draw
from pelagos.preprocessing.errors import DamagedFileError, MissingFileError
from pelagos.preprocessing.store.store import open_store

PHONE = 390
"""Pixels."""


def evaluation_folder(store_path: Path, folder: Path, factor: float, split: str = "valid") -> Path:
    """What `evaluate` leaves: forecasts that are too large, their scores, the configuration and the model's run."""
    store = open_store(store_path)
    starts = StartsConfig(split=split, every=1, steps=4)
    plan = starts.plan(store)
    truth = read_truth(store, plan, store.variables)
    growth = factor ** np.arange(1, 5)[:, None, None]
    forecast = (truth * growth).assign_attrs(truth.attrs)
    write_forecast(forecast, folder / "forecasts" / "net.zarr")
    run = folder.with_name(f"{folder.name}-run")
    run.mkdir()
    records = [
        {"step": step, "train/loss": 1 / step, "valid/loss": 2 / step, "loader_wait": 0.1} for step in (1, 2)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (run / "model").mkdir()
    adapted = {"finetuned": {"adapted": {"inputs new, from fresh weights": "wave_speed"}}}
    (run / "model" / "model.json").write_text(json.dumps({"network": {"kind": "fno"}, "history": adapted}))
    models = {"net": {"model": str(run / "model"), "horizon": store.dt}}
    found = evaluate_forecasts(
        {"net": forecast}, store, plan, store.variables, ["persistence"], models=models
    )
    write_scores(folder / "scores.zarr", found.kept.items(), {})
    (folder / "scores.json").write_text(json.dumps(json_values(found.scores)))
    config = {
        "command": "evaluate",
        "store": str(store_path),
        "title": "A & B",
        "starts": starts.model_dump(),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def folder(waves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = evaluation_folder(waves, tmp_path_factory.mktemp("report") / "evaluation", 1.1)
    draw(made)
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text()


class References(HTMLParser):
    """What a page refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_says_what_was_scored_and_shows_single_forecasts(page: str) -> None:
    for text in (
        "A &amp; B",
        "trajectories of split valid",
        "validation trajectory",
        "The worst forecast of net",
        "The median forecast of net",
        "The best forecast of net",
        "moving",
        "Energy of",
        "Where the errors are",
        "valid/loss",
        "loader wait",
        "What was scored",
        "command: evaluate",
        "drawn by",
        "scored by",
        "Upright lines mark the longest lead time",
        "inputs new, from fresh weights",
        "wave_speed",
    ):
        assert text in page, text
    assert "held-out" not in page


def test_the_page_needs_no_network_no_script_and_little_room(page: str) -> None:
    found = References(page)
    assert "script" not in found.tags
    assert not {"iframe", "object", "embed"} & found.tags
    beside = {one for one in found.found if not one.startswith(("data:", "#"))}
    assert beside == {*NUMBERS, "scores.json"}
    assert not re.search(r"https?://", page)
    assert len(page.encode()) < 10_000_000


def test_texts_of_charts_are_readable_on_a_phone(page: str) -> None:
    charts = re.findall(r'<svg viewBox="0 0 (\d+)[^"]*" role="img".*?</svg>', page, re.S)
    sizes = [
        (float(size), float(width))
        for width, chart in re.findall(r'<svg viewBox="0 0 (\d+)[^"]*" role="img"(.*?)</svg>', page, re.S)
        for size in re.findall(r"font-size: ([\d.]+)px", chart)
    ]
    assert len(charts) > 3
    room = PHONE - 2 * 1.05 * 16  # the margins of the style sheet
    assert min(size * room / width for size, width in sizes) >= 8.5


def test_every_number_is_beside_the_page_and_in_it(folder: Path, page: str) -> None:
    [embedded] = re.findall(r'href="data:text/csv;base64,([^"]+)"', page)
    assert base64.b64decode(embedded).decode() == (folder / "numbers.csv").read_text()
    rows = json.loads((folder / "numbers.json").read_text())
    assert {"rmse", "bias", "rollout", "relative_l1"} <= {row["score"] for row in rows}
    assert all(row["low"] is not None for row in rows if row["score"] == "rmse")


def test_drawing_again_gives_the_same_bytes(folder: Path, page: str) -> None:
    result = CliRunner().invoke(app, ["report", str(folder)])
    assert result.exit_code == 0
    assert (folder / "report.html").read_text() == page


def test_what_cannot_be_shown_is_said(waves: Path, tmp_path: Path) -> None:
    folder = evaluation_folder(waves, tmp_path / "evaluation", 1.1)
    shutil.rmtree(folder / "forecasts")
    assert "The forecasts of net were not kept" in draw(folder).read_text()
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"store": str(tmp_path / "gone.zarr")}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    page = draw(folder).read_text()
    assert "The store cannot be read" in page
    assert "Truth, forecast and error of" in page  # of the sample that is kept with the scores
    (folder / "scores.json").write_text("{")
    with pytest.raises(DamagedFileError, match=r"scores\.json"):
        draw(folder)
    with pytest.raises(MissingFileError, match="no finished evaluation"):
        draw(tmp_path)


def test_evaluations_are_compared_side_by_side(waves: Path, folder: Path, tmp_path: Path) -> None:
    other = evaluation_folder(waves, tmp_path / "other", 1.3)
    file = tmp_path / "c.html"
    result = CliRunner().invoke(app, ["report", "compare", str(folder), str(other), "--output", str(file)])
    assert result.exit_code == 0, result.output
    assert "evaluation: net" in file.read_text()
    tests = json.loads(file.with_suffix(".json").read_text())["tests"]
    [one] = [t for t in tests if (t["score"], t["second"]) == ("rollout", "other: net")]
    assert one["difference"]["value"] < 0
    alone = CliRunner().invoke(app, ["report", "compare", str(folder), str(folder)])
    assert alone.exit_code == 2  # of a wrong configuration
    assert "two or more different folders" in alone.output


PROBE = """<script>
addEventListener('error', e => (window.faults = (window.faults || 0) + 1), true);
addEventListener('load', () => { document.title = JSON.stringify({
  over: document.documentElement.scrollWidth - document.documentElement.clientWidth, faults: window.faults || 0,
  asked: performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length,
  least: Math.min(...[...document.querySelectorAll('.charts svg text')].map(
    t => parseFloat(getComputedStyle(t).fontSize) * Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b))),
}); parent.document.title = document.title; });
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_finds_nothing_wrong(page: str, tmp_path: Path) -> None:
    probed = page.replace("<head>", f"<head>{PROBE}", 1)
    # Chromium opens no window as narrow as a phone; a frame in it may be.
    frame = f'<iframe width="{PHONE}" height="844" srcdoc="{html.escape(probed, quote=True)}"></iframe>'
    (tmp_path / "phone.html").write_text(f"<!DOCTYPE html><title>not loaded</title>{frame}")
    command = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--dump-dom",
    ]
    command += [
        f"--user-data-dir={tmp_path}/profile",
        "--virtual-time-budget=3000",
        f"file://{tmp_path}/phone.html",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", answer.stdout)
    assert title is not None
    found = json.loads(html.unescape(title.group(1)))
    assert (found["over"], found["faults"], found["asked"]) == (0, 0, 0)
    assert found["least"] >= 8.5
    assert "CONSOLE" not in answer.stderr
