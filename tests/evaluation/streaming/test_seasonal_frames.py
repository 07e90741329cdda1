"""A store with dates: three years whose fields are the number of the year, the last of them the test split."""

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.conventions.score_catalogue import ScoreName
from pelagos.evaluation.forecast_plan import ForecastPlan
from pelagos.evaluation.streaming.chosen_scores import ChosenScores
from pelagos.evaluation.streaming.frame_sources import StoredFrames
from pelagos.evaluation.streaming.seasonal_frames import SeasonalFrames, dates_of
from pelagos.evaluation.verification import evaluate_forecasts
from pelagos.preprocessing.build.build_config import BuildConfig
from pelagos.preprocessing.build.build_store import build
from pelagos.preprocessing.store.store import Store, open_store

DAYS = np.arange("2001-01-01", "2004-01-01", dtype="datetime64[D]")


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("dated")
    year = DAYS.astype("datetime64[Y]").astype(np.float64) - 31.0
    values = np.broadcast_to(year[:, None, None], (len(DAYS), 4, 6)).astype(np.float32)
    rows, columns = np.array([-67.5, -22.5, 22.5, 67.5]), np.arange(6) * 60.0
    field = xr.DataArray(values, dims=("time", "latitude", "longitude"), attrs={"units": "K"})
    ds = xr.Dataset(
        {"t2m": field}, {"time": DAYS.astype("datetime64[ns]"), "latitude": rows, "longitude": columns}
    )
    ds["latitude"].attrs["units"], ds["longitude"].attrs["units"] = "degrees_north", "degrees_east"
    ds.to_netcdf(folder / "years.nc", engine="h5netcdf")
    config = {
        "dataset": "years",
        "source": {"kind": "cf", "paths": str(folder / "years.nc")},
        "root": str(folder / "stores"),
        "splits": {
            "kind": "time",
            "train": ["2001-01-01", "2002-12-31"],
            "test": ["2003-01-01", "2003-12-31"],
        },
    }
    return open_store(build(BuildConfig.model_validate(config)))


def plan_of(store: Store) -> ForecastPlan:
    first = int(np.argmax(store.splits["test"][0]))
    return ForecastPlan((0,), (first, first + 40), 1, 2, "test")


def test_the_climatology_is_the_mean_over_the_training_years(dated: Store) -> None:
    plan = plan_of(dated)
    frames = SeasonalFrames(StoredFrames(dated, plan, dated.variables), "train")
    (batch,) = plan.batches(16)
    found = list(frames.frames(batch))
    assert len(found) == 2
    # The years 0 and 1 weigh the same around each day but at the ends of the training split.
    np.testing.assert_allclose(found[0][1], 0.5, rtol=1e-12)


def test_anomalies_reach_the_score_and_the_baseline_has_none(dated: Store) -> None:
    assert dates_of(dated) is not None
    found = evaluate_forecasts(
        {},
        dated,
        plan_of(dated),
        dated.variables,
        ("persistence", "seasonal_climatology"),
        chosen=ChosenScores("weatherbench2", ("acc",)),
    ).scores
    methods = found["convention"]["methods"]
    assert methods["persistence"]["without"] == []
    (key,) = methods["persistence"]["scores"]["acc"]["groups"]
    # The test year is 2, which is 1.5 above the climatology, and persistence knows it.
    curve = methods["persistence"]["scores"]["acc"]["groups"][key]["by_lead_time"]["value"]
    np.testing.assert_allclose(curve, 1, rtol=1e-12)
    curve = methods["seasonal_climatology"]["scores"]["acc"]["groups"][key]["by_lead_time"]["value"]
    assert curve == [None, None]
    rmse = methods["seasonal_climatology"]["scores"]["rmse"]["groups"][key]["by_lead_time"]["value"]
    np.testing.assert_allclose(rmse, 1.5, rtol=0.2)


def test_skill_is_one_minus_the_share_of_the_climatologys_squared_error(dated: Store) -> None:
    names: tuple[ScoreName, ...] = ("skill", "rmse")
    found = evaluate_forecasts(
        {},
        dated,
        plan_of(dated),
        dated.variables,
        ("persistence", "seasonal_climatology"),
        chosen=ChosenScores(None, names),
    ).scores
    curves = {}
    for method, values in found["methods"].items():
        (key,) = values["scores"]["skill"]["groups"]
        for name in names:
            curves[method, name] = np.array(
                values["scores"][name]["groups"][key]["by_lead_time"]["value"], float
            )
    share = curves["persistence", "rmse"] / curves["seasonal_climatology", "rmse"]
    np.testing.assert_allclose(curves["persistence", "skill"], 1 - share**2, atol=1e-6)
    np.testing.assert_allclose(curves["seasonal_climatology", "skill"], 0, atol=1e-6)


def test_a_store_without_dates_has_no_anomalies_and_says_which_scores_are_missing(store: Store) -> None:
    assert dates_of(store) is None
    plan = ForecastPlan((4, 5), (0,), 1, 2, "test")
    found = evaluate_forecasts(
        {}, store, plan, store.variables, ("persistence",), chosen=ChosenScores("weatherbench2")
    ).scores
    assert found["convention"]["methods"]["persistence"]["without"] == ["acc"]
