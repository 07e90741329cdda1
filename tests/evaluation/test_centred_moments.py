"""Variances and centred correlations keep their digits under a large mean, however the points were cut."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.aggregate import Sums

Make = Callable[..., xr.Dataset]
OFFSET = 1e6
"""Mean over deviation, as of geopotential or pressure."""


@pytest.fixture
def shifted(make: Make) -> tuple[xr.Dataset, xr.Dataset]:
    """A forecast and a truth far from zero; values are multiples of 2⁻²⁰, so that adding the offset is exact."""
    rng = np.random.default_rng(4)
    anomaly, noise = (np.round(rng.normal(size=(3, 2, 8, 12)) * 2**20) / 2**20 for _ in range(2))
    return make({"u": OFFSET + anomaly + noise / 4}), make({"u": OFFSET + anomaly})


def test_a_large_mean_costs_no_digits(shifted: tuple[xr.Dataset, xr.Dataset]) -> None:
    near = [(data - OFFSET).assign_attrs(data.attrs) for data in shifted]
    far_sums, near_sums = scores.accumulate(*shifted), scores.accumulate(*near)
    for metric in (scores.vrmse, lambda sums: scores.correlation(sums, centred=True)):
        np.testing.assert_allclose(metric(far_sums), metric(near_sums), rtol=1e-12)
        pooled = metric(far_sums.pooled("trajectory"))
        np.testing.assert_allclose(pooled, metric(near_sums.pooled("trajectory")), rtol=1e-12)


def test_chunks_merge_to_the_whole(shifted: tuple[xr.Dataset, xr.Dataset]) -> None:
    forecast, truth = shifted
    truth["u"][0, 0, :5] = np.nan
    truth["u"][1, 1] = np.nan
    weights = xr.DataArray(np.linspace(0.5, 1.5, 8), dims="y") * xr.ones_like(truth["x"])
    whole = scores.accumulate(forecast, truth, weights=weights)
    cuts = [
        {"y": slice(first, last), "x": x}
        for first, last in ((0, 1), (1, 6), (6, 8))
        for x in ([0], slice(1, 12))
    ]
    merged = Sums.total(
        scores.accumulate(forecast.isel(cut), truth.isel(cut), weights=weights.isel(cut))
        for cut in cuts[::-1]
    )
    for one, other in ((whole, merged), (whole.pooled("trajectory"), merged.pooled("trajectory"))):
        np.testing.assert_allclose(scores.vrmse(other), scores.vrmse(one), rtol=1e-12)
        found, expected = (scores.correlation(sums, centred=True) for sums in (other, one))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_chunk_that_lacks_a_sample_leaves_it_as_it_is(shifted: tuple[xr.Dataset, xr.Dataset]) -> None:
    forecast, truth = shifted
    parts = [scores.accumulate(forecast.isel(trajectory=[i]), truth.isel(trajectory=[i])) for i in (2, 0, 1)]
    whole = scores.accumulate(forecast, truth)
    np.testing.assert_array_equal(scores.vrmse(Sums.total(parts)), scores.vrmse(whole))


def test_pooled_moments_are_those_of_all_points(shifted: tuple[xr.Dataset, xr.Dataset]) -> None:
    forecast, truth = shifted
    pooled = scores.accumulate(forecast, truth).pooled("trajectory")
    p, t = ((data["u"].values - OFFSET).transpose(1, 0, 2, 3).reshape(2, -1) for data in (forecast, truth))
    expected = [np.corrcoef(p[lead], t[lead])[0, 1] for lead in range(2)]
    np.testing.assert_allclose(scores.correlation(pooled, centred=True).values[:, 0], expected, rtol=1e-12)


def test_a_forecast_that_is_not_a_number_spoils_no_moment_of_the_truth(
    shifted: tuple[xr.Dataset, xr.Dataset],
) -> None:
    forecast, truth = shifted
    expected = scores.accumulate(truth, truth).central("squared_truth")
    forecast["u"][1, 0, 3, 3] = np.nan
    sums = scores.accumulate(forecast, truth)
    np.testing.assert_array_equal(sums.central("squared_truth"), expected)
    assert scores.correlation(sums, centred=True).values[1, 0, 0] == -np.inf


def test_the_correlation_time_needs_a_truth(make: Make) -> None:
    rng = np.random.default_rng(0)
    truth = make({"u": rng.normal(size=(4, 3, 6, 6))})
    forecast = truth.copy(deep=True)
    forecast["u"][1, 1:] = np.nan  # blew up
    forecast["u"][2, 1:] *= -1
    truth["u"][0, :] = np.nan
    truth["u"][2, 2:] = np.nan
    truth["u"][3, 2:] = np.nan
    found = scores.correlation_time(scores.correlation(scores.accumulate(forecast, truth)))
    np.testing.assert_array_equal(found.values[:, 0], [np.nan, 2.0, 2.0, np.inf])
