from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.evaluation.conventions import score_reduction
from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_definition import ScoreDefinition
from pelagos.evaluation.conventions.score_reduction import (
    compute_estimate,
    compute_score,
    over_samples,
    score_by_sample,
)
from pelagos.evaluation.inference.resampling import blocks_of, draw_counts
from pelagos.preprocessing.errors import DataError

Array = NDArray[np.float64]
Gather = Callable[..., SampleStatistics]


def once(statistics: SampleStatistics) -> Array:
    return np.ones((1, len(statistics.arrays["weight"])))


@pytest.mark.parametrize("how", ["mean", "median", "max"])
def test_counts_stand_for_samples_repeated(how: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(9, 4))
    values[2, 1], values[5, 0] = np.nan, np.inf
    counts = rng.integers(0, 4, (20, 9)).astype(np.float64)
    found = over_samples(values, counts, how)
    numpy = getattr(np, f"nan{how}")
    for row, count in zip(found, counts, strict=True):
        np.testing.assert_allclose(row, numpy(np.repeat(values, count.astype(int), axis=0), axis=0))


def test_a_median_bears_failures_until_they_are_half(gather: Gather, fields: tuple[Array, Array]) -> None:
    p, t = fields
    p = p.copy()
    definition = ScoreDefinition(name="x", formula="relative_l1", samples="median")
    p[:3, -1] = np.nan
    score = compute_score(definition, gather(p, t), np.ones((1, 7))).estimate()
    assert np.isfinite(score.value)
    assert (score.n, score.failed) == (7, 3)
    p[3, -1] = np.nan
    score = compute_score(definition, gather(p, t), np.ones((1, 7))).estimate()
    assert score.value == np.inf
    assert score.failed == 4


@pytest.mark.parametrize(
    "formula", ["rmse", "bias", "mean_rmse", "max_error", "boundary_rmse", "fourier_rmse", "vrmse"]
)
@pytest.mark.parametrize("pool", [True, False])
def test_one_failed_forecast_makes_every_mean_infinite(
    gather: Gather, fields: tuple[Array, Array], formula: str, pool: bool
) -> None:
    p, t = fields[0].copy(), fields[1]
    p[4, 2, 1, 0, 3] = np.nan  # on an edge, where all of them look
    statistics = gather(p, t)
    definition = ScoreDefinition(name="x", formula=formula, pool_samples=pool, variables="each")
    score = compute_score(definition, statistics, once(statistics))
    assert np.isinf(score.by_group[0]).tolist() == [
        [lead == 2 and v == 1 for v in range(3)] for lead in range(4)
    ]
    assert score.group_estimates()["density"].failed == 1
    assert score.group_estimates()["velocity_x"].failed == 0


def test_a_failed_forecast_correlates_with_nothing(gather: Gather, fields: tuple[Array, Array]) -> None:
    p, t = fields[0].copy(), fields[1]
    p[0] = np.nan
    statistics = gather(p, t)
    definition = ScoreDefinition(name="x", formula="pearson")
    assert compute_score(definition, statistics, once(statistics)).value[0] == -np.inf


def test_the_score_of_each_forecast_is_its_root_alone(gather: Gather, fields: tuple[Array, Array]) -> None:
    statistics = gather(*fields)
    definition = ScoreDefinition(name="x", formula="rmse", pool_samples=True)
    rmse = np.sqrt(((fields[0] - fields[1]) ** 2).mean(axis=(-2, -1)))
    np.testing.assert_allclose(score_by_sample(definition, statistics), rmse.mean(axis=(1, 2)), rtol=1e-12)


def test_the_order_of_forecasts_does_not_matter(gather: Gather, fields: tuple[Array, Array]) -> None:
    order = np.random.default_rng(3).permutation(7)
    for samples, pool in (("mean", True), ("mean", False), ("median", False)):
        definition = ScoreDefinition.model_validate(
            {"name": "x", "formula": "vrmse", "samples": samples, "pool_samples": pool}
        )
        values = [
            compute_score(definition, statistics, once(statistics)).value[0]
            for statistics in (gather(*fields), gather(*(one[order] for one in fields)))
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_every_number_has_an_interval_around_it(gather: Gather) -> None:
    rng = np.random.default_rng(4)
    t = rng.normal(size=(30, 3, 1, 6, 6))
    statistics = gather(t + rng.normal(size=t.shape) * rng.uniform(0.5, 2, (30, 1, 1, 1, 1)), t)
    counts = draw_counts(blocks_of(np.arange(30), np.zeros(30, np.int64), 1), 200)
    json = compute_score(ScoreDefinition(name="x", formula="rmse"), statistics, counts).to_json()
    assert json["low"] < json["value"] < json["high"]
    assert json["groups"]["velocity_x"]["low"] < json["value"]
    curve = json["by_lead_time"]
    assert all(
        low < value < high
        for low, value, high in zip(curve["low"], curve["value"], curve["high"], strict=True)
    )
    assert (json["n"], json["failed"], curve["failed"]) == (30, 0, [0, 0, 0])


def test_a_statistic_that_was_not_gathered_is_named() -> None:
    statistics = SampleStatistics({"weight": np.ones((1, 1, 1))}, {"u": "u"}, np.ones(1))
    with pytest.raises(DataError, match="'squared_error' was not gathered; there are weight"):
        compute_score(ScoreDefinition(name="x", formula="rmse"), statistics, np.ones((1, 1)))


def test_what_is_kept_apart_has_no_number_of_the_whole(gather: Gather, fields: tuple[Array, Array]) -> None:
    statistics = gather(*fields)
    apart = ScoreDefinition(name="x", formula="rmse", variables="each", lead_times="each", pool_samples=True)
    found = compute_score(apart, statistics, once(statistics)).to_json()
    assert set(found) == {"meaning", "lead_times", "groups"}
    expected = np.sqrt(((fields[0] - fields[1])[:, :, 1] ** 2).mean(axis=(0, -2, -1)))
    assert set(found["groups"]["density"]) == {"by_lead_time"}
    np.testing.assert_allclose(found["groups"]["density"]["by_lead_time"]["value"], expected, rtol=1e-12)
    assert found["groups"]["density"]["by_lead_time"]["n"] == [7, 7, 7, 7]


def test_the_number_of_many_drawings_does_not_depend_on_how_many_are_in_memory(
    monkeypatch: pytest.MonkeyPatch, gather: Gather, fields: tuple[Array, Array]
) -> None:
    statistics = gather(*fields)
    counts = np.random.default_rng(0).integers(0, 3, (40, 7)).astype(np.float64)
    definition = ScoreDefinition(name="x", formula="relative_l1", samples="median")
    whole = compute_score(definition, statistics, counts).estimate()
    monkeypatch.setattr(score_reduction, "_DRAWN", 3)
    assert compute_estimate(definition, statistics, counts) == whole
