import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from pelagos.evaluation.conventions.convention_scores import ConventionScores
from pelagos.evaluation.conventions.sample_statistics import SampleStatistics
from pelagos.evaluation.conventions.score_convention import CONVENTIONS, ConventionName

Array = NDArray[np.float64]
Gather = Callable[..., SampleStatistics]


@pytest.fixture
def scores(gather: Gather) -> ConventionScores:
    """Of two methods over twelve trajectories; `poor` is a little worse everywhere, and failed once."""
    rng = np.random.default_rng(0)
    t = rng.normal(1, 2, (12, 3, 3, 8, 8))
    error = rng.normal(size=t.shape) * rng.uniform(0.1, 2, (12, 1, 1, 1, 1))
    poor = t + 1.1 * error
    poor[5, 2, 0, 0, 0] = np.nan
    climatology = np.zeros(t.shape[1:])
    statistics = {name: gather(p, t, climatology) for name, p in (("good", t + error), ("poor", poor))}
    return ConventionScores.of(statistics, np.arange(12), np.zeros(12, np.int64), 3)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_scores_all_methods_in_valid_json(
    scores: ConventionScores, name: ConventionName
) -> None:
    found = scores.by_convention(name)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for method in ("good", "poor"):
        values = found["methods"][method]
        assert set(values["scores"]) == {one.name for one in CONVENTIONS[name].scores}
        assert values["without"] == []
        assert set(found["headline"]) <= set(values["scores"])


def test_failures_stand_beside_every_number(scores: ConventionScores) -> None:
    poor = scores.by_convention("pdebench")["methods"]["poor"]["scores"]["nrmse"]
    assert (poor["value"], poor["failed"], poor["n"]) == (None, 1, 12)
    assert poor["by_lead_time"]["failed"] == [0, 0, 1]
    assert poor["groups"]["density"]["failed"] == 0
    assert poor["groups"]["density"]["value"] > 0


def test_the_same_starts_tell_two_methods_apart(scores: ConventionScores) -> None:
    (test,) = scores.by_convention("poseidon")["comparisons"]
    assert (test["first"], test["second"], test["better"]) == ("good", "poor", "lower")
    assert (test["lower"], test["higher"], test["ties"]) == (12, 0, 0)
    assert test["wilcoxon_p"] < 0.001
    # Each interval alone is far wider than the difference.
    found = scores.by_convention("poseidon")["methods"]["good"]["scores"]["mean_over_median_relative_l1"]
    assert found["high"] - found["low"] > abs(test["difference"]["value"] or 0)


def test_metres_and_kelvins_are_not_compared_as_one_number(scores: ConventionScores) -> None:
    assert scores.by_convention("weatherbench2")["comparisons"] == []


def test_what_was_not_gathered_is_said(gather: Gather, fields: tuple[Array, Array]) -> None:
    scores = ConventionScores.of({"model": gather(*fields)}, np.arange(7), np.zeros(7, np.int64), 1)
    found = scores.by_convention("weatherbench2")["methods"]["model"]
    assert found["without"] == ["acc"]
    assert list(found["scores"]) == ["rmse", "mae", "bias"]


def test_the_headline_is_the_median_over_forecasts_and_mean_over_groups(
    gather: Gather, fields: tuple[Array, Array]
) -> None:
    statistics = gather(*fields)
    found = ConventionScores.of({"model": statistics}, np.arange(7), np.zeros(7, np.int64), 1).headline(
        "model"
    )
    p, t = fields
    above, below = np.abs(p - t).sum((-2, -1)), np.abs(t).sum((-2, -1))
    errors = [above[:, :, group].sum(2) / below[:, :, group].sum(2) for group in ([0, 2], [1])]
    curve = np.mean([np.median(one, axis=0) for one in errors], axis=0)
    assert found["one_step"]["value"] == pytest.approx(curve[0], rel=1e-12)
    assert found["rollout"]["value"] == pytest.approx(curve.mean(), rel=1e-12)
    pooled = np.sqrt(((p - t)[:, 0] ** 2).sum() / (t[:, 0] ** 2).sum())
    assert found["pooled_relative_l2"]["value"] == pytest.approx(pooled, rel=1e-12)


def test_intervals_repeat_from_run_to_run(gather: Gather, fields: tuple[Array, Array]) -> None:
    made = [
        ConventionScores.of({"m": gather(*fields)}, np.arange(7), np.zeros(7, np.int64), 1).by_convention(
            "mpp"
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]


def test_few_blocks_are_said(gather: Gather, fields: tuple[Array, Array]) -> None:
    scores = ConventionScores.of({"m": gather(*fields)}, np.arange(7), np.zeros(7, np.int64), 1)
    assert scores.describe_resampling() == {
        "level": 0.95,
        "replicates": 1000,
        "seed": 0,
        "blocks": 7,
        "block": "trajectory",
        "few_blocks": True,
    }
