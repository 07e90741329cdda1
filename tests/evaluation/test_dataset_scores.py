"""Scores of datasets are the closed forms, and what cannot be compared is refused."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation.dataset_scores import score
from pelagos.preprocessing.errors import ConfigError, DataError


def fields(values: Any, leads: Any = (1.0, 2.0)) -> xr.Dataset:
    """(trajectory, start, lead_time, y, x) fields of one variable."""
    shape = (12, 1, len(leads), 16, 16)
    dims = ("trajectory", "start", "lead_time", "y", "x")
    axis = np.arange(16) / 16
    coordinates = {
        "trajectory": np.arange(12),
        "start": [0],
        "lead_time": np.asarray(leads),
        "y": axis,
        "x": axis,
    }
    return xr.Dataset({"u": (dims, np.broadcast_to(values, shape).copy())}, coordinates)


TRUTH = np.random.default_rng(0).normal(1, 2, (12, 1, 2, 16, 16))
SIZES = np.arange(1, 13)[:, None, None, None, None]


def test_scores_are_the_benchmarks_formulas() -> None:
    truth = fields(TRUTH)
    forecast = fields(TRUTH + 0.1)
    found = score(forecast, truth, "pdebench")["scores"]
    norms = np.sqrt((TRUTH**2).mean(axis=(-2, -1)))
    assert found["rmse"]["value"] == pytest.approx(0.1)
    assert found["nrmse"]["value"] == pytest.approx((0.1 / norms).mean())
    variance = TRUTH[:, 0, 0].var(axis=(-2, -1), ddof=1)
    one_step = score(forecast, truth, "the_well")["scores"]["vrmse_one_step"]
    assert one_step["value"] == pytest.approx(np.sqrt(0.01 / (variance + 1e-7)).mean())
    assert one_step["low"] < one_step["value"] < one_step["high"]


def test_durations_are_lead_times_and_failures_are_counted() -> None:
    values = TRUTH + 0.1 * SIZES
    values[3, 0, 1, 0, 0] = np.nan
    leads = np.array([1, 2], "timedelta64[h]").astype("timedelta64[ns]")
    found = score(fields(values, leads), fields(TRUTH, leads), "pdebench")
    rmse = found["scores"]["rmse"]
    assert (rmse["n"], rmse["failed"]) == (12, 1)
    assert found["lead_times"] == [3600.0, 7200.0]


def test_normalised_fields_are_compared_by_the_scales_that_are_given() -> None:
    mean, deviation = 1.0, 2.0
    found = score(fields(TRUTH + 0.1), fields(TRUTH), "poseidon", scales={"u": (mean, deviation)})
    size = np.abs((TRUTH[:, 0, 1] - mean) / deviation).mean(axis=(-2, -1))
    expected = 100 * np.median(0.1 / deviation / size)
    assert found["scores"]["mean_over_median_relative_l1"]["value"] == pytest.approx(expected)
    with pytest.raises(ConfigError, match="give scales="):
        score(fields(TRUTH), fields(TRUTH), "poseidon")


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="convention must be one of poseidon, "):
        score(fields(TRUTH), fields(TRUTH), "best")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="differ from position 1 on"):
        score(fields(TRUTH), fields(TRUTH, (1.0, 3.0)))
    with pytest.raises(DataError, match="is an ensemble"):
        score(fields(TRUTH).expand_dims(member=[0, 1]), fields(TRUTH))
