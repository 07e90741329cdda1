import math
from typing import Any

import pytest

from pelagos.evaluation.report.chosen_section import add_chosen, estimate
from pelagos.evaluation.report.report import Report

BARE: dict[str, Any] = {"methods": {"net": {}}, "time_units": "s", "lead_times": [1.0, 8.0]}
LOST: dict[str, Any] = {
    "value": None,
    "low": None,
    "high": None,
    "n": 0,
    "failed": 0,
    "groups": {},
    "meaning": "later",
}
NUMBER = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 9, "failed": 0}


def page(about: dict[str, Any]) -> str:
    report = Report("t")
    add_chosen(report, about)
    return report.html()


def test_nothing_is_added_where_nothing_was_asked_for() -> None:
    assert "<h2" not in page(BARE)


def test_horizons_conventions_and_single_scores_are_shown_with_intervals() -> None:
    median = {"value": None, "low": 4.0, "high": None, "n": 9, "failed": 0}
    net = {
        "horizons": {"valid_time": {"meaning": "until 0.4", "median": median, "share": NUMBER}},
        "scores": {"max_error": {"value": None, "meaning": "largest |e|", "groups": {"velocity": NUMBER}}},
        "rank_histogram": {"velocity": [0.2, 0.5, 0.3]},
        "without": ["seeps"],
    }
    about = {**BARE, "methods": {"net": net}}
    about["convention"] = {
        "name": "the_well",
        "fields": "physical",
        "points": "equal",
        "methods": {"net": {"scores": {"vrmse": {**NUMBER, "meaning": "root"}, "vrmse_6_12": LOST}}},
    }
    found = page(about)
    for text in (
        "valid time",
        "until 0.4",
        "∞<small>4.00 to ∞</small>",
        "max error",
        "velocity",
        "the_well",
        "vrmse: root.",
        "max error: largest |e|.",
        "rank of the truth",
        "cannot be had of these forecasts: net: seeps",
        "too short, or too few, for vrmse 6 12",
    ):
        assert text in found, text
    assert "<td>vrmse 6 12" not in found


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(None, None, math.nan), (4.0, None, math.inf), (4.0, 5.0, 5.0)]
)
def test_no_interval_is_told_from_an_endless_one(low: float | None, high: float | None, shown: float) -> None:
    found = estimate({"value": None, "low": low, "high": high}, math.inf)
    assert found.value == math.inf
    assert found.high == shown or (math.isnan(found.high) and math.isnan(shown))
