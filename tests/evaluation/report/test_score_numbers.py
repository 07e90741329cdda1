import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.report.cases import ranked_cases
from pelagos.evaluation.report.score_numbers import ScoreNumbers, chosen_numbers, numbers_of
from pelagos.evaluation.report.spectral_sections import band_panels, comparable, fine_panels, ratio_panels
from pelagos.evaluation.streaming.kept_statistics import sample_axes
from pelagos.evaluation.truth import read_truth
from pelagos.evaluation.verification import Evaluation, evaluate_forecasts
from pelagos.preprocessing.store.store import Store


@pytest.fixture(scope="module")
def evaluation(store: Store) -> Evaluation:
    """A forecast 10 % too large, and one of half the size that is no number in its second sample."""
    plan = StartsConfig(every=1, steps=3).plan(store)
    truth = read_truth(store, plan, store.variables)
    forecasts = {
        name: (truth * factor).assign_attrs(truth.attrs) for name, factor in (("a", 1.1), ("b", 0.5))
    }
    forecasts["b"]["displacement"][0, 1, 2, 0, 0] = np.nan
    return evaluate_forecasts(forecasts, store, plan, store.variables, ["persistence"])


@pytest.fixture(scope="module")
def numbers(evaluation: Evaluation) -> ScoreNumbers:
    return numbers_of(evaluation)


def test_the_headline_is_that_of_the_summary_with_an_interval(
    evaluation: Evaluation, numbers: ScoreNumbers
) -> None:
    for method, known in evaluation.scores["methods"].items():
        found = numbers.headline(method)
        for key in ("one_step", "rollout"):
            np.testing.assert_allclose(found[key].value, known[key], rtol=1e-12)
            np.testing.assert_allclose(found[f"normalised_{key}"].value, known["normalised"][key], rtol=1e-12)
            assert found[key].low <= found[key].value <= found[key].high or np.isinf(found[key].high)


def test_curves_are_those_of_the_summary(evaluation: Evaluation, numbers: ScoreNumbers) -> None:
    for method, known in evaluation.scores["methods"].items():
        # The summary has no bias of failed forecasts; here they are infinitely wrong.
        for score in ("relative_l1", "rmse", "bias")[: 2 if method == "b" else 3]:
            for group, line in numbers.curve(method, score).items():
                np.testing.assert_allclose(
                    [one.value for one in line], known["groups"][group][score], rtol=1e-10, atol=1e-13
                )
    assert [one.failed for one in numbers.curve("b", "rmse")["displacement"]] == [0, 0, 1]


def test_every_number_is_in_both_files(numbers: ScoreNumbers) -> None:
    lines = list(csv.DictReader(io.StringIO("".join(numbers.csv()))))
    rows = json.loads("".join(numbers.json()))
    assert len(lines) == len(rows) > 50
    for line, row in zip(lines, rows, strict=True):
        assert line["method"] == row["method"]
        if row["value"] is not None:
            assert float(line["value"]) == row["value"]
    assert any(row["value"] is None for row in rows)  # infinite, for which JSON has no number


def test_the_worst_case_is_the_failed_one(evaluation: Evaluation, numbers: ScoreNumbers) -> None:
    (worst, sample, error), _, (best, _, least) = ranked_cases(numbers, "b")
    assert (worst, best, error) == ("worst", "best", np.inf)
    trajectory, start = (axis[sample] for axis in sample_axes(evaluation.truth))
    assert trajectory == evaluation.truth["trajectory"].values[0]
    assert start == evaluation.truth["start"].values[1]
    assert least == pytest.approx(0.5)


def test_bands_and_the_last_octave_see_a_forecast_that_is_too_large(
    evaluation: Evaluation, numbers: ScoreNumbers
) -> None:
    group, counts = str(evaluation.truth["group"].values[0]), numbers.scores.counts
    for panel in band_panels(evaluation.kept, group, counts):
        [line] = [curve for curve in panel.curves if curve.name == "a"]
        # The ratio is that of every forecast, so that none differs when others are drawn.
        assert line.low is not None
        assert line.high is not None
        np.testing.assert_allclose([line.y, line.low, line.high], 0.1, rtol=1e-4)
    octave, alternating = fine_panels(evaluation.kept, group, counts)
    for panel, rtol in ((octave, 1e-3), (alternating, 1e-2)):
        [line] = [curve for curve in panel.curves if curve.name == "a"]
        np.testing.assert_allclose(line.y, 1.21, rtol=rtol)


