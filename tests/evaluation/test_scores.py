from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr

from pelagos.evaluation import scores
from pelagos.evaluation.aggregate import Sums
from pelagos.evaluation.forecast_schema import normalised
from pelagos.preprocessing.errors import DataError

Make = Callable[..., xr.Dataset]


SHAPE = (3, 4, 6, 8)


def pair(
    make: Make, rng: np.random.Generator, shape: tuple[int, ...] = SHAPE, **options: Any
) -> tuple[xr.Dataset, xr.Dataset]:
    """A truth and a forecast of a vector and a scalar."""
    group = {"velocity_x": "velocity", "velocity_y": "velocity"}
    names = ("velocity_x", "density", "velocity_y")
    truth = make({name: rng.normal(1, 2, shape) for name in names}, group=group, **options)
    return truth + 0.3 * xr.zeros_like(truth).map(lambda f: f + rng.normal(size=f.shape)), truth


def test_zeros_against_ones_score_one(make: Make) -> None:
    zeros, ones = make({"u": np.zeros(SHAPE)}), make({"u": np.ones(SHAPE)})
    found = scores.compute(scores.accumulate(zeros, ones))
    for name in ("relative_l1", "relative_l2", "nrmse", "rmse", "mae", "max_error"):
        np.testing.assert_array_equal(found[name], 1)
    np.testing.assert_array_equal(found["bias"], -1)
    assert found["rmse"].dims == ("trajectory", "lead_time", "group")


def test_ratios_to_a_vanishing_truth_are_undefined(make: Make) -> None:
    zeros, ones = make({"u": np.zeros(SHAPE)}), make({"u": np.ones(SHAPE)})
    found = scores.compute(scores.accumulate(ones, zeros))
    for name in ("relative_l1", "relative_l2", "nrmse", "vrmse", "correlation"):
        assert found[name].isnull().all()
    np.testing.assert_allclose(scores.relative_l1(scores.accumulate(ones, zeros), floor=1e-10), 48e10)


