import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pelagos.evaluation.inference.paired_test import PairedTest, paired_test
from pelagos.evaluation.inference.resampling import Blocks, blocks_of, draw_counts
from pelagos.preprocessing.errors import DataError

Array = NDArray[np.float64]


def separate(number: int) -> Blocks:
    return blocks_of(np.arange(number), np.zeros(number, np.int64), 1)


def compared(first: Array, second: Array, blocks: Blocks | None = None) -> PairedTest:
    blocks = blocks or separate(len(first))
    counts = draw_counts(blocks, 500)
    with np.errstate(invalid="ignore"):
        means = [
            np.where(counts > 0, counts * values, 0).sum(axis=1) / counts.sum(axis=1)
            for values in (first, second)
        ]
    return paired_test(first, second, (means[0], means[1]), blocks)


def test_the_same_scores_differ_in_nothing() -> None:
    values = np.random.default_rng(0).normal(size=20)
    found = compared(values, values)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    assert (found.lower, found.higher, found.ties) == (0, 0, 20)
    assert found.bootstrap_p == 1
    assert np.isnan([found.sign_p, found.wilcoxon_p]).all()
    json.dumps(found.to_json(), allow_nan=False)


def test_a_small_but_steady_gain_is_seen_through_a_large_spread_of_starts() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(10, 5, 30)
    found = compared(hard - 0.1 + 0.02 * rng.normal(size=30), hard)
    assert found.difference.high < 0
    assert found.difference.value == pytest.approx(-0.1, abs=0.02)
    assert (found.lower, found.higher) == (30, 0)
    # All thirty coins fell the same way: 2 / 2^30.
    assert found.sign_p == pytest.approx(2.0**-29)
    assert found.wilcoxon_p < 1e-5
    assert found.bootstrap_p < 0.01


def test_p_values_of_separate_starts_are_scipys() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=25), rng.normal(size=25)
    found = compared(first, second)
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(first, second).pvalue)
    wins = int((first < second).sum())
    assert found.sign_p == pytest.approx(stats.binomtest(wins, 25).pvalue)


def test_repeating_every_start_of_a_block_gives_no_more_evidence() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.2, 1, 15), rng.normal(size=15)
    once = compared(first, second)
    blocks = blocks_of(np.repeat(np.arange(15), 4), np.tile(np.arange(4), 15), 1)
    repeated = compared(np.repeat(first, 4), np.repeat(second, 4), blocks)
    assert repeated.wilcoxon_p == pytest.approx(once.wilcoxon_p)
    assert repeated.sign_p == pytest.approx(once.sign_p)
    assert repeated.difference.low == pytest.approx(once.difference.low)


def test_a_failed_forecast_loses_against_any_other_and_ties_with_another_failed_one() -> None:
    first = np.r_[np.inf, np.inf, np.arange(10.0)]
    second = np.r_[np.inf, 1e9, np.arange(10.0)]
    found = compared(first, second)
    assert (found.lower, found.higher, found.ties) == (0, 1, 11)
    assert found.difference.failed == 3


def test_starts_without_a_score_of_one_model_count_for_neither() -> None:
    found = compared(np.r_[np.nan, np.zeros(11)], np.ones(12))
    assert (found.lower, found.difference.n) == (11, 11)


def test_models_with_other_starts_are_refused() -> None:
    with pytest.raises(DataError, match="3 and 2 forecasts"):
        paired_test(np.zeros(3), np.zeros(2), (np.zeros(1), np.zeros(1)), separate(3))