def test_energies_over_the_truths_are_shown_by_wavenumber_and_leave_out_failures(
    evaluation: Evaluation, numbers: ScoreNumbers
) -> None:
    group, counts = str(evaluation.truth["group"].values[0]), numbers.scores.counts
    first, middle, last = ratio_panels(evaluation.spectra(group), counts)
    assert (first.title, last.title) == ("lead time 0.02", "lead time 0.06")
    for panel in (first, middle, last):
        lines = {curve.name: curve for curve in panel.curves}
        assert len(lines["truth"].x) > 1
        assert 0 not in lines["truth"].x
        # One of the forecasts of b has failed at the last lead time.
        np.testing.assert_allclose(lines["a"].y, 1.21, rtol=1e-3)
        np.testing.assert_allclose(lines["b"].y, 0.25, rtol=1e-3)
    alternating = fine_panels(evaluation.kept, group, counts)[1]
    [line] = [curve for curve in alternating.curves if curve.name == "b"]
    np.testing.assert_allclose(line.y, 0.25, rtol=1e-2)


def test_wavenumbers_without_energy_in_the_truth_are_not_compared() -> None:
    energy = np.array([[5.0, 1.0, 1e-9, 1e-3]])
    np.testing.assert_array_equal(comparable(energy), [False, True, False, True])


def test_archives_without_energies_at_the_grid_scale_show_the_last_octave_alone(
    evaluation: Evaluation, numbers: ScoreNumbers
) -> None:
    group, counts = str(evaluation.truth["group"].values[0]), numbers.scores.counts
    older = {
        name: content.drop_vars("alternating", errors="ignore") for name, content in evaluation.kept.items()
    }
    [panel] = fine_panels(older, group, counts)
    assert panel.title == "last octave"
    assert "last octave" in "".join(numbers_of(replace(evaluation, kept=older)).csv())


def test_the_numbers_of_spectra_and_bands_are_those_of_the_figures(
    evaluation: Evaluation, numbers: ScoreNumbers
) -> None:
    rows = list(csv.DictReader(io.StringIO("".join(numbers.csv()))))
    group, counts = str(evaluation.truth["group"].values[0]), numbers.scores.counts
    own = [row for row in rows if row["method"] == "a"]
    ours = [row for row in own if row["field"] == group]
    for panel in band_panels(evaluation.kept, group, counts):
        [line] = [curve for curve in panel.curves if curve.name == "a"]
        found = [float(row["value"]) for row in ours if row["score"] == f"error / truth, {panel.title}"]
        np.testing.assert_array_equal(found, line.y)
    for panel, score in zip(
        fine_panels(evaluation.kept, group, counts),
        ("energy of the last octave / truth", "energy that alternates from point to point / truth"),
        strict=True,
    ):
        [line] = [curve for curve in panel.curves if curve.name == "a"]
        found = [float(row["value"]) for row in ours if row["score"] == score]
        np.testing.assert_array_equal(found, line.y)
    panels = ratio_panels(evaluation.spectra(group), counts)
    lines = [curve for panel in panels for curve in panel.curves if curve.name == "a"]
    ratios = [row for row in ours if row["score"] == f"energy / truth at wavenumber {lines[0].x[0]:g}"]
    np.testing.assert_allclose([float(row["value"]) for row in ratios], [line.y[0] for line in lines])
    energy = evaluation.spectra(group)["a"].isel(wavenumber=1)
    name = f"energy at wavenumber {float(energy['wavenumber']):g}"
    first = next(float(row["value"]) for row in ours if row["score"] == name)
    assert first == pytest.approx(np.median(energy.isel(lead_time=0)), rel=1e-6)
    # The truth has energies of its own, and no error.
    assert {row["score"].split(" ")[0] for row in rows if row["method"] == "truth"} == {"energy"}


def test_scores_by_name_of_a_convention_and_horizons_are_among_the_numbers() -> None:
    whole = {"value": 0.5, "low": None, "high": None, "n": 2, "failed": 0}
    curve = {"value": [0.1, None], "low": [None] * 2, "high": [None] * 2, "n": [2, 2], "failed": [0, 1]}
    crps = {"lead_times": [1.0, 2.0], "groups": {"velocity": {**whole, "by_lead_time": curve}}}
    about = {
        "time_units": "s",
        "methods": {
            "net": {"scores": {"crps": crps}, "horizons": {"valid_time": {"median": whole, "share": whole}}}
        },
        "convention": {"name": "mpp", "methods": {"net": {"scores": {"nrmse": {**whole, "groups": {}}}}}},
    }
    found = {(one.score, one.field, one.lead_time): one for one in chosen_numbers(about, "net")}
    assert found["scores: crps", "velocity", 1.0].value == 0.1
    assert np.isnan(found["scores: crps", "velocity", 2.0].value)
    assert found["mpp: nrmse", "all", None].value == 0.5
    assert found["valid_time", "all", None].units == "s"
    assert not list(chosen_numbers(about, "persistence"))