def test_metrics_equal_their_formulas_on_one_field(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    found = (
        scores.compute(scores.accumulate(forecast, truth))
        .isel(trajectory=1, lead_time=2)
        .sel(group="density")
    )
    p, t = (data["density"].values[1, 2] for data in (forecast, truth))
    e = p - t
    assert float(found["relative_l1"]) == pytest.approx(abs(e).sum() / abs(t).sum())
    assert float(found["relative_l2"]) == pytest.approx(np.linalg.norm(e) / np.linalg.norm(t))
    assert float(found["vrmse"]) == pytest.approx(np.sqrt((e**2).mean() / t.var(ddof=1)))
    assert float(found["mae"]) == pytest.approx(abs(e).mean())
    assert float(found["bias"]) == pytest.approx(e.mean())
    assert float(found["max_error"]) == pytest.approx(abs(e).max())
    assert float(found["correlation"]) == pytest.approx((p * t).sum() / np.linalg.norm(p) / np.linalg.norm(t))


def test_a_centred_correlation_is_pearsons(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    found = scores.correlation(scores.accumulate(forecast, truth), centred=True).sel(group="density")
    expected = np.corrcoef(forecast["density"].values[2, 0].ravel(), truth["density"].values[2, 0].ravel())[
        0, 1
    ]
    assert float(found[2, 0]) == pytest.approx(expected)


def test_a_perfect_forecast_correlates_exactly_one(make: Make, rng: np.random.Generator) -> None:
    _, truth = pair(make, rng)
    sums = scores.accumulate(truth, truth)
    for centred in (False, True):
        np.testing.assert_allclose(scores.correlation(sums, centred=centred), 1, rtol=1e-12)


def test_eps_and_ddof_are_those_of_the_well(make: Make) -> None:
    truth = make({"u": np.array([[[[1.0, 3.0]]]])})
    sums = scores.accumulate(make({"u": np.array([[[[2.0, 3.0]]]])}), truth)
    assert scores.vrmse(sums).item() == pytest.approx(np.sqrt(0.5 / 2))
    assert scores.vrmse(sums, ddof=0).item() == pytest.approx(np.sqrt(0.5))
    assert scores.vrmse(sums, eps=2.0, ddof=1).item() == pytest.approx(np.sqrt(0.5 / 4))
    assert scores.nrmse(sums, eps=5.0).item() == pytest.approx(np.sqrt(0.5 / 10))


def test_the_components_of_a_group_are_scored_together(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    error, size = (
        np.concatenate([np.abs(data[name].values[0, 0]).ravel() for name in ("velocity_x", "velocity_y")])
        for data in (forecast - truth, truth)
    )
    sums = scores.accumulate(forecast, truth)
    found = scores.relative_l1(sums)
    assert found["group"].values.tolist() == ["velocity", "density"]
    assert found.sel(group="velocity").values[0, 0] == pytest.approx(error.sum() / size.sum())
    assert scores.max_error(sums).sel(group="velocity").values[0, 0] == pytest.approx(error.max())
    assert scores.relative_l1(sums.ungrouped())["group"].values.tolist() == list(truth.data_vars)


def test_chunking_does_not_change_scores(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng, grid="latlon", y=np.linspace(-75, 75, 6), x=np.arange(8) * 45.0)
    truth["density"][1, :, :3, :] = np.nan
    weights = xr.DataArray([0.2, 0.8, 2, 2, 0.8, 0.2], dims="y") * xr.ones_like(truth["x"])
    climatology = truth.mean(["trajectory", "lead_time"])
    whole = scores.accumulate(forecast, truth, climatology=climatology, weights=weights)

    def parts() -> Iterator[Sums]:
        for chunk in (
            {"trajectory": [1], "lead_time": slice(1, 3)},
            {"trajectory": [1], "lead_time": [0, 3]},
            {"trajectory": [2, 0], "y": slice(4, 6)},
            {"trajectory": [0, 2], "y": slice(0, 4), "x": slice(3)},
            {"trajectory": [0, 2], "y": slice(0, 4), "x": slice(3, 8)},
        ):
            for names in (["density"], ["velocity_y", "velocity_x"]):
                yield scores.accumulate(
                    forecast[names].isel(chunk),
                    truth[names].isel(chunk),
                    climatology=climatology.isel({k: v for k, v in chunk.items() if k in "xy"}),
                    weights=weights.isel({k: v for k, v in chunk.items() if k in "xy"}),
                )

    merged = Sums.total(parts())
    for sums in (whole, whole.pooled("trajectory")):
        other = merged if sums is whole else merged.pooled("trajectory")
        expected = scores.compute(sums)
        xr.testing.assert_allclose(
            scores.compute(other).sel(group=expected["group"].values), expected, rtol=1e-12
        )
    xr.testing.assert_allclose(
        scores.correlation(merged, anomalies=True).sel(group=["velocity", "density"]),
        scores.correlation(whole, anomalies=True),
        rtol=1e-10,
    )


def test_adding_a_state_to_itself_changes_no_mean(make: Make, rng: np.random.Generator) -> None:
    sums = scores.accumulate(*pair(make, rng))
    xr.testing.assert_allclose(scores.rmse(sums + sums), scores.rmse(sums))
    xr.testing.assert_identical(scores.rmse(Sums.zero() + sums), scores.rmse(sums))


def test_states_with_different_statistics_do_not_add(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    with pytest.raises(DataError, match="different statistics"):
        scores.accumulate(forecast, truth) + scores.accumulate(forecast, truth, climatology=truth)


def test_missing_truth_stays_out_of_all_scores(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    half = scores.compute(scores.accumulate(forecast.isel(x=slice(4)), truth.isel(x=slice(4))))
    truth = truth.where(truth["x"] < 0.5)
    xr.testing.assert_allclose(scores.compute(scores.accumulate(forecast, truth)), half)
    xr.testing.assert_allclose(
        scores.compute(scores.accumulate(forecast.where(truth.notnull()), truth)), half
    )


def test_a_field_without_any_truth_has_no_score_and_no_vote_in_the_median(
    make: Make, rng: np.random.Generator
) -> None:
    forecast, truth = pair(make, rng)
    truth["density"][0] = np.nan
    found = scores.compute(scores.accumulate(forecast, truth)).sel(group="density")
    assert found.isel(trajectory=0).isnull().all().to_array().all()
    expected = found["rmse"].values[1:].mean(axis=0)
    np.testing.assert_allclose(scores.over_samples(found["rmse"]), expected)


def test_a_forecast_that_is_not_a_number_is_infinitely_wrong(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    forecast["density"][0, 3, 0, 0] = np.nan
    forecast["density"][1, 3, 2, 2] = np.inf
    found = scores.compute(scores.accumulate(forecast, truth)).sel(group="density")
    for name in ("rmse", "mae", "relative_l1", "max_error", "vrmse"):
        assert np.isinf(found[name].values[:2, 3]).all()
        assert np.isfinite(found[name].values[:, :3]).all()
    assert np.isinf(scores.over_samples(found["rmse"]).values[3])
    assert scores.correlation_time(found["correlation"], threshold=-1).values[:2].tolist() == [4.0, 4.0]


def test_area_weights_give_the_sphere_average(make: Make) -> None:
    latitude = np.linspace(-89.5, 89.5, 180)
    field = np.broadcast_to(np.sin(np.deg2rad(latitude))[:, None], (1, 1, 180, 4))
    options = {"grid": "latlon", "y": latitude, "x": np.arange(4) * 90.0}
    sums = scores.accumulate(make({"u": field}, **options), make({"u": 0 * field}, **options))
    assert scores.rmse(sums).item() == pytest.approx(np.sqrt(1 / 3), rel=1e-4)
    assert scores.mae(sums).item() == pytest.approx(1 / 2, rel=1e-4)
    assert scores.bias(sums).item() == pytest.approx(0, abs=1e-12)


def test_pooling_takes_the_root_last(make: Make) -> None:
    forecast = make({"u": np.array([3.0, 4.0]).reshape(2, 1, 1, 1)})
    sums = scores.accumulate(forecast, 0 * forecast)
    assert scores.rmse(sums).mean("trajectory").item() == pytest.approx(3.5)
    assert scores.rmse(sums.pooled("trajectory")).item() == pytest.approx(np.sqrt(12.5))


def test_anomalies_are_relative_to_the_climatology(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    climatology = truth.mean(["trajectory", "lead_time"])
    found = scores.correlation(scores.accumulate(forecast, truth, climatology=climatology), anomalies=True)
    expected = scores.correlation(scores.accumulate(forecast - climatology, truth - climatology))
    np.testing.assert_allclose(found.sel(group="density"), expected.sel(group="density"), rtol=1e-12)
    same = scores.accumulate(
        climatology.broadcast_like(truth).transpose(*truth.dims), truth, climatology=climatology
    )
    assert scores.correlation(same, anomalies=True).isnull().all()


def test_a_climatology_with_gaps_changes_no_other_score(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    climatology = truth.mean(["trajectory", "lead_time"])
    gaps = scores.accumulate(forecast, truth, climatology=climatology.where(truth["x"] < 0.5))
    xr.testing.assert_identical(scores.compute(gaps), scores.compute(scores.accumulate(forecast, truth)))
    west = {"x": slice(4)}
    half = scores.accumulate(forecast.isel(west), truth.isel(west), climatology=climatology.isel(west))
    for centred in (False, True):
        found, expected = (scores.correlation(sums, anomalies=True, centred=centred) for sums in (gaps, half))
        xr.testing.assert_allclose(found, expected)


def test_the_correlation_time_is_the_first_below_the_threshold() -> None:
    values = xr.DataArray(
        [[0.99, 0.9, 0.96], [1, 1, 1]], {"lead_time": [0.5, 1.0, 1.5]}, ("trajectory", "lead_time")
    )
    assert scores.correlation_time(values).values.tolist() == [1.0, np.inf]
    assert scores.correlation_time(values, threshold=0.8).values.tolist() == [np.inf, np.inf]
    assert scores.correlation_time(values.mean("trajectory"), threshold=0.96).item() == 1.0


def test_normalised_units_divide_errors_by_the_deviation(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    mean, std = (
        {str(name): 5.0 for name in truth.data_vars},
        {"velocity_x": 2.0, "density": 4.0, "velocity_y": 2.0},
    )
    scaled = scores.accumulate(normalised(forecast, mean, std), normalised(truth, mean, std))
    plain = scores.rmse(scores.accumulate(forecast, truth))
    np.testing.assert_allclose(scores.rmse(scaled), plain / xr.DataArray([2.0, 4.0], dims="group"))


def test_members_and_starts_are_samples_too(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    ensemble = xr.concat([forecast, truth], dim=xr.Variable("member", [0, 1]))
    found = scores.rmse(scores.accumulate(ensemble, truth))
    xr.testing.assert_allclose(
        found.sel(member=0, drop=True), scores.rmse(scores.accumulate(forecast, truth))
    )
    assert (found.sel(member=1) == 0).all()
    starts = truth.expand_dims(start=[3, 5]).transpose("trajectory", "start", ...)
    assert scores.rmse(scores.accumulate(starts, starts)).dims == (
        "trajectory",
        "start",
        "lead_time",
        "group",
    )


def test_a_geometric_mean_is_over_lead_times() -> None:
    values = xr.DataArray([1.0, 100.0], {"lead_time": [1, 2]}, "lead_time")
    assert scores.geometric_mean(values).item() == pytest.approx(10)


def test_a_new_statistic_needs_nothing_but_its_formula(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    within = {"within": lambda p, t: np.abs(p - t) < 0.1}
    found = scores.accumulate(forecast, truth, statistics=within).mean("within").sel(group="density")
    expected = (abs(forecast["density"] - truth["density"]) < 0.1).mean(("y", "x"))
    np.testing.assert_allclose(found, expected)


def test_lazy_data_scores_like_loaded_data(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    lazy = scores.accumulate(forecast.chunk(trajectory=1), truth.chunk(lead_time=2))
    xr.testing.assert_identical(scores.rmse(lazy), scores.rmse(scores.accumulate(forecast, truth)))


def test_coordinates_equal_up_to_rounding_are_equal(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = pair(make, rng)
    rounded = forecast.assign_coords(x=forecast["x"].values.astype(np.float32), lead_time=[1, 2, 3, 4])
    scores.accumulate(rounded, truth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.rename(density="rho"), "the forecast has 'rho', the truth only velocity_x, density"),
        (
            lambda d: d.isel(lead_time=slice(2)),
            "'lead_time' has 2 entries in the forecast and 4 in the truth",
        ),
        (lambda d: d.assign_coords(x=d["x"] + 0.1), "'x' of forecast and truth differ from position 0 on"),
        (lambda d: d.isel(trajectory=0), "lacks the dimensions .'trajectory'. of the truth"),
        (lambda d: d.drop_vars("trajectory"), "the forecast's dimension 'trajectory' has no coordinate"),
    ],
)
def test_a_forecast_that_does_not_match_is_refused(
    make: Make, rng: np.random.Generator, change: Callable[[xr.Dataset], xr.Dataset], message: str
) -> None:
    forecast, truth = pair(make, rng)
    with pytest.raises(DataError, match=message):
        scores.accumulate(change(forecast), truth)


def test_lead_time_zero_is_refused(make: Make, rng: np.random.Generator) -> None:
    forecast, truth = (data.assign_coords(lead_time=[0.0, 1.0, 2.0, 3.0]) for data in pair(make, rng))
    with pytest.raises(DataError, match="lead_time must be positive"):
        scores.accumulate(forecast, truth)
