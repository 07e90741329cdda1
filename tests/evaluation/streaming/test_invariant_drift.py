import csv
import io

import numpy as np
import pytest

from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.report.score_numbers import numbers_of
from pelagos.evaluation.streaming.chosen_scores import ChosenScores
from pelagos.evaluation.truth import read_initial, read_truth
from pelagos.evaluation.verification import evaluate_forecasts
from pelagos.preprocessing.store.store import Store, open_store
from tests.preprocessing.simulated_store import simulated_store

PLAN = ForecastPlan((2, 3), (0,), 1, 2, "test")


@pytest.fixture(scope="module")
def gas(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("gas")
    simulation = {"num_trajectories": 4, "shape": (8, 8), "num_frames": 3, "interval": 0.01}
    return open_store(
        simulated_store(folder, simulation, {"test": 2}, equation={"kind": "euler"}, dataset="gas")
    )


def test_a_forecast_that_gains_mass_says_how_much_and_in_what_units(gas: Store) -> None:
    truth, initial = read_truth(gas, PLAN, gas.variables), read_initial(gas, PLAN, gas.variables)
    heavier = truth.assign(density=truth["density"] + np.float32(0.25)).assign_attrs(truth.attrs)
    evaluation = evaluate_forecasts(
        {"model": heavier, "exact": truth}, gas, PLAN, gas.variables, chosen=ChosenScores(None, ("drift",))
    )
    found = evaluation.scores["methods"]
    mass = found["model"]["drift"]["mass"]
    assert mass["change"]["value"] == pytest.approx(0.25, rel=1e-5)
    assert mass["relative"]["value"] == pytest.approx(
        float((0.25 / initial["density"].mean(("y", "x"))).mean()), rel=1e-5
    )
    assert mass["of_truth"]["value"] == pytest.approx(0, abs=1e-6)
    assert mass["units"] == gas.variables[0].units
    assert found["exact"]["drift"]["mass"]["change"] == found["exact"]["drift"]["mass"]["of_truth"]
    # The same for each lead time, among the numbers of the report.
    rows = csv.DictReader(io.StringIO("".join(numbers_of(evaluation).csv())))
    changes = [
        float(row["value"])
        for row in rows
        if (row["method"], row["field"], row["score"]) == ("model", "mass", "relative change")
    ]
    np.testing.assert_allclose(
        changes, evaluation.drifts["model"]["mass"].median(("trajectory", "start")), rtol=1e-12
    )
    assert min(changes) > 0


def test_a_failed_forecast_conserves_nothing(gas: Store) -> None:
    truth = read_truth(gas, PLAN, gas.variables)
    broken = truth.copy(deep=True)
    broken["density"][0, 0, -1, 0, 0] = np.nan
    found = evaluate_forecasts(
        {"model": broken}, gas, PLAN, gas.variables, chosen=ChosenScores(None, ("drift",))
    ).scores["methods"]["model"]["drift"]["mass"]["change"]
    assert (found["value"], found["failed"]) == (None, 1)
