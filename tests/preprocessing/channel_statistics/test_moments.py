import json

import numpy as np
import pytest

from pelagos.preprocessing.channel_statistics.moments import (
    Moments,
    merge_moments,
    moments_of,
    tendency_moments_of,
)


def test_moments_are_those_of_the_values() -> None:
    x_NCHW = np.random.default_rng(0).normal(3, 2, (40, 3, 9, 7)).astype(np.float32)
    found, exact = moments_of(x_NCHW), x_NCHW.astype(np.float64)
    assert found.count.tolist() == [40 * 63] * 3
    assert found.mean == pytest.approx(exact.mean((0, 2, 3)), rel=1e-13)
    assert found.variance == pytest.approx(exact.var((0, 2, 3)), rel=1e-13)
    assert found.minimum.tolist() == exact.min((0, 2, 3)).tolist()
    assert found.maximum.tolist() == exact.max((0, 2, 3)).tolist()


def test_large_means_do_not_drown_small_deviations() -> None:
    x_NCHW = (1e5 + np.arange(1000) % 2).astype(np.float32).reshape(1000, 1, 1, 1)
    assert moments_of(x_NCHW).variance[0] == pytest.approx(0.25, rel=1e-12)


def test_merging_slabs_equals_the_whole() -> None:
    x_NCHW = np.random.default_rng(0).normal(size=(50, 2, 4, 4)).astype(np.float32)
    pieces = merge_moments((moments_of(x_NCHW[k : k + 7]) for k in range(0, 50, 7)), 2)
    whole = moments_of(x_NCHW)
    assert pieces.count.tolist() == whole.count.tolist()
    assert pieces.mean == pytest.approx(whole.mean, rel=1e-12)
    assert pieces.m2 == pytest.approx(whole.m2, rel=1e-12)


def test_merging_with_nothing_changes_nothing() -> None:
    found = moments_of(np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype(np.float32))
    for other in (found.merge(Moments.none(2)), Moments.none(2).merge(found)):
        assert other.to_json() == found.to_json()


def test_missing_values_do_not_count() -> None:
    # 1, 2, 3, 4 and NaN: the mean is 2.5 and the variance 1.25; of nothing but NaN there is nothing.
    x_NCHW = np.array([[1, 0], [2, 0], [np.nan, 0], [3, 0], [4, 0]], np.float32)[:, :, None, None]
    x_NCHW[:, 1] = np.nan
    found = moments_of(x_NCHW)
    assert found.count.tolist() == [4, 0]
    assert found.mean.tolist() == [2.5, 0]
    assert found.variance.tolist() == [1.25, 0]
    assert (found.minimum[0], found.maximum[0]) == (1, 4)
    assert found.constant(found.magnitude).tolist() == [False, True]


def test_tendencies_are_differences_of_neighbours() -> None:
    t = np.arange(6, dtype=np.float32)
    x_NCHW = np.stack([t**2, 3 * t], axis=1)[:, :, None, None]
    found = tendency_moments_of(x_NCHW)
    assert found.count.tolist() == [5, 5]
    assert found.mean.tolist() == [5, 3]
    assert found.variance.tolist() == [8, 0]
    assert tendency_moments_of(x_NCHW[:1]).count.tolist() == [0, 0]


def test_json_is_exact() -> None:
    found = moments_of(np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype(np.float32))
    again = Moments.from_json(json.loads(json.dumps(found.to_json())))
    assert again.mean.tobytes() == found.mean.tobytes()
    empty = Moments.from_json(json.loads(json.dumps(Moments.none(2).to_json())))
    assert empty.minimum.tolist() == [np.inf, np.inf]
