from dataclasses import replace

import numpy as np
import pytest

from pelagos.evaluation.forecast_plan import StartsConfig
from pelagos.evaluation.report.evaluation_report import evaluation_report
from pelagos.evaluation.truth import read_truth
from pelagos.evaluation.verification import Evaluation, evaluate_forecasts
from pelagos.preprocessing.store.store import Store


@pytest.fixture(scope="module")
def evaluation(store: Store) -> Evaluation:
    plan = StartsConfig(every=2, steps=2).plan(store)
    truth = read_truth(store, plan, store.variables)
    forecasts = {
        name: (truth * factor).assign_attrs(truth.attrs) for name, factor in (("a", 1.1), ("b", 0.5))
    }
    return evaluate_forecasts(forecasts, store, plan, store.variables, ["persistence"])


def test_a_report_has_scores_spectra_and_pictures_of_every_method(evaluation: Evaluation) -> None:
    page = evaluation_report("A title", evaluation).html()
    for text in ("A title", "waves: 2 trajectories", "Spectra and conservation", "Pictures", "persistence"):
        assert text in page
    for text in (
        "over that of the truth, with 95 % intervals, where",
        "checkerboards and stripes of one point",
    ):
        assert text in page
    assert "<b>0.100</b>" in page  # the lowest relative L1 error, of a forecast 10 % too large


def test_spectra_are_left_out_where_fields_have_holes(evaluation: Evaluation) -> None:
    truth = evaluation.truth.assign(
        complete=evaluation.truth["complete"] & (evaluation.truth["trajectory"] < 5)
    )
    page = evaluation_report("t", replace(evaluation, kept={**evaluation.kept, "truth": truth})).html()
    assert "Spectra and conservation" not in page
    assert "Pictures" in page


def test_the_pictured_sample_counts_over_starts_and_begins_again_at_the_end(store: Store) -> None:
    plan = StartsConfig(every=2, steps=2).plan(store)
    starts, (first, second) = len(plan.starts), plan.trajectories

    def page(pictured: int) -> str:
        found = evaluate_forecasts({}, store, plan, store.variables, ["persistence"], pictured=pictured)
        return evaluation_report("t", found).html()

    assert page(0) == page(2 * starts)
    assert f"held-out trajectory {first}." in page(0)
    assert f"held-out trajectory {second}." in page(starts)


def test_units_of_a_group_are_shown_beside_its_rmse(evaluation: Evaluation) -> None:
    units = ("variable", np.array(["furlong", "1"]))
    truth = evaluation.truth.assign_coords(units=units)
    found = replace(evaluation, kept={**evaluation.kept, "truth": truth})
    assert "furlong" in evaluation_report("t", found).html()
    assert np.isfinite(evaluation.scores["methods"]["a"]["one_step"])


def test_the_report_names_its_split_and_its_models(store: Store) -> None:
    plan = StartsConfig(split="train", steps=2).plan(store)
    truth = read_truth(store, plan, store.variables)
    facts = {"net": {"model": "models:/ocean@champion", "horizon": 0.03}}
    found = evaluate_forecasts({"net": truth}, store, plan, store.variables, models=facts)
    page = evaluation_report("t", found).html()
    assert "held-out" not in page
    for text in (
        "trajectories of split train",
        "training trajectory",
        "how well models fit what they have seen",
    ):
        assert text in page
    for text in ("models:/ocean@champion", "Upright lines mark the longest lead time"):
        assert text in page
    far = replace(found, scores={**found.scores, "models": {"net": {"model": "m", "horizon": 9.0}}})
    assert "Upright lines" not in evaluation_report("t", far).html()


def test_failures_and_offsets_stand_beside_the_scores(store: Store) -> None:
    plan = StartsConfig(every=2, steps=2).plan(store)
    truth = read_truth(store, plan, store.variables)
    forecast = truth.copy(deep=True)
    forecast["displacement"][0, 0, 1, 0, 0] = np.nan
    mean = store.stats.mean.copy()
    mean[0] = 300.0
    offset = replace(store, stats=replace(store.stats, mean=mean))
    found = evaluate_forecasts({"net": forecast}, offset, plan, store.variables)
    page = evaluation_report("t", found).html()
    assert f"1 of {truth.sizes['trajectory'] * truth.sizes['start']}" in page
    assert "does not move before half of the forecasts have failed" in page
    assert "The mean of displacement is large beside the deviation" in page


def test_methods_of_fewer_fields_leave_gaps_in_the_report(store: Store) -> None:
    plan = StartsConfig(every=2, steps=2).plan(store)
    truth = read_truth(store, plan, store.variables)
    forecasts = {"one": truth[["displacement"]], "all": (truth * 1.1).assign_attrs(truth.attrs)}
    page = evaluation_report("t", evaluate_forecasts(forecasts, store, plan, store.variables)).html()
    assert "one (1 of 2 fields)" in page
