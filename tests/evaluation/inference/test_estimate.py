import json

import numpy as np
import pytest

from pelagos.evaluation.inference.estimate import Estimate, interval


def test_the_interval_of_a_uniform_sample_leaves_a_fortieth_on_either_side() -> None:
    low, high = interval(np.arange(1.0, 1001.0))
    assert (float(low), float(high)) == (25.0, 975.0)


def test_infinite_replicates_are_the_largest_and_undefined_ones_do_not_count() -> None:
    replicates = np.stack(
        [np.r_[np.full(60, 2.0), np.full(40, np.inf)], np.r_[np.full(99, np.nan), 3.0]], axis=1
    )
    low, high = interval(replicates)
    np.testing.assert_array_equal(low, [2.0, 3.0])
    np.testing.assert_array_equal(high, [np.inf, 3.0])


def test_nothing_resampled_gives_no_interval() -> None:
    low, high = interval(np.empty((0, 2)))
    assert np.isnan([low, high]).all()


def test_an_estimate_is_valid_json_whatever_it_holds() -> None:
    text = json.dumps(Estimate(np.nan, -np.inf, 0.5, 3, 1).to_json(), allow_nan=False)
    assert json.loads(text) == {"value": None, "low": None, "high": 0.5, "n": 3, "failed": 1}


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_level_is_the_share_between_the_ends(level: float) -> None:
    replicates = np.random.default_rng(1).normal(size=4000)
    low, high = interval(replicates, level)
    assert ((replicates >= low) & (replicates <= high)).mean() == pytest.approx(level, abs=1e-3)
