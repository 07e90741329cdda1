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
    assert "<b>0.100</b>" in page  # the lowest relative L1 error, of a forecast 10 % too large


def test_spectra_are_left_out_where_fields_have_holes(evaluation: Evaluation) -> None:
    holes = evaluation.initial.where(evaluation.initial["x"] > evaluation.initial["x"][0])
    page = evaluation_report("t", replace(evaluation, initial=holes)).html()
    assert "Spectra and conservation" not in page
    assert "Pictures" in page


def test_the_pictured_sample_counts_over_starts_and_begins_again_at_the_end(evaluation: Evaluation) -> None:
    starts = evaluation.truth.sizes["start"]
    samples = starts * evaluation.truth.sizes["trajectory"]
    first, second = (int(number) for number in evaluation.truth["trajectory"].values)
    pages = {n: evaluation_report("t", evaluation, n).html() for n in (0, starts, samples)}
    assert pages[0] == pages[samples]
    assert f"held-out trajectory {first}." in pages[0]
    assert f"held-out trajectory {second}." in pages[starts]


def test_units_of_a_group_are_shown_beside_its_rmse(evaluation: Evaluation) -> None:
    truth = evaluation.truth.copy()
    name = next(iter(truth.data_vars))
    truth[name] = truth[name].assign_attrs(units="furlong")
    assert "furlong" in evaluation_report("t", replace(evaluation, truth=truth)).html()
    assert np.isfinite(evaluation.scores["methods"]["a"]["one_step"])
